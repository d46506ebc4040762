"""Log lines: one JSON object each, with the request id, never with a payload, a path or a key.

Knows no HTTP framework; the guard binds the request id and writes the line of a request. A crowd that finds no room has
few lines and a number.
"""

import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Callable, Hashable
from contextvars import Context
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger

Log = FilteringBoundLogger


def _name_only(_: Any, __: str, event: EventDict) -> EventDict:
    """An exception is logged as its type and where it was raised: its message may hold input."""
    found = event.pop("exc_info", None)
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["where"] = _frames(error)
    return event


def _frames(error: BaseException) -> list[str]:
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}")
        trace = trace.tb_next
    return frames[-8:]


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
    _name_only,
]


class _Lossy:
    """A stream whose reader may be gone or whose disk may be full: lines are lost then, requests are not."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(level: str = "INFO") -> None:
    """Everything, the libraries' lines too, goes to standard error as JSON."""
    stream = cast("TextIO", _Lossy(sys.stderr))
    structlog.configure(
        processors=[*_SHARED, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("python_multipart").setLevel("CRITICAL")  # it repeats headers
    for noisy in ("uvicorn.error", "uvicorn.access", "httpx", "httpx2"):
        logging.getLogger(noisy).setLevel("WARNING")


def logger() -> Log:
    return cast("Log", structlog.get_logger())


MOST, WINDOW = 10, 1.0
"""Lines of one caller and kind, in so many seconds."""
Later = Callable[[float, Callable[[], None]], Any]


class Often:
    """The lines of requests that a crowd is refused by the hundred: of each kind the first few, then how many more."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[Hashable, tuple[tuple[str, str | int], ...]]] = Counter()

    def request(self, later: Later, request_id: str, whose: Hashable, **kind: str | int) -> None:
        """`later` calls, after so many seconds, on the same thread. Each caller's are counted apart: no crowd takes
        somebody else's line."""
        if not self._seen:
            Context().run(later, WINDOW, self.sum_up)  # of no request
        one = whose, tuple(kind.items())
        self._seen[one] += 1
        if self._seen[one] <= MOST:
            logger().info("request", request_id=request_id, **kind)

    def sum_up(self) -> None:
        """How many more there were until now."""
        seen, self._seen = self._seen, Counter()
        for (_, named), count in seen.items():
            if count > MOST:
                logger().info("requests", count=count - MOST, **dict(named))
