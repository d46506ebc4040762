"""The rows of a job's files. Knows files and settings; nothing of HTTP and nothing that learns."""

from prompt_store.template import Template
from server.jobs.files import Files
from server.jobs.method import Data
from tuning.defaults import length_for
from tuning.examples import Example, Pace, read
from tuning.learn import hold_out

MAX_ROWS = 200_000


def both(
    data: Data, files: Files, training: str, validation: str | None, pace: Pace | None = None
) -> tuple[list[Example], list[Example]]:
    """(to learn from, to judge by); without a second file a part of the first is held out. `pace`: called at each row.

    Raises DataError, FileNotFoundError, Missing, and PromptError and ValueError for a template that is none.
    """
    fields = Template.parse(data.template, "embeddings", length_for(data.template, None)).fields
    train = _rows(files, training, fields, data.target, "the training file", pace)
    if validation is None:
        return hold_out(train)
    return train, _rows(files, validation, fields, data.target, "the validation file", pace)


def _rows(  # noqa: PLR0913, PLR0917 - which file, and how it is read
    files: Files, name: str, fields: tuple[str, ...], target: str, called: str, pace: Pace | None
) -> list[Example]:
    path = files.path(files.get(name))
    form = "CSV" if path.suffix == ".csv" else "JSON lines"
    return read(path, fields, target, MAX_ROWS, f"{called}, read as {form}", pace)
