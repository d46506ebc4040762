"""The rows of a job's files. Knows files and settings; nothing of HTTP and nothing that learns."""

from prompt_store.template import Template
from server.jobs.files import Files
from server.jobs.method import Data
from tuning.defaults import length_for
from tuning.examples import Example, read
from tuning.learn import hold_out

MAX_ROWS = 200_000


def both(data: Data, files: Files, training: str, validation: str | None) -> tuple[list[Example], list[Example]]:
    """(to learn from, to judge by); without a second file a part of the first is held out.

    Raises DataError, FileNotFoundError, Missing, and PromptError and ValueError for a template that is none.
    """
    fields = Template.parse(data.template, "embeddings", length_for(data.template, None)).fields
    train = _rows(files, training, fields, data.target, "the training file")
    if validation is None:
        return hold_out(train)
    return train, _rows(files, validation, fields, data.target, "the validation file")


def _rows(files: Files, name: str, fields: tuple[str, ...], target: str, called: str) -> list[Example]:
    path = files.path(files.get(name))
    form = "CSV" if path.suffix == ".csv" else "JSON lines"
    return read(path, fields, target, MAX_ROWS, f"{called}, read as {form}")
