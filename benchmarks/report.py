"""What the measurements say: the best of the repeats, ratios to the engine, a table, a JSON file and a picture.

Knows results as JSON; runs nothing.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

LABELS = {
    "engine": "softprompt engine",
    "static": "transformers generate, static mixed batch",
    "peft": "PEFT set_adapter per task",
    "sketch": "sketch of one file",
}


def best(runs: Iterable[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """peer -> concurrency -> output tokens per second, the best of the repeats."""
    found: dict[str, dict[int, float]] = {}
    for run in runs:
        rates = found.setdefault(run["peer"], {})
        for timing in run["timings"]:
            concurrency = timing["concurrency"]
            rates[concurrency] = max(rates.get(concurrency, 0.0), timing["tokens_per_second"])
    return found


def ratios(rates: dict[str, dict[int, float]]) -> dict[str, dict[int, float]]:
    """peer -> concurrency -> how many times its rate the engine's is, from the same run."""
    engine = rates.get("engine", {})
    return {
        peer: {concurrency: engine[concurrency] / rate for concurrency, rate in row.items() if concurrency in engine}
        for peer, row in rates.items()
        if peer != "engine"
    }


def agreement(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """peer -> share of requests that it answers first with the same id as the engine. bfloat16, so not all."""
    firsts = {run["peer"]: {t["concurrency"]: t["first_ids"] for t in run["timings"]} for run in runs}
    engine = firsts.get("engine", {})
    shares: dict[str, float] = {}
    for peer, mine in firsts.items():
        pairs = [
            pair
            for concurrency in mine.keys() & engine.keys()
            for pair in zip(mine[concurrency], engine[concurrency], strict=False)
        ]
        if peer != "engine" and pairs:
            shares[peer] = sum(a == b for a, b in pairs) / len(pairs)
    return shares


def table(rates: dict[str, dict[int, float]]) -> str:
    """Markdown: a row per peer, a column per number of requests in flight, the engine's ratio in brackets."""
    columns = sorted({concurrency for row in rates.values() for concurrency in row})
    compared = ratios(rates)
    lines = ["| output tokens/s at | " + " | ".join(map(str, columns)) + " |", "|---" * (len(columns) + 1) + "|"]
    for peer, row in rates.items():
        cells = [
            f"{row[c]:.0f}" + (f" (engine {compared[peer][c]:.2f}x)" if c in compared.get(peer, {}) else "")
            if c in row
            else "-"
            for c in columns
        ]
        lines.append(f"| {LABELS.get(peer, peer)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def caption(machine: dict[str, Any]) -> str:
    """Where and how the figures of a table were measured."""
    versions = ", ".join(f"{package} {machine[package]}" for package in ("torch", "transformers", "peft"))
    preloads = "with preloads" if machine["preloaded"] else "no preloads"
    return (
        f"`{machine['command']}` at commit {machine['commit']}; {machine['cpu']}, {machine['threads']} threads, "
        f"{preloads}; {versions}.\n"
    )


def picture(rates: dict[str, dict[int, float]], file: Path) -> None:
    """SVG: groups of bars, one group per number of requests in flight."""
    columns = sorted({concurrency for row in rates.values() for concurrency in row})
    width = 0.8 / max(len(rates), 1)
    with mpl.rc_context({"svg.hashsalt": "softprompt", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.add_subplot()
        for index, (peer, row) in enumerate(rates.items()):
            places = [place + (index - (len(rates) - 1) / 2) * width for place in range(len(columns))]
            bars = axes.bar(places, [row.get(c, 0.0) for c in columns], width, label=LABELS.get(peer, peer))
            axes.bar_label(bars, fmt=lambda rate: f"{rate:.0f}" if rate else "", fontsize=7)
        axes.set_xticks(range(len(columns)), [str(c) for c in columns])
        axes.set_xlabel("requests in flight")
        axes.set_ylabel("output tokens per second")
        axes.legend(fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, format="svg", metadata={"Date": None})


def write(whole: dict[str, Any], folder: Path, name: str) -> None:
    """`name`.json, `name`.md and `name`.svg in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    rates = best(whole["runs"])
    (folder / f"{name}.md").write_text(table(rates) + "\n" + caption(whole["machine"]), encoding="utf-8")
    picture(rates, folder / f"{name}.svg")
