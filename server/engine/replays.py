"""Decode passes that are recorded once and played again: on a GPU a small pass costs its launches, not its arithmetic.

A recording has a number of rows that never changes, so there is one for every few; rows that nobody fills have no slot.
Everything else, lengths too, is read from tensors that stay where they are. Knows the base and slots; no requests.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from server.engine.attention import PackedAttention
from server.engine.kernels import PointedKernels, Rows
from server.engine.model import BaseModel
from server.engine.plan import Plan
from server.engine.sides import POINTS, PointedSide

log = logging.getLogger(__name__)

STEP, WIDE, MOST = 8, 64, 256
"""There is a recording for every eighth number of rows from 8 to 64 on, then for every power of two; none beyond 256:
each keeps logits of its own, half a megabyte a row of a large vocabulary."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2**-5, torch.float16: 2**-8}
"""Largest difference between a pass and its recording, as a share of the largest logit."""

Best = tuple[torch.Tensor, torch.Tensor]
"""Of each row the largest logit, NaN where there is one, and its id."""


class Recorder(Protocol):
    """See `server.engine.gpu.graphs.CudaRecorder`."""

    def __call__(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """What `work` gave, and a call that makes the same tensors anew from what its inputs hold by then."""


@dataclass(frozen=True, slots=True)
class Decode:
    """One sequence's next id to be fed, its position, its slot, and the `points` of its adapter if it has one."""

    id: int
    position: int
    slot: int
    points: tuple[int, ...] | None = None


NOBODY = Decode(0, 0, -1)
NONE = (0,) * POINTS


@dataclass(frozen=True, slots=True)
class Recording:
    """`inputs` int64 [3 + POINTS, rows]: ids, positions, slots, adapters. Playing it leaves what each row came to:

    logits [rows, V], and the best of every row. `staged`: the same size, where a GPU can take it from by itself.
    `work` is what was recorded: it holds the tensors that a recording reads and does not hold itself.
    """

    inputs: torch.Tensor
    staged: torch.Tensor
    logits: torch.Tensor
    best: Best
    play: Callable[[], None]
    work: Callable[[], Any]

    def __len__(self) -> int:
        return self.inputs.shape[1]


class Replays:
    """Recordings of passes of one base. Raises RuntimeError where passes cannot be recorded.

    `most`: rows of the largest.
    """

    @torch.inference_mode()
    def __init__(self, base: BaseModel, attention: PackedAttention, record: Recorder, most: int) -> None:
        self._base = base
        self._attention = attention
        self._record = record
        self.most = min(most, MOST)
        able = base.kernels if isinstance(base.kernels, PointedKernels) and base.no_adapters is None else None
        rows = sizes(self.most)[::-1]  # the largest makes the room
        self._plain = [self._recorded(count, None) for count in rows][::-1]
        self._adapted = [self._recorded(count, able) for count in rows if able][::-1]

    def run(self, decodes: Sequence[Decode]) -> tuple[torch.Tensor, Best]:
        """Logits [n, V] of so many sequences, and each row's best: valid until the next pass."""
        count = len(decodes)
        fitting = self._adapted if any(one.points for one in decodes) else self._plain
        recording = next(one for one in fitting if len(one) >= count)
        filled = [*decodes, *[NOBODY] * (len(recording) - count)]
        told = [(one.id, one.position, one.slot, *(one.points or NONE)) for one in filled]
        recording.staged.copy_(torch.tensor(told).T)  # the last pass took its own: its ids have been looked at since
        recording.inputs.copy_(recording.staged, non_blocking=True)
        recording.play()
        largest, best = recording.best
        return recording.logits[:count], (largest[:count], best[:count])

    def _recorded(self, rows: int, pointed: PointedKernels | None) -> Recording:
        base, attention, on = self._base, self._attention, self._base.device
        inputs = torch.zeros(3 + POINTS, rows, dtype=torch.int64, device=on)
        inputs[2] = torch.arange(rows)  # their slots' first positions hold nothing that anybody reads
        ids, positions, slots = inputs[:3]
        every = torch.arange(rows, device=on)
        stands = Rows(slots, positions, rows)
        sides = [] if pointed is None else [PointedSide(pointed, every, inputs[3:], base.shape.kv_heads)]
        plan = Plan(rows, slots, positions, rows, 0, dense=False, segments=[], sides=sides, stands=stands)

        def work() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # not of `self`, which would keep itself then
            attention.begin(plan)
            logits = base.logits(base.embed(ids[None]), positions[None], every)
            return logits, *base.best(logits)

        base.attend_with(attention, attention.name)
        (logits, largest, best), play = self._record(work)
        staged = torch.zeros(inputs.shape, dtype=torch.int64, pin_memory=on.type == "cuda")
        found = Recording(inputs, staged, logits, (largest, best), play, work)
        ids.copy_(torch.arange(1, rows + 1) % base.shape.vocabulary)
        play()
        _compare(logits.clone(), work()[0])
        return found


def sizes(most: int) -> list[int]:
    """Rows of the recordings that passes of up to `most` rows want, ascending."""
    few = [1, 2, 4, *range(STEP, WIDE, STEP)]
    many = [WIDE << doubled for doubled in range(MOST.bit_length())]
    return [rows for rows in (*few, *many) if rows < most] + [most]


def _compare(played: torch.Tensor, run: torch.Tensor) -> None:
    """Whether a recording gives what its pass gives, for ids that it was not made with. Raises RuntimeError."""
    furthest = float((played.float() - run.float()).abs().max())
    if not furthest <= TOLERANCE[run.dtype] * float(run.float().abs().max()):
        raise RuntimeError(f"a recorded pass differs by {furthest:.2g} from the pass itself")


def replays(base: BaseModel, attention: PackedAttention, most: int) -> Replays | None:
    """Where the base has a recorder; None, and a line in the log, where its passes cannot be recorded."""
    if base.recorder is None:
        return None
    try:
        return Replays(base, attention, base.recorder(), min(most, len(attention.kv.layers[0][0])))
    except Exception as error:  # noqa: BLE001 - whatever torch, Triton or the driver say: serving goes on without
        said = str(error)  # a log may keep what it is given, and an exception keeps its frames' tensors
        log.warning("decode passes are not recorded, and run as they are: %s", said)
    return None
