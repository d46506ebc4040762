"""A trace played on a real engine, and what came of it. Knows traces, events and the judge; draws nothing itself.

Its actions happen on the engine's own thread, between two events, so that the same trace is the same run; or, `free`,
on a thread of their own beside it.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from transformers import PreTrainedModel

from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Event, Finished, QueueFull, TokenEvent
from tests.server.engine import oracle
from tests.server.engine.faults import Faults
from tests.server.engine.judge import judge
from tests.server.engine.traces import Ask, Cancel, Load, Moment, Trace, Workshop

EOS_IDS = frozenset(range(1, 12))
"""So many that answers of random bases do end with one."""
SOLO = 8
"""Every so many requests one is asked again, alone, of a fresh engine of one slot."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A sink: every event of one request, told to the player."""

    events: list[Event]
    tell: Callable[[Event], None]

    def put(self, event: Event, /) -> None:
        self.events.append(event)
        self.tell(event)


@dataclass(slots=True)
class Report:
    """`wrong`: (request, what); ties: (request, index of the id, distance)."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    ties: list[tuple[int, int, float]] = field(default_factory=list)


class Player:
    """Plays one trace once."""

    def __init__(self, trace: Trace, workshop: Workshop, *, free: bool) -> None:
        self.engine = Engine(workshop.base, trace.settings)
        self.events: dict[int, list[Event]] = {}
        self.refused: set[int] = set()
        self.misplaced: list[str] = []
        self.cancelled: set[int] = set()
        self.faults = Faults(trace.seed)
        if trace.faulty:
            self.faults.install(self.engine)
        self._workshop = workshop
        self._moments = list(reversed(trace.moments))
        self._most = trace.settings.max_waiting, trace.settings.max_waiting_tokens or 2**62
        self._free = free
        self._news = threading.Condition()
        self._since = 0
        self._open: set[int] = set()

    def play(self) -> bool:
        """Whether every request came to its end in time."""
        if not self._free:
            self._act()
        self.engine.start()
        while self._free and self._moments:
            with self._news:
                if not self._news.wait_for(self._due, oracle.PATIENCE):
                    break
            self._act_once(self._moments.pop())
        with self._news:
            ended = self._news.wait_for(lambda: not self._moments and not self._open, oracle.PATIENCE)
        self.engine.close(0.0 if not ended else 30.0)
        return ended

    def _due(self) -> bool:
        return not self._open or self._since >= self._moments[-1].after

    def _act(self) -> None:
        while self._moments and self._due():
            self._act_once(self._moments.pop())

    def _act_once(self, moment: Moment) -> None:
        action, self._since = moment.action, 0
        if isinstance(action, Ask):
            self._ask(action)
        elif isinstance(action, Cancel):
            if action.number in self.events:
                self.cancelled.add(action.number)
            self.engine.cancel(action.number)
        else:
            prompt = self._workshop.prompt(action.task)
            if prompt is not None and isinstance(action, Load):
                self.engine.load(prompt)
            elif prompt is not None:
                self.engine.drop(prompt.digest)

    def _ask(self, ask: Ask) -> None:
        sink = Heard([], partial(self._hear, ask.number))
        self.events[ask.number] = sink.events
        self._open.add(ask.number)
        before = self.engine.snapshot()
        waiting = before.waiting, before.waiting_tokens
        try:
            self.engine.submit(self._workshop.request(ask), sink)
        except QueueFull:
            self._open.discard(ask.number)
            self.refused.add(ask.number)
        refused = ask.number in self.refused
        if not self._free and refused not in self._right(waiting):
            self.misplaced.append(f"with {waiting} waiting it was {'refused' if refused else 'taken'}")

    def _right(self, waiting: tuple[int, int]) -> set[bool]:
        """Whether a request may, or must, be refused: one owner comes to half of the room, one task to a third."""
        shares = [part / most for part, most in zip(waiting, self._most, strict=True)]
        if not waiting[0] or max(shares) < 1 / 3:
            return {False}
        return {True} if max(shares) >= 1 / 2 else {True, False}

    def _hear(self, number: int, event: Event) -> None:
        """On the engine's thread."""
        with self._news:
            self._since += 1
            if not isinstance(event, TokenEvent):
                self._open.discard(number)
            self._news.notify_all()
        if not self._free:
            self._act()


class Stage:
    """One base three times over: for the crowd, for the solo runs, and in transformers' hands."""

    def __init__(self, crowd: BaseModel, solo: BaseModel, reference: PreTrainedModel) -> None:
        self.workshop, self.alone, self.reference = Workshop(crowd), Workshop(solo), reference
        crowd.eos_ids = solo.eos_ids = EOS_IDS

    def run(self, trace: Trace, *, free: bool) -> Report:
        player, report = Player(trace, self.workshop, free=free), Report()
        if not player.play():
            report.wrong.append((0, "some requests never ended"))
        report.wrong += [(0, what) for what in (*leftovers(player.engine), *player.misplaced)]
        for ask in trace.asks:
            report.counts["requests"] += 1
            if ask.number in player.refused or ask.number not in player.events:
                report.counts["refused: queue full"] += 1
                continue
            self._judge(ask, player, report, faulty=trace.faulty)
        self._compare_solo(trace, player, report)
        report.counts["faults"] += player.faults.count
        return report

    def _judge(self, ask: Ask, player: Player, report: Report, *, faulty: bool) -> None:
        events = player.events[ask.number]
        request, eos_ids = self.workshop.request(ask), self.workshop.base.eos_ids
        cancelled = ask.number in player.cancelled
        verdict = judge(self.reference, request, events, eos_ids, cancelled=cancelled, faulty=faulty)
        report.counts += verdict.counts
        report.counts["ties"] += len(verdict.ties)
        report.counts[f"kind {ask.task.kind}"] += 1
        report.wrong += [(ask.number, what) for what in verdict.wrong]
        report.ties += [(ask.number, *tie) for tie in verdict.ties]

    def _compare_solo(self, trace: Trace, player: Player, report: Report) -> None:
        """Finished generations, id for id, up to the first tie that was found."""
        engine = Engine(self.alone.base, replace(trace.settings, kv_budget=2**30, max_batch=1, max_waiting=1000))
        engine.start()
        tied = {(number, index) for number, index, _ in report.ties}
        for ask in trace.asks[::SOLO]:
            events = player.events.get(ask.number, [])
            if not events or not isinstance(events[-1], Finished) or events[-1].reason == "cancelled":
                continue
            got, wanted = oracle.ids_of(events), oracle.ids_of(oracle.ask(engine, self.alone.request(ask)))
            at = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
            report.counts["solo runs"] += 1
            if (at is None and len(got) != len(wanted)) or (at is not None and (ask.number, at) not in tied):
                report.wrong.append((ask.number, f"alone it answers {wanted}, not {got}"))
        engine.close()


def leftovers(engine: Engine) -> list[str]:
    """What an engine that has nothing to do and has stopped still holds."""
    snapshot, residency = engine.snapshot(), engine._residency
    claims = {
        "it is not healthy": engine.healthy,
        f"{snapshot.running} slots are held": snapshot.running == 0,
        "a free slot is lost": engine._scheduler.slots.free == snapshot.slots,
        f"{snapshot.waiting} wait": snapshot.waiting == 0,
        f"{len(engine._sequences)} sequences are known": not engine._sequences,
        f"{len(engine._scheduler._readers)} heads are under way": not engine._scheduler._readers,
        f"{len(engine._texts._reader)} texts are being read": not engine._texts._reader,
        "kept texts pass their budget": 0 <= engine._texts.bytes <= engine._texts._budget,
        "a resident has users": not any(resident.users for resident in residency._by_digest.values()),
        "residents pass their budget": 0 <= residency.bytes <= residency.budget,
        "the residents' bytes do not add up": residency.bytes == sum(r.bytes for r in residency._by_digest.values()),
    }
    return [what for what, holds in claims.items() if not holds]
