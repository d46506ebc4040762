"""What weights of 8 bits cost in quality: bits per byte of text that the embedded base has not learnt from.

The same text through float32, bfloat16 and both with 8 bits. Needs the data sets (README), not the workload.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.order import Launch, Order
from benchmarks.report import Chart, charted, gathered
from benchmarks.workload import workload
from pretraining.bits import nats
from server.config import EMBEDDED_BASE
from server.engine.model import BaseModel
from tuning.datasets import DATA_SETS
from tuning.splits import split

REPEATS = 1
CONTEXT = 512
BAR = 1.005
"""Of float32's bits per byte: what 8 bits may cost at most (docs/decisions/0016)."""
FORMS: Mapping[str, Mapping[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "float32, 8 bits": {"dtype": "float32", "weights": "int8"},
    "bfloat16, 8 bits": {"dtype": "bfloat16", "weights": "int8"},
}


@dataclass(frozen=True, slots=True)
class Plan:
    """The base in one of `FORMS`, on at most `characters` of each corpus' held-out part."""

    form: str
    data: str
    characters: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder with all data sets")
    parser.add_argument("--characters", type=int, default=400_000, help="of each corpus, whole texts, at most")


def launches(given: argparse.Namespace, _turn: int) -> list[Launch]:
    """A process for each form. Raises SystemExit without the data."""
    if not given.data.is_dir():
        raise SystemExit(f"{given.data}: no data sets here; --data says where they are")
    chosen = workload(tiny=given.tiny)
    characters = 2_000 if given.tiny else given.characters
    plans = [Plan(form, str(given.data.absolute()), characters) for form in FORMS]
    return [Launch(plan.form, Order.of(given, chosen, plan).to_json()) for plan in plans]


def measure(order: Order) -> dict[str, Any]:
    """Bits per byte by corpus."""
    plan = Plan(**order.plan)
    base = BaseModel.load(EMBEDDED_BASE, device="cpu", **FORMS[plan.form])
    tokenizer = Tokenizer.from_file(str(EMBEDDED_BASE / "tokenizer.json"))
    corpora = [name for name, data in DATA_SETS.items() if data.corpus]
    return {"form": plan.form, "bits": {name: _bits(base, tokenizer, name, plan) for name in corpora}}


def _bits(base: BaseModel, tokenizer: Tokenizer, corpus: str, plan: Plan) -> float:
    """Whole texts from the beginning of the held-out part, each read on its own."""
    texts: list[str] = []
    for row in split(Path(plan.data), corpus).test:
        if sum(map(len, texts)) >= plan.characters:
            break
        texts.append(row["text"])
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    # one text at a time: the engine's layers take packed rows, not padded ones
    total = nats(base.model, encoded, CONTEXT, batch=1)
    return total / math.log(2) / sum(len(text.encode()) for text in texts)


def charts(runs: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Each corpus, each form beside float32."""
    found = gathered((run["form"], corpus, bits) for run in runs for corpus, bits in run["bits"].items())
    return [
        charted(
            "bits per byte",
            "corpus",
            found,
            best=min,
            ratio="of float32's",
            reference=lambda _, column: ("float32", column),
        )
    ]


def notes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The largest cost of 8 bits, and whether it is within the bar."""
    exact = next(run["bits"] for run in runs if run["form"] == "float32")
    coarse = [run["bits"] for run in runs if run["form"].endswith("8 bits")]
    worst = max(bits[corpus] / exact[corpus] for bits in coarse for corpus in exact)
    return {
        "bits per byte of 8 bits over float32's, the worst": round(worst, 5),
        "within the bar of 1.005": worst <= BAR,
    }
