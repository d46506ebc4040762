"""The engine: one thread, one model, one batch. inbox -> scheduler -> runner -> events.

`submit`, `cancel`, `load`, `drop` may be called from any thread and return at once; every accepted request ends in
exactly one terminal event on its sink. Knows soft prompts by digest; no HTTP, no tasks, no text.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from collections.abc import Sequence as Many
from dataclasses import replace
from functools import partial

import torch

from server.engine.admission import Admission, Load
from server.engine.containment import Containment, unloadable
from server.engine.kv import KVCache
from server.engine.loading import Loader
from server.engine.model import BaseModel
from server.engine.progress import Progress
from server.engine.pulse import Pulse
from server.engine.queues import Queues
from server.engine.request import Closed, Failed, Prompt, Request, Sink
from server.engine.residency import Residency, Unloadable
from server.engine.runner import Runner
from server.engine.scheduler import HeadSink, Scheduler
from server.engine.sequence import Sequence
from server.engine.settings import Counters, EngineSettings, Snapshot
from server.engine.slots import GRAIN, Slots, rounded
from server.engine.texts import Texts
from server.engine.troubles import whatever_happens

log = logging.getLogger(__name__)

WAITING_AREAS, LEAST_WAITING_TOKENS = 8, 2**16
"""How often what waits may fill the cache, in tokens, where nobody says otherwise; a small cache is filled soon."""
MAX_CRASHES = 3
"""Steps in which nobody could run, one after another, before the engine declares itself dead."""

_STOPPED = Failed("engine_failed", "the engine has stopped")
_DRAINING = Failed("draining", "the server is shutting down")


class Engine:
    """Serves one base. `healthy` turns False, for good, when nothing can run any more.

    Passes keep raising whoever is in them, the device is lost, or the engine's own thread has crashed.
    """

    def __init__(self, base: BaseModel, settings: EngineSettings) -> None:
        shape = base.shape
        self.base = base
        self.max_total_tokens = min(settings.max_total_tokens or shape.context, shape.context)
        position_bytes = KVCache.bytes_per_position(shape.layers, shape.kv_heads, shape.head_dim, base.dtype)
        longest = rounded(self.max_total_tokens)
        area = min(settings.kv_budget // position_bytes, settings.max_batch * longest)
        if area < longest:
            needed = position_bytes * longest
            raise ValueError(f"one sequence of {self.max_total_tokens} tokens needs a K/V budget of {needed} bytes")
        self._kv_bytes = position_bytes * area
        self._settings = settings
        self.threads = settings.threads or torch.get_num_threads()
        tokens = settings.max_waiting_tokens or max(LEAST_WAITING_TOKENS, WAITING_AREAS * area)
        self.admission = Admission(Load(settings.max_waiting, tokens), settings.queue_seconds)
        self._runner = Runner(base, settings.max_batch, self.max_total_tokens, area, settings.tile)
        loader = Loader(self._runner, position_bytes, self.max_total_tokens)
        self._residency = Residency(settings.prompt_budget, loader)
        self._texts = Texts(settings.text_budget, position_bytes)
        self.slots = Slots(settings.max_batch, area)
        budget, whole = settings.tile or settings.max_batch_tokens, settings.deterministic
        queues = Queues(self.admission)
        self._scheduler = Scheduler(self.slots, budget, self._residency, self._texts, queues, whole=whole)
        self._counters = Counters()
        self._progress = Progress(self._scheduler, self._runner.kv, self._residency, base.eos_ids, self._counters)
        self._contained = Containment(self._scheduler, self._runner, self._progress)
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._idle = threading.Event()
        self._sequences: dict[Hashable, Sequence] = {}
        self._closing: float | None = None
        self._crashes = 0
        self.healthy = True
        self.pulse = Pulse()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def longest_continuation(self) -> int:
        """Ids; in deterministic mode one has to fit into a pass that others decode in."""
        return GRAIN if self._settings.deterministic else self.max_total_tokens

    @property
    def vocab_size(self) -> int:
        return self.base.shape.vocabulary

    def start(self) -> None:
        self._thread.start()

    def drain(self, deadline: float) -> None:
        """Refuse new requests, finish what there is for at most `deadline` seconds, fail the rest, stop."""
        with self._wake:
            ends = time.monotonic() + deadline
            self._closing = ends if self._closing is None else min(self._closing, ends)
            self._wake.notify()

    def close(self, deadline: float = 30.0) -> None:
        """Drain, and wait for the end. Then the base may be another engine's, and keeps nothing of this one."""
        self.drain(deadline)
        if self._thread.is_alive():
            self._thread.join()
        self._runner.close()

    def check_room(self, owner: Hashable, group: Hashable = None) -> None:
        """Raises QueueFull, OwnerFull or Closed where `submit` would refuse whatever `owner` brings, of any group."""
        self._check_open()
        self.admission.check(owner, group)

    def submit(self, request: Request, sink: Sink) -> None:
        """Raises QueueFull, OwnerFull or Closed; else the request's events arrive on `sink` from the engine's thread.

        Raises ValueError for a request that could outgrow `max_total_tokens`, or `longest_continuation`.
        """
        self.submit_all([(request, sink)])

    def submit_all(self, requests: Many[tuple[Request, Sink]]) -> None:
        """Several of one owner and group, or none of them. Raises as `submit`."""
        for request, _ in requests:
            self._check_size(request)
        with self._wake:
            self._check_open()
            self.admission.enter([request for request, _ in requests])
            self._inbox.extend(partial(self._accept, request, sink) for request, sink in requests)
            self.pulse.asked()
            self._wake.notify()

    def _check_size(self, request: Request) -> None:
        if request.positions > self.max_total_tokens:
            raise ValueError(f"a request of {request.positions} positions, and at most {self.max_total_tokens} fit")
        if max(map(len, request.continuations), default=0) > self.longest_continuation:
            raise ValueError(f"a continuation may have {self.longest_continuation} ids")

    def _check_open(self) -> None:
        if self._closing is not None or not self.healthy:
            raise Closed

    def cancel(self, request_id: Hashable) -> None:
        """Ends a request within one step; unknown or ended ids are nothing."""
        self._tell(lambda: self._cancel(request_id))

    def load(self, prompt: Prompt, *, pinned: bool = False) -> None:
        """Make a soft prompt resident ahead of its first request: its head joins the next batch.

        A pinned one is the last to leave.
        """
        if pinned:
            self._residency.pin(prompt.digest)
        self._tell(lambda: self._load(prompt))

    def drop(self, digest: str) -> None:
        """Forget a soft prompt; sequences that use it finish with it."""
        self._residency.drop(digest)
        self._tell(lambda: self._texts.drop(digest))

    def unpin(self, digest: str) -> None:
        """What was pinned leaves like any other."""
        self._residency.unpin(digest)

    def idle(self, seconds: float) -> bool:
        """Waits until there is nothing to run, at most so long; whether there is nothing. Of any thread."""
        return self._idle.wait(seconds)

    def check(self, prompt: Prompt) -> None:
        """Raises Unloadable for a soft prompt that is larger than all of them together may be."""
        self._residency.check(prompt)

    def resident(self, digest: str) -> Prompt | None:
        return self._residency.peek(digest)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            running=len(self.slots),
            waiting=self.admission.waiting.requests,
            waiting_tokens=self.admission.waiting.tokens,
            slots=self.slots.count,
            resident_prompts=len(self._residency),
            resident_bytes=self._residency.bytes,
            kv_bytes=self._kv_bytes,
            text_bytes=self._texts.bytes,
            counters=replace(self._counters),
        )

    def _tell(self, command: Callable[[], None]) -> None:
        with self._wake:
            self._inbox.append(command)
            self.pulse.asked()
            self._wake.notify()

    def _load(self, prompt: Prompt) -> None:
        """Nothing when all room is in use: the first request brings it."""
        if not self.healthy:
            return
        try:
            resident = self._residency.hold(prompt)
        except Unloadable as error:
            unloadable(error)
            return
        if resident is not None:
            self._scheduler.load(resident, HeadSink())
            resident.users -= 1

    def _accept(self, request: Request, sink: Sink) -> None:
        sequence = Sequence(request, sink)
        self._sequences[request.id] = sequence
        self._scheduler.add(sequence)

    def _cancel(self, request_id: Hashable) -> None:
        sequence = self._sequences.get(request_id)
        if sequence is not None and not sequence.done and self.healthy:
            self._progress.end(sequence, sequence.finished("cancelled"))

    @torch.inference_mode()
    def _run(self) -> None:
        torch.set_num_threads(self.threads)
        try:
            while self._wait():
                self._expire()
                self._advance()
                self._forget_done()
        except Exception:
            self.healthy = False  # at once: nothing of what follows may pass for an answer
            log.exception("the engine has crashed")
        finally:
            self._stop()
            self.pulse.ends()

    def _wait(self) -> bool:
        """Until there is something to do; obeys the inbox. False when the engine is to stop."""
        with self._wake:
            while self.healthy and not (self._inbox or self._sequences or self._scheduler.busy):
                if self._closing is not None:
                    return False
                self._idle.set()
                self.pulse.rests()
                self._wake.wait()
            self._idle.clear()
            self.pulse.beats()
        self._obey()
        return self.healthy

    def _obey(self) -> None:
        for _ in range(len(self._inbox)):  # one by one: if one raises, the next are there for the last word
            self._inbox.popleft()()
        self._forget_done()

    def _advance(self) -> None:
        step = self._scheduler.schedule()
        for sequence, error in step.failed:
            self._progress.end(sequence, unloadable(error))
        if not step:
            return
        outcomes = self._contained.run(step)
        self._crashes = 0 if step else self._crashes + 1
        if self._crashes == MAX_CRASHES:
            log.error("nobody could run in %d steps, one after another", MAX_CRASHES)
            self.healthy = False
        self._progress.apply(step, outcomes)

    def _stop(self) -> None:
        """The last word: nothing more is accepted, and whatever is left gets its terminal event."""
        with self._wake:
            self.healthy = self.healthy and self._closing is not None  # an end that nobody asked for
            self._closing = self._closing or 0.0
        event = _DRAINING if self.healthy else _STOPPED
        while self._inbox:
            with whatever_happens():
                self._obey()
        for sequence in self._sequences.values():
            with whatever_happens():
                if not sequence.done:
                    self._progress.end(sequence, event)
            if not sequence.done:
                sequence.end(event)  # whatever has become of slots and queues

    def _expire(self) -> None:
        now = time.monotonic()
        for sequence in list(self._sequences.values()):
            deadline = sequence.request.deadline
            if deadline is not None and now >= deadline:
                self._progress.end(sequence, Failed("timeout", "the request's time was up"))
            elif self._closing is not None and now >= self._closing:
                self._progress.end(sequence, _DRAINING)
            elif sequence.began is None and now - sequence.came >= self._settings.queue_seconds:
                self._progress.end(sequence, Failed("queue_timeout", "the request waited for too long"))
        self._forget_done()

    def _forget_done(self) -> None:
        for request_id in [key for key, sequence in self._sequences.items() if sequence.done]:
            del self._sequences[request_id]
