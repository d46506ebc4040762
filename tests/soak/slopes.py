"""Whether a server stays as it is: a straight line through the second half of a soak, and how much may lie under it.

Knows samples by name and number of requests; no server. A server that was started in between has a level of its own,
so lines share a slope and not a height; what a start takes to warm up is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tests.soak.sample import Sample

MB = 1e6
BOUNDS: Mapping[str, float] = {
    "memory": 8 * MB,
    "fds": 2.0,
    "threads": 4.0,
    "tasks": 2.0,
}
"""By how much each may grow over the second half, whatever its length. Pools of threads are filled when needed."""
ZERO = ("running", "waiting", "temporary")
"""What is nothing at every rest."""
WARM = 0.1
"""Share of all requests after a start that is left out."""
FEWEST = 4
"""Samples that a line wants."""


@dataclass(frozen=True, slots=True)
class Line:
    """`growth`: the slope times the requests that it was fitted over, `requests`."""

    growth: float
    requests: float
    bound: float

    @property
    def slope(self) -> float:
        """A 10,000 requests."""
        return 1e4 * self.growth / self.requests if self.requests else 0.0

    @property
    def held(self) -> bool:
        return self.growth <= self.bound


@dataclass(frozen=True, slots=True)
class Point:
    """A sample after `requests` in all, of the `process`-th server."""

    process: int
    requests: int
    values: Sample


def kept(points: Sequence[Point], whole: int) -> list[Point]:
    """Those of the second half of `whole` requests, by servers that are warm."""
    began = {point.process: point.requests for point in reversed(points)}
    last = points[-1].requests if points else 0
    return [
        point
        for point in points
        if point.requests >= last / 2
        and (not began[point.process] or point.requests - began[point.process] >= WARM * whole)
    ]


def line(points: Sequence[Point], name: str, bound: float) -> Line:
    """Least squares with a level for each server. Raises ValueError for too few samples."""
    if len(points) < FEWEST:
        raise ValueError(f"{len(points)} samples of warm servers in the second half are too few for a line")
    above = below = 0.0
    for process in {point.process for point in points}:
        own = [point for point in points if point.process == process]
        middle, level = fmean(p.requests for p in own), fmean(p.values[name] for p in own)
        above += sum((p.requests - middle) * (p.values[name] - level) for p in own)
        below += sum((p.requests - middle) ** 2 for p in own)
    span = points[-1].requests - points[0].requests
    return Line(above / below * span if below else 0.0, span, bound)


def lines(points: Sequence[Point], whole: int, bounds: Mapping[str, float] = BOUNDS) -> dict[str, Line]:
    """One a bound."""
    warm = kept(points, whole)
    return {name: line(warm, name, bound) for name, bound in bounds.items()}


def not_zero(points: Sequence[Point]) -> list[str]:
    """What was something at some rest, said."""
    return [
        f"{name} was {point.values[name]:g} at rest after {point.requests:,} requests"
        for point in points
        for name in ZERO
        if point.values[name]
    ]
