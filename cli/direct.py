"""A store without a server, with the methods of the client's `tasks`: what is published goes straight to its place.

No forward pass is run, so what the files are able to do is for a server to say when it loads them.
"""

import logging
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from prompt_store import peft
from prompt_store.base import read_base
from prompt_store.errors import OutcomeUnknown, PromptError, StoreError
from prompt_store.metadata import Kind, Metadata
from prompt_store.prompt import PromptFile, SoftPrompt, build, check_fits, parse
from prompt_store.store import Store
from prompt_store.task import Task, is_task_id
from prompt_store.telling import task_fields, version_fields
from prompt_store.versions import Versions
from server.api.strict_json import loads
from server.config import Settings
from server.errors import Invalid
from softprompt_client import answers

PAGE = 1000
T = TypeVar("T")


class Direct:
    """Raises what the store raises, and Invalid."""

    def __init__(self, store: Store, model: Path | None = None) -> None:
        """`model`: the folder of the base that files are held against; none: only what they say themselves."""
        self._store = store
        # A version that is left out is told by `unreadable`: not by the logger's last resort too.
        logging.getLogger(Versions.__module__).addHandler(logging.NullHandler())
        self._model = model

    def get(self, task: str) -> answers.Task:
        return _told(self._store.current(task))

    def versions(self, task: str) -> list[answers.Version]:
        return [cast("answers.Version", version_fields(version)) for version in self._store.versions(task)]

    def unreadable(self, task: str, listed: list[answers.Version]) -> Iterator[tuple[int, str]]:
        """Versions that `versions` left out, newest first, and what is wrong with each."""
        seen = {version["version"] for version in listed}
        for number in sorted(set(Versions(self._store.objects).numbers(task)) - seen, reverse=True):
            try:
                self._store.get(task, number)
            except StoreError as error:
                yield number, str(error)

    def prompt(self, task: str, number: int) -> answers.PromptFile:
        found = self._store.get(task, number)
        data = self._store.blob(found)
        return answers.PromptFile(number, found.digest or "", data)

    def publish(self, task: str, source: bytes | Path, *, create_only: bool = False, **bare: Any) -> answers.Changed:
        """As the route: `bare` is for a bare PEFT file. `verified` only where the file names the base at hand."""
        if not is_task_id(task):
            raise Invalid(
                "invalid_task_id", "a task id has 1 to 128 of A-Z a-z 0-9 . _ - and starts with one of A-Z a-z 0-9"
            )
        file = self._file(source, {name: value for name, value in bare.items() if value is not None})
        verified = self._fits(file)
        return _changed(
            lambda op_id: self._store.publish(task, file, verified=verified, op_id=op_id, if_none_match=create_only)
        )

    def rollback(self, task: str, number: int) -> answers.Changed:
        return _changed(lambda op_id: self._store.rollback(task, number, op_id))

    def delete(self, task: str) -> None:
        _settled(lambda op_id: self._store.delete(task, op_id))

    def list(self, *, kind: Kind | None = None, search: str = "") -> Iterator[answers.Task]:
        after, more = None, True
        while more:
            page, more = self._store.list(limit=PAGE, after=after, kind=kind, search=search)
            yield from map(_told, page)
            after = page[-1].name if page else None

    def _file(self, source: bytes | Path, bare: dict[str, Any]) -> PromptFile:
        data = source if isinstance(source, bytes) else source.read_bytes()
        if isinstance(source, Path) and source.suffix == ".json":
            _none_of(bare)
            return build(SoftPrompt("text", 0, {}), Metadata.for_text_task(loads(data)))
        if not peft.is_peft(data):
            _none_of(bare)
            return parse(data)
        if self._model is None:
            raise PromptError(
                "wrong_base",
                "a bare PEFT file does not say what its numbers are for: name its base's folder with --model",
            )
        return peft.convert(data, read_base(self._model), **bare)

    def _fits(self, file: PromptFile) -> bool:
        if self._model is None:
            return False
        most = Settings.model_fields["max_norm"].default
        return check_fits(file, read_base(self._model), max_norm=most)


def _none_of(bare: dict[str, Any]) -> None:
    if bare:
        raise Invalid("invalid_request", "--template and its like are for a bare PEFT file: this one has its own")


def _told(task: Task) -> answers.Task:
    """Without `servable` and `resident`: those are for a server to say."""
    return cast("answers.Task", {**task_fields(task), "created": task.created})


def _changed(change: Callable[[str], tuple[Task, bool]]) -> answers.Changed:
    (task, created), op_id = _settled(lambda op_id: (change(op_id), op_id))
    return answers.Changed(_told(task), created, op_id)


def _settled(change: Callable[[str], T]) -> T:
    """An answer that was lost is asked for again, once."""
    op_id = uuid.uuid4().hex
    try:
        return change(op_id)
    except OutcomeUnknown:
        return change(op_id)
