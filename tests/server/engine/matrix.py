"""Families x kinds: how far the engine's logits lie from transformers' own, neighbours of every kind in the batch.

`python -m tests.server.engine.matrix` prints it; with `gpu`, of a GPU's kernels and recordings on a CPU; with `cuda`,
on a GPU (TRITON_INTERPRET has to be 0 then). float32; each cell is the largest absolute difference over every id of
the vocabulary, every generated id and every request of the cell.
"""

import itertools
import queue
import sys
import tempfile
from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.replays import Best
from server.engine.request import Event, Finished, Request, Sampling, TokenEvent
from server.engine.runner import Outcome
from server.engine.sequence import Sequence
from server.engine.settings import EngineSettings
from server.engine.step import Step
from tests import models
from tests.server.engine import oracle, prompts
from tests.server.engine.gpu.bases import base_on_tape

NEW = 10
LENGTHS = (1, 7, 40)
"""Ids of the inputs: shorter and longer than a window of 24 and than a pass of 32."""
TOLERANCE, RELATIVE = 1e-4, 1e-5
"""The promise: the largest difference of a logit in float32; of the largest logit where that is beyond 10.

transformers' own float32 lies up to 5e-5 from its float64 on these bases, whose logits reach 50.
"""


@dataclass(slots=True)
class Cell:
    """`difference`: the largest of all logits compared; `largest`: the largest logit among them."""

    difference: float = 0.0
    largest: float = 0.0

    def add(self, found: torch.Tensor, wanted: torch.Tensor) -> None:
        self.difference = max(self.difference, float((found - wanted).abs().max()))
        self.largest = max(self.largest, float(wanted.abs().max()))

    @property
    def close(self) -> bool:
        return self.difference <= max(TOLERANCE, RELATIVE * self.largest)


def recorded(engine: Engine) -> dict[Hashable, list[torch.Tensor]]:
    """Where the raw logits [V] that the engine's passes give will be, by request, in order."""
    found: dict[Hashable, list[torch.Tensor]] = defaultdict(list)
    plain = engine._runner._outcomes

    def outcomes(step: Step, wanted: list[Sequence], logits: torch.Tensor, best: Best | None = None) -> list[Outcome]:
        for row, sequence in enumerate(wanted):
            found[sequence.request.id].append(logits[row].clone().cpu())
        return plain(step, wanted, logits, best)

    engine._runner._outcomes = outcomes  # type: ignore[method-assign]
    return found


def requests_of(base: BaseModel) -> list[tuple[str, Request]]:
    """Two soft prompts of each kind, inputs of every length, in turns: no two neighbours are of one kind."""
    serial = itertools.count(1)
    found = []
    for length, variant, kind in itertools.product(LENGTHS, (1, 2), prompts.kinds_of(base)):
        prompt = prompts.of_kind(kind, base.shape, variant)
        number = next(serial)
        ids = prompts.ids_of(kind, prompt, prompts.text(100 + number, length))
        found.append((kind, Request(number, ids, Sampling(NEW, ignore_eos=True), prompt)))
    return found


def few_requests_of(base: BaseModel) -> list[tuple[str, Request]]:
    """A soft prompt in front, one behind text, a deep prefix: for kernels whose interpreter takes its time."""
    return [(kind, request) for kind, request in requests_of(base)[:6] if kind in {"front", "behind", "prefix"}]


def differences(
    base: BaseModel, reference: PreTrainedModel, asked: list[tuple[str, Request]] | None = None
) -> dict[str, Cell]:
    """By kind. All of `requests_of`, or those asked, at once, in passes of 32 ids: long inputs come in chunks."""
    cases = asked or requests_of(base)
    engine = Engine(base, EngineSettings(max_batch=len(cases), max_batch_tokens=32, threads=1))
    sinks: list[queue.SimpleQueue[Event]] = [queue.SimpleQueue() for _ in cases]
    for (_, request), sink in zip(cases, sinks, strict=True):
        engine.submit(request, sink)
    rows = recorded(engine)
    engine.start()
    found = [oracle.events(sink) for sink in sinks]
    engine.close()
    cells: dict[str, Cell] = defaultdict(Cell)
    for (kind, request), events in zip(cases, found, strict=True):
        assert isinstance(events[-1], Finished), events[-1]
        new = [event.id for event in events if isinstance(event, TokenEvent)]
        wanted = oracle.logits_after(reference, request.prompt, (*request.ids, *new[:-1]), NEW)
        assert wanted.argmax(-1).tolist() == new
        cells[kind].add(torch.stack(rows[request.id]), wanted)
    return dict(cells)


def measure(folder: Path, family: str, how: str = "native") -> dict[str, Cell]:
    """`how`: "native", "torch", "gpu" (on a CPU) or "cuda": how what stands between products is computed."""
    models.save(folder, family)
    reference: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if how == "gpu":
        return differences(base_on_tape(folder)[0], reference)
    if how == "cuda":
        return differences(BaseModel.load(folder, device="cuda", dtype="float32"), reference)
    return differences(BaseModel.load(folder, device="cpu", dtype="float32", native=how == "native"), reference)


def lines(cells: dict[str, dict[str, Cell]]) -> Iterator[str]:
    """A table in Markdown; a kind that a family does not serve is a dash."""
    yield f"| family | {' | '.join(prompts.KINDS)} | largest logit |"
    yield "|---" * (2 + len(prompts.KINDS)) + "|"
    for family, row in cells.items():
        found = (f"{row[kind].difference:.1e}" if kind in row else "–" for kind in prompts.KINDS)
        yield f"| {family} | {' | '.join(found)} | {max(cell.largest for cell in row.values()):.0f} |"


def main() -> None:
    torch.set_num_threads(1)
    disable_progress_bar()
    cells = {}
    for family in models.WIDE:
        with tempfile.TemporaryDirectory() as folder:
            cells[family] = measure(Path(folder), family, how=sys.argv[1] if sys.argv[1:] else "native")
    sys.stdout.write("\n".join(lines(cells)) + "\n")
    sys.exit(not all(cell.close for row in cells.values() for cell in row.values()))


if __name__ == "__main__":
    main()
