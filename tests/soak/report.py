"""What a soak found, for people and programs: a page, JSON, and a picture of every figure at every rest.

Knows samples and lines; runs nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.soak.slopes import BOUNDS, MB, Line, Point, kept, lines, not_zero
from tests.soak.state import State

SHOWN: Mapping[str, str] = {
    "memory": "resident memory, MB",
    "fds": "file descriptors",
    "threads": "threads",
    "tasks": "tasks of the event loop",
    "temporary": "temporary files",
    "running": "requests running",
    "waiting": "requests waiting",
    "prompts": "soft prompts in memory",
    "prompt_bytes": "their bytes, MB",
    "text_bytes": "texts kept, MB",
    "versions": "versions in the store (by design)",
    "blobs": "prompt files in the store (by design)",
}
MEGABYTES = {"memory", "prompt_bytes", "text_bytes", "store_bytes"}


def verdict(state: State, bounds: Mapping[str, float] = BOUNDS) -> tuple[dict[str, Line], list[str]]:
    """The lines, and everything that should not be; nothing where the soak was good."""
    found: dict[str, Line] = {}
    broken = list(dict.fromkeys([*state.wrong, *not_zero(state.points)]))
    try:
        found = lines(state.points, state.plan.requests, bounds)
    except ValueError as error:
        if state.over:
            broken.append(str(error))
    for name, one in found.items():
        if not one.held:
            broken.append(f"{name} grew by {_figure(name, one.growth)}, and {_figure(name, one.bound)} is the bound")
    return found, broken


def write(state: State, machine: Mapping[str, Any], out: Path, bounds: Mapping[str, float] = BOUNDS) -> list[str]:
    """soak.json, soak.md and soak.svg; what was broken."""
    found, broken = verdict(state, bounds)
    out.mkdir(parents=True, exist_ok=True)
    (out / "soak.json").write_text(json.dumps(_data(state, machine, found, broken)) + "\n", encoding="utf-8")
    (out / "soak.md").write_text(page(state, machine, found, broken), encoding="utf-8")
    picture(state, found, out / "soak.svg")
    return broken


def _data(state: State, machine: Mapping[str, Any], found: Mapping[str, Line], broken: list[str]) -> dict[str, Any]:
    points = state.points
    return {
        "machine": machine,
        "requests": state.done,
        "seconds": round(state.seconds, 1),
        "starts": state.starts,
        "broken": broken,
        "slopes": {
            name: {"growth": one.growth, "requests": one.requests, "per_10000": one.slope, "bound": one.bound}
            for name, one in found.items()
        },
        "outcomes": dict(sorted(state.outcomes.items())),
        "after": [point.requests for point in points],
        "process": [point.process for point in points],
        "samples": {name: [point.values[name] for point in points] for name in (points[0].values if points else {})},
    }


def page(state: State, machine: Mapping[str, Any], found: Mapping[str, Line], broken: list[str]) -> str:
    """The same for people."""
    rate = state.done / state.seconds if state.seconds else 0.0
    where = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['torch']}"
    breaks = [f"after {done:,}" for done, _ in state.starts[1:]]
    commits = ", ".join(dict.fromkeys(commit for _, commit in state.starts))
    grown = [
        f"| {SHOWN[name].partition(',')[0]} | {_figure(name, one.growth)} | {_figure(name, one.slope)} "
        f"| {_figure(name, one.bound)} | {'yes' if one.held else '**no**'} |"
        for name, one in found.items()
    ]
    return "\n".join(
        [
            "# Soak",
            "",
            f"{state.done:,} of {state.plan.requests:,} requests by {state.plan.clients} clients at once, "
            f"{rate:.1f} a second; servers: {len(state.starts)}"
            + (f", started anew {', '.join(breaks)}" if breaks else "")
            + f". {where}, commit {commits}. What is asked: [README](../README.md).",
            "",
            "![every figure at every rest](soak.svg)",
            "",
            "| over the second half | growth | a 10,000 requests | bound on the growth | held |",
            "|---|---|---|---|---|",
            *grown,
            "",
            *([f"- **broken**: {one}" for one in broken] or ["Nothing was broken."]),
            "",
            *_by_design(state),
            "",
            "| request: its end | times |",
            "|---|---|",
            *(f"| {how} | {times:,} |" for how, times in sorted(state.outcomes.items())),
            "",
            f"`{machine['command']}`",
            "",
        ]
    )


def _by_design(state: State) -> list[str]:
    if not state.points:
        return []
    first, last = state.points[0].values, state.points[-1].values
    told = (f"{last[name] - first[name]:,.0f} {name}" for name in ("versions", "blobs"))
    size = (last["store_bytes"] - first["store_bytes"]) / MB
    return [f"The store grew by design, history is kept: {', '.join(told)}, {size:.1f} MB."]


def picture(state: State, found: Mapping[str, Line], file: Path) -> None:
    """SVG: a small chart a figure. A dashed line is a server that was started anew; grey points count for no slope."""
    with mpl.rc_context({"svg.hashsalt": "softprompt", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(12, 9), layout="constrained")
        figure.suptitle(f"{state.done:,} requests; a point is the server at rest; dashed: started anew")
        counted = {id(point) for point in kept(state.points, state.plan.requests)}
        for index, (name, title) in enumerate(SHOWN.items()):
            axes = figure.add_subplot(4, 3, index + 1)
            _points(axes, name, state.points, counted)
            for done, _ in state.starts[1:]:
                axes.axvline(done / 1000, color="0.4", linestyle="--", linewidth=0.8)
            line = found.get(name)
            axes.set_title(title + ("" if line is None else f": {_figure(name, line.slope)} a 10,000"), fontsize=8)
        figure.savefig(file, format="svg", metadata={"Date": None})


def _points(axes: Axes, name: str, points: list[Point], counted: set[int]) -> None:
    scale = MB if name in MEGABYTES else 1.0
    for chosen, color in ((False, "0.7"), (True, "C0")):
        own = [point for point in points if (id(point) in counted) == chosen]
        axes.plot([p.requests / 1000 for p in own], [p.values[name] / scale for p in own], ".", color=color, ms=3)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("thousand requests")
    axes.spines[["top", "right"]].set_visible(False)


def _figure(name: str, value: float) -> str:
    return f"{value / MB:+.2f} MB" if name in MEGABYTES else f"{value:+.2f}"
