"""What is published, wherever that is: a running server, or a store without one. Commands know this alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import typer
from typer import Option

from cli.client import asking, fail, hint, note, of_system
from cli.direct import Direct
from cli.stores import is_new, opened
from prompt_store.errors import BaseDamaged
from server.errors import KNOWN, as_fault
from softprompt_client.answers import Changed, Kind, PromptFile, Task, Version

At = Annotated[
    str | None, Option("--store", help="Ask no server: the store itself, a directory or a bucket.", show_default=False)
]


class Published(Protocol):
    """The client's `tasks`, as far as commands use it."""

    def get(self, task: str) -> Task: ...

    def versions(self, task: str) -> list[Version]: ...

    def prompt(self, task: str, number: int) -> PromptFile: ...

    def publish(  # noqa: PLR0913 - one argument per query parameter of an upload
        self,
        task: str,
        source: bytes | Path,
        *,
        template: str | None = None,
        target_delimiter: str | None = None,
        labels: Sequence[str] | None = None,
        description: str | None = None,
        kind: Kind | None = None,
        task_index: int | None = None,
        create_only: bool = False,
    ) -> Changed: ...

    def rollback(self, task: str, number: int) -> Changed: ...

    def delete(self, task: str) -> None: ...

    def list(self, *, kind: Kind | None = None, search: str = "") -> Iterator[Task]: ...


@contextmanager
def published(
    url: str | None, store: str | None, task: str | None = None, *, model: Path | None = None, make: bool = False
) -> Iterator[Published]:
    """The store at `store`, else the server at `url`. What goes wrong inside is told on the screen, with exit code 1.

    `task`: what it is about; `model`: the base's folder, for a store that is to check what is published; `make`: a
    store that is not there yet.
    """
    if store is not None and url is not None:
        raise typer.BadParameter("--store asks no server, so it takes no --url")
    if store is None:
        if model is not None:
            raise typer.BadParameter("--model is for --store: a server has its own")
        with asking(url, task=task) as client:
            yield client.tasks
        return
    with telling(task, store):
        fresh = make and is_new(store)
        found = opened(store, make=make)
        if fresh:
            found.check()
            note(f"a new store was made at {store}")
        yield Direct(found, model)


@contextmanager
def telling(task: str | None = None, store: str | None = None) -> Iterator[None]:
    """What a store refuses, in a line as a server would tell it, with exit code 1."""
    try:
        yield
    except KNOWN as error:
        code = as_fault(error).code
        fail(f"{code}: {error}{hint(code, str(error), task, store)}")
    except OSError as error:
        fail(of_system(error))
    except (BaseDamaged, ValueError) as error:
        fail(str(error))
