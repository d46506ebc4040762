"""A step that raises: exactly who is at fault fails, and everybody else runs once, as if nothing had been.

Out of memory, the youngest fails and the rest are run again. For any other exception nobody can say whose it is: the
halves are run apart, and theirs, until one is left who raises alone. A lost device ends everything. Knows steps and
sequences; no tensors. What is run again leaves what it would have left the first time: a pass writes keys and values
where its ids stand, and draws from (seed, step).
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from server.engine.progress import OUT_OF_MEMORY, Progress
from server.engine.request import Failed
from server.engine.residency import Unloadable
from server.engine.runner import Outcome, Runner
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence
from server.engine.step import Step
from server.engine.troubles import DeviceLost, Trouble, trouble_of

log = logging.getLogger(__name__)

RAISED = Failed("internal", "the forward pass failed")
_UNLOADABLE = Failed("internal", "the soft prompt could not be brought into memory")

T = TypeVar("T")


class Containment:
    """Between the engine and its runner. A step of N sequences takes at most 2 N - 1 passes, of ever fewer of them."""

    def __init__(self, scheduler: Scheduler, runner: Runner, progress: Progress) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._progress = progress

    def run(self, step: Step) -> list[Outcome]:
        """Ends who could not run; `step` keeps the others.

        Raises DeviceLost, and what goes wrong with the cache's layout, which is everybody's.
        """
        self._lay_out(step)
        self._start(step)
        outcomes: list[Outcome] = []
        parts = [step]
        while parts:
            part = parts.pop()
            if part:
                found = _tried(partial(self._runner.run, part))
                if isinstance(found, Trouble):
                    parts += self._less(found, part, step)
                else:
                    outcomes += found
        return outcomes

    def _less(self, trouble: Trouble, part: Step, step: Step) -> list[Step]:
        """What is to be tried of a part that raised."""
        everybody = part.sequences()
        if len(everybody) == 1:
            self._give_up(everybody[0], OUT_OF_MEMORY if trouble is Trouble.MEMORY else RAISED, step)
            return []
        if trouble is not Trouble.MEMORY:
            return list(part.parted(everybody[: len(everybody) // 2]))
        youngest = part.youngest
        if youngest.is_head:  # many may wait for it
            return list(part.parted([youngest]))
        self._give_up(youngest, OUT_OF_MEMORY, step)
        part.leave(youngest)
        return [part]

    def _lay_out(self, step: Step) -> None:
        """Before anybody's part: what moves, and how long slots are, depends on all."""
        while step and _tried(partial(self._runner.lay_out, step), only_memory=True) is Trouble.MEMORY:
            self._give_up(step.youngest, OUT_OF_MEMORY, step)
            self._scheduler.measure(step)

    def _start(self, step: Step) -> None:
        """All, before anybody leaves the slot that another copies from."""
        while step.admitted:
            sequence = step.admitted[0]
            found = _tried(partial(self._runner.start, sequence))
            if found is Trouble.MEMORY:
                self._give_up(step.youngest, OUT_OF_MEMORY, step)
            elif isinstance(found, Trouble):
                self._give_up(sequence, RAISED, step)
            else:
                sequence.source = None  # not before: a start that raises in the end is made again
                del step.admitted[0]

    def _give_up(self, sequence: Sequence, event: Failed, step: Step) -> None:
        log.error("request %s fails: %s", sequence.request.id, event.message)
        step.leave(sequence)
        self._progress.fail(sequence, event)


def _tried(work: Callable[[], T], *, only_memory: bool = False) -> T | Trouble:
    """What it gives, or the trouble it was in: of the exception nothing is kept, nor of the tensors in its frames.

    Raises DeviceLost; with `only_memory` whatever is no lack of memory.
    """
    try:
        return work()
    except Exception as error:
        trouble = trouble_of(error)
        if trouble is Trouble.DEVICE:
            raise DeviceLost("nothing works on the device any more") from error
        if only_memory and trouble is not Trouble.MEMORY:
            raise
        log.warning("a step raises: %s", trouble.value, exc_info=True)
        return trouble


def unloadable(error: Unloadable) -> Failed:
    """What its requests are told. Raises DeviceLost: that is no soft prompt's fault."""
    trouble = trouble_of(error)
    if trouble is Trouble.DEVICE:
        raise DeviceLost("nothing works on the device any more") from error
    log.error("a soft prompt could not be made resident", exc_info=error)
    return OUT_OF_MEMORY if trouble is Trouble.MEMORY else _UNLOADABLE
