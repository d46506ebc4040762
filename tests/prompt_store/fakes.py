"""Faults that the real disk does not produce on request, and a recorder of what was asked of it."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prompt_store.objects import MemoryObjects, Unconfirmed

CALLS = ("open", "write", "fsync", "link", "mkdir", "unlink")


class Disk:
    """Every call that changes the disk below `root`, in order, as (call, path); one of them may be made to fail."""

    def __init__(self, root: Path) -> None:
        """Nothing is recorded yet."""
        self.root = root
        self.calls: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], int] = lambda _call, _path: 0

    def record(self, call: str, path: str | Path) -> None:
        """Note a call, or fail it with the errno that `fail` gives."""
        try:
            below = str(Path(path).relative_to(self.root))
        except ValueError:
            return
        self.calls.append((call, below))
        number = self.fail(call, below)
        if number:
            raise OSError(number, os.strerror(number))


@contextmanager
def disk(root: Path) -> Iterator[Disk]:
    """Record what the code under test asks of the disk below `root`; every call is really made."""
    made = Disk(root)
    real: dict[str, Callable[..., Any]] = {call: getattr(os, call) for call in CALLS}
    with pytest.MonkeyPatch.context() as patch:

        def of_path(call: str) -> Callable[..., Any]:
            def run(path: Any, *rest: Any, **options: Any) -> Any:
                made.record(call, path)
                return real[call](path, *rest, **options)

            return run

        def of_file(call: str) -> Callable[..., Any]:
            def run(file: int, *rest: Any) -> Any:
                made.record(call, Path(f"/proc/self/fd/{file}").readlink())
                return real[call](file, *rest)

            return run

        def link(source: Any, target: Any) -> None:
            made.record("link", target)
            real["link"](source, target)

        for call in ("open", "mkdir", "unlink"):
            patch.setattr(os, call, of_path(call))
        for call in ("write", "fsync"):
            patch.setattr(os, call, of_file(call))
        patch.setattr(os, "link", link)
        yield made


class Racing(MemoryObjects):
    """Lets someone else act just before a manifest is created: the moment between looking and writing."""

    def __init__(self) -> None:
        """Nobody acts until `rival` is set."""
        super().__init__()
        self.rival: Callable[[], object] | None = None

    def create(self, key: str, data: bytes) -> None:
        """The rival goes first, once."""
        if key.startswith("tasks/") and self.rival is not None:
            rival, self.rival = self.rival, None
            rival()
        super().create(key, data)


class Forgetful(MemoryObjects):
    """Keeps an object but loses the answer, as a network or a failing fsync may."""

    def __init__(self) -> None:
        """Every answer arrives until `lose` names a folder."""
        super().__init__()
        self.lose: str | None = None

    def create(self, key: str, data: bytes) -> None:
        """Kept, and yet not confirmed."""
        super().create(key, data)
        if self.lose is not None and key.startswith(self.lose):
            self.lose = None
            raise Unconfirmed(key)


class Clocked(MemoryObjects):
    """A place whose clock a test sets."""

    def __init__(self) -> None:
        """At some moment."""
        super().__init__()
        self.clock = 1e9

    def now(self) -> float:
        """As a real clock, it is a little later each time."""
        self.clock += 0.001
        return self.clock


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A temporary file of a writer that is alive."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(file)
