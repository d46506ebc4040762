"""The engine as a peer: its library without HTTP, a closed loop that keeps so many requests in flight.

Soft prompts are made resident first, as publishing a task does; the other peers prepare theirs on construction too.
"""

import queue
from collections.abc import Sequence
from pathlib import Path

from benchmarks.workload import Job, Workload
from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Event, Prompt, Request, Sampling, TokenEvent
from server.engine.settings import EngineSettings


class _Answer:
    """The sink of one request: collects its ids, and passes its terminal event on to `done`."""

    def __init__(self, done: "queue.SimpleQueue[Event]") -> None:
        self.ids: list[int] = []
        self._done = done

    def put(self, event: Event, /) -> None:
        if isinstance(event, TokenEvent):
            self.ids.append(event.id)
        else:
            self._done.put(event)


class EnginePeer:
    """`max_total_tokens` is what the workload needs, as every peer sizes its cache for it."""

    def __init__(self, workload: Workload, checkpoint: Path) -> None:
        whole = workload.length + workload.input_tokens + workload.new_tokens
        base = BaseModel.load(checkpoint, device="cpu", dtype="bfloat16")
        self._engine = Engine(base, EngineSettings(max_total_tokens=whole))
        self._head = tuple(~row for row in range(workload.length))
        self._prompts = [Prompt(f"task-{task}", rows, self._head) for task, rows in enumerate(workload.rows())]
        self._sampling = Sampling(max_new_tokens=workload.new_tokens, ignore_eos=True)
        self._engine.start()
        for prompt in self._prompts:
            self._engine.load(prompt)

    def generate(self, jobs: Sequence[Job], concurrency: int) -> list[list[int]]:
        """An answer that failed comes back too short, which the measurement refuses."""
        done: queue.SimpleQueue[Event] = queue.SimpleQueue()
        answers = [_Answer(done) for _ in jobs]
        for index in range(min(concurrency, len(jobs))):
            self._submit(index, jobs[index], answers[index])
        for ended in range(len(jobs)):
            done.get()
            following = ended + concurrency
            if following < len(jobs):
                self._submit(following, jobs[following], answers[following])
        return [answer.ids for answer in answers]

    def _submit(self, index: int, job: Job, answer: _Answer) -> None:
        request = Request(index, (*self._head, *job.ids), self._sampling, self._prompts[job.task])
        self._engine.submit(request, answer)
