"""What a comparison came to as one self-contained HTML page: curves, table, errors or samples, nearest tokens, cost.

Knows results and pictures; nothing of how learning works. Without matplotlib and Jinja (the extra `report`) there is no
page.
"""

import io
import resource
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from prompt_store.durable import replace_file
from prompt_store.prompt import PromptFile
from tuning.base import FrozenBase
from tuning.compare import Comparison, Result
from tuning.encoding import encode
from tuning.evaluation import Reading, TextEvaluation
from tuning.files import encoder_of, soft_of
from tuning.metrics import rank
from tuning.scorer import BaseScorer
from tuning.text import TEXT_METHODS

NEAREST, SAMPLES, CONFUSED = 5, 12, 40
"""Tokens a row; samples of free text; labels up to which a confusion matrix is drawn."""
TEMPLATE = "report.html.jinja"


def write_page(path: Path, run: Comparison, report: Mapping[str, Any]) -> Path | None:
    """The page at `path`; None where the extra is not installed."""
    if find_spec("matplotlib") is None or find_spec("jinja2") is None:
        return None
    import jinja2  # noqa: PLC0415 - an extra

    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    best = run.chosen()
    metric = run.settings.metric
    charts = [chart for chart in (_curves(run, metric), _methods(report, metric), _lengths(report, metric)) if chart]
    context = {
        "report": report,
        "best": best,
        "metric": metric,
        "charts": charts,
        "confusion": None,
        "samples": None,
        "nearest": None,
        "peak_mib": peak_bytes() / 2**20,
        "base": run.base.base.name,
    }
    if best.file is not None:
        context |= _looked_at(run, best.file)
    replace_file(path, pages.get_template(TEMPLATE).render(context).encode())
    return path


def peak_bytes() -> int:
    """The most memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _looked_at(run: Comparison, file: PromptFile) -> dict[str, Any]:
    """The kept prompt on held-out rows, and what its rows are nearest to."""
    found: dict[str, Any] = {}
    labels = run.settings.labels
    scorer = BaseScorer(run.base, soft_of(run.base, file))
    if labels is not None and len(labels) <= CONFUSED:
        rows = encode(run.held_out, encoder_of(run.base, file, labels), run.base.context)
        found["confusion"] = confusion(labels, [one.right for one in rows], scorer.likelihoods(rows))
    elif labels is None:
        found["samples"] = _samples(run, file, scorer)
    if file.prompt.kind == "embeddings":
        found["nearest"] = nearest(run.base, file)
    return found


def confusion(labels: Sequence[str], right: Sequence[int], found: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Rows: what was right; columns: what was chosen."""
    counts = [[0] * len(labels) for _ in labels]
    for truth, likelihoods in zip(right, found, strict=True):
        counts[truth][max(range(len(labels)), key=likelihoods.__getitem__)] += 1
    return {"labels": labels, "counts": counts, "most": max(max(row) for row in counts)}


def _samples(run: Comparison, file: PromptFile, scorer: BaseScorer) -> list[dict[str, Any]]:
    reading = Reading(encoder_of(run.base, file, None), run.base.context)
    said = TextEvaluation(run.held_out[:SAMPLES], reading, [run.settings.metric], run.settings.speaking(run.base))
    return [
        {"inputs": one.inputs, "references": one.references, "answer": printable(answer)}
        for one, answer in zip(said.groups, said.answers(scorer), strict=True)
    ]


def printable(text: str) -> str:
    """Without what no page may hold."""
    return "".join(one if one.isprintable() or one in " \n" else "\ufffd" for one in text)


@torch.no_grad()
def nearest(base: FrozenBase, file: PromptFile) -> list[list[tuple[str, float]]]:
    """For each pseudo-token the tokens whose embeddings have the highest cosine with it."""
    weight: torch.Tensor = base.embedding.weight  # type: ignore[assignment]
    table = torch.nn.functional.normalize(weight.float(), dim=-1)
    rows = torch.from_numpy(file.prompt.tensors["embeddings"].float32().copy()).to(table.device)
    best = torch.topk(torch.nn.functional.normalize(rows, dim=-1) @ table.T, NEAREST, dim=-1)
    return [
        [(printable(base.tokenizer.decode([token])), cosine) for token, cosine in zip(ids, cosines, strict=True)]
        for ids, cosines in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _curves(run: Comparison, metric: str) -> str | None:
    """The metric by step of every run that learns; where none does, of the draws and rounds of what searches."""
    curves = [one for one in run.results if len(one.curve) > 1]
    learnt = [one for one in curves if one.cell.method not in TEXT_METHODS] or curves
    if not learnt:
        return None
    searches = learnt[0].cell.method in TEXT_METHODS

    def draw(axes: Any) -> None:
        for one in learnt:
            named = [(point["step"], point["figures"].get(metric, -point["figures"]["loss"])) for point in one.curve]
            axes.plot(*zip(*named, strict=True), label=_named(one), linewidth=1)
        axes.set_xlabel("draw (hard: rows read)" if searches else "step")
        axes.set_ylabel(f"held-out {metric}")
        if len(learnt) <= SAMPLES:
            axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))

    return _picture(draw)


def _named(one: Result) -> str:
    length = f", {one.cell.length}" if one.cell.length else ""
    return f"{one.cell.method}{length}, seed {one.cell.seed}"


def best_rows(table: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Mapping[str, Any]]:
    """Of each method the row of its best length."""
    best: dict[str, Mapping[str, Any]] = {}
    for row in table:
        known = best.setdefault(row["method"], row)
        if rank(metric, row[metric]) > rank(metric, known[metric]):
            best[row["method"]] = row
    return best


def _methods(report: Mapping[str, Any], metric: str) -> str | None:
    """Bars with the deviation over seeds, the best length of each method."""
    best = best_rows(report["table"], metric)
    if len(best) < 2:
        return None

    def draw(axes: Any) -> None:
        heights = [row[metric] for row in best.values()]
        errors = [row["deviation"] or 0.0 for row in best.values()]
        axes.barh(list(best), heights, xerr=errors, color="#4878a8", ecolor="0.3")
        axes.invert_yaxis()
        axes.set_xlabel(f"held-out {metric}, mean over seeds")

    return _picture(draw)


def _lengths(report: Mapping[str, Any], metric: str) -> str | None:
    """The metric against the number of pseudo-tokens, a line for each method."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in report["table"]:
        if row["length"]:
            lines.setdefault(row["method"], []).append(row)
    lines = {method: sorted(rows, key=lambda row: int(row["length"])) for method, rows in lines.items()}
    if max(map(len, lines.values()), default=0) < 2:
        return None

    def draw(axes: Any) -> None:
        for method, rows in lines.items():
            errors = [row["deviation"] or 0.0 for row in rows]
            at = [row["length"] for row in rows]
            axes.errorbar(at, [row[metric] for row in rows], yerr=errors, label=method, marker="o", capsize=3)
        axes.set_xscale("log")
        axes.set_xticks(at, [str(one) for one in at])
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes.set_xlabel("pseudo-tokens")
        axes.set_ylabel(f"held-out {metric}")
        axes.legend(fontsize=7)

    return _picture(draw)


def _picture(draw: Any) -> str:
    """SVG that stands in a page."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    with mpl.rc_context({"svg.hashsalt": "softprompt", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        held = io.StringIO()
        figure.savefig(held, format="svg", metadata={"Date": None})
    drawn = held.getvalue()
    return drawn[drawn.index("<svg") :]
