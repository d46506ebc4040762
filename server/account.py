"""What is told of a request at its end, by its log line and its span: gathered while it runs, by whoever learns it.

Knows counts, seconds, codes, and names of tasks that are there; never a text. Calls go down as everywhere: the guard
opens the account of a request, and what is called below it finds the account in its context. Outside of a request
there is none, and what is told is kept nowhere.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

Headers = Iterable[tuple[bytes, bytes]]
MIXED = "mixed"
"""In place of a task, a reason or a code where a request of several items has several."""


@dataclass(slots=True)
class Account:
    """Of one HTTP request, which may hold many items. Moments are seconds of `time.monotonic()`.

    `tasks`: names and versions. `queued`: the longest wait for the batch. `first` and `last`: its tokens' moments.
    """

    began: float = 0.0
    method: str = ""
    request_id: str = ""
    server: tuple[str, int | None] | None = None
    scheme: str = "http"
    route: str = "none"
    status: int = 0
    tasks: set[tuple[str, int | None]] = field(default_factory=set)
    items: int = 0
    prompt_tokens: int = 0
    soft_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    streamed: bool = False
    queued: float | None = None
    first: float | None = None
    last: float | None = None

    def asked(self, task: str, version: int | None) -> None:
        """A version that is there: what a client merely names is input."""
        self.tasks.add((task, version))

    def read(self, prompt: int, soft: int, cached: int) -> None:
        """One item's tokens before what is generated or scored."""
        self.items += 1
        self.prompt_tokens += prompt
        self.soft_tokens += soft
        self.cached_tokens += cached

    def token(self, now: float) -> None:
        """One more was generated."""
        self.completion_tokens += 1
        self.first = self.first or now
        self.last = now

    def ended(self, queued: float, reasons: Iterable[str]) -> None:
        """A generation, choice by choice."""
        self.queued = max(queued, self.queued or 0.0)
        self.reasons.update(reasons)

    def failed(self, code: str) -> None:
        self.codes[code] += 1

    @property
    def task(self) -> str | None:
        return _only({name for name, _ in self.tasks})

    @property
    def version(self) -> int | None:
        return next(iter(self.tasks))[1] if len(self.tasks) == 1 else None

    @property
    def code(self) -> str | None:
        return _only(self.codes)

    def said(self) -> dict[str, Any]:
        """The fields of the log line that have something to say."""
        tokens = ("prompt_tokens", "soft_tokens", "cached_tokens", "completion_tokens")
        found = {
            "task": self.task,
            "version": self.version,
            "items": self.items if self.items > 1 else None,
            **({name: getattr(self, name) for name in tokens} if self.items or self.completion_tokens else {}),
            "finish_reason": _only(self.reasons),
            "code": self.code,
            "queue_ms": _milliseconds(self.queued),
            "first_token_ms": None if self.first is None else _milliseconds(self.first - self.began),
        }
        return {name: value for name, value in found.items() if value is not None}


def _only(names: Iterable[str]) -> str | None:
    found = list(names)
    return MIXED if len(found) > 1 else next(iter(found), None)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


_CURRENT: ContextVar[Account | None] = ContextVar("account", default=None)


def account() -> Account:
    """Of the request that is worked for, or one that nobody will read."""
    return _CURRENT.get() or Account()


@contextmanager
def opened(new: Account) -> Iterator[None]:
    """`account()` is `new` inside, and in every task that is begun there."""
    token = _CURRENT.set(new)
    try:
        yield
    finally:
        _CURRENT.reset(token)


class Trace(Protocol):
    """Follows one request from its headers to what its account says at the end."""

    def __call__(self, account: Account, headers: Headers, /) -> AbstractContextManager[None]: ...


@contextmanager
def untraced(_: Account, __: Headers, /) -> Iterator[None]:
    """The `Trace` of who keeps none."""
    yield
