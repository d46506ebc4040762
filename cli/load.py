"""A closed loop of requests on a server: so many in flight, each measured as its client sees it.

Knows the client and clocks; not what is asked, nor how figures are shown.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from statistics import fmean, quantiles
from typing import Any

from softprompt_client import AsyncClient, SoftpromptError

PERCENTILES = (50, 90, 99)
Request = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: seconds to its first token and to its end, tokens; or the code of its error."""

    first: float
    whole: float
    tokens: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What was measured within `seconds`."""

    samples: Sequence[Sample]
    seconds: float

    def figures(self) -> dict[str, Any]:
        """Totals and rates; times in milliseconds, of requests that went well."""
        good = [one for one in self.samples if one.error is None]
        tokens = sum(one.tokens for one in good)
        between = [(one.whole - one.first) / (one.tokens - 1) for one in good if one.tokens > 1]
        return {
            "requests": len(self.samples),
            "errors": dict(Counter(one.error for one in self.samples if one.error is not None)),
            "seconds": self.seconds,
            "requests_per_second": len(good) / self.seconds,
            "tokens": tokens,
            "tokens_per_second": tokens / self.seconds,
            "first_token_ms": _spread([one.first for one in good]),
            "token_ms": _spread(between),
            "request_ms": _spread([one.whole for one in good]),
        }


def _spread(seconds: Sequence[float]) -> dict[str, float] | None:
    """Mean, percentiles and the longest; None of nothing."""
    if not seconds:
        return None
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
    found = {"mean": fmean(seconds), **{f"p{one}": cuts[one - 1] for one in PERCENTILES}, "max": max(seconds)}
    return {name: value * 1000 for name, value in found.items()}


async def load(
    client: AsyncClient,
    requests: Iterator[Request],
    concurrency: int,
    seconds: float | None,
    tick: Callable[[int], None],
) -> Load:
    """Every request once, or those that can be begun within so many seconds; each begins as one of its kind ends."""
    samples: list[Sample] = []
    began = time.perf_counter()

    async def ask() -> None:
        for request in requests:
            samples.append(await _measured(client, request))
            tick(1)
            if seconds is not None and time.perf_counter() - began >= seconds:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(ask())
    return Load(samples, time.perf_counter() - began)


async def _measured(client: AsyncClient, request: Request) -> Sample:
    """Times are taken as events arrive; each is a token."""
    asked = time.perf_counter()
    first, tokens = 0.0, 0
    try:
        async with aclosing(client.stream_request(request)) as events:
            async for _ in events:
                first = first or time.perf_counter()
                tokens += 1
    except SoftpromptError as error:
        return Sample(0.0, 0.0, 0, error.code)
    return Sample(first - asked, time.perf_counter() - asked, tokens)
