"""The engine as a peer: its library without HTTP.

Soft prompts are made resident first, as publishing a task does; the other peers prepare theirs on construction too.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import ask
from benchmarks.workload import Job, Workload
from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Prompt, Request, Sampling
from server.engine.settings import EngineSettings


class EnginePeer:
    """`max_total_tokens` is what the workload needs, as every peer sizes its cache for it.

    Not `recorded`: on a GPU every pass is run as it is. It keeps no texts: warm-up and every concurrency ask the same
    inputs.
    """

    def __init__(  # noqa: PLR0913 - by name, and each with a default
        self,
        workload: Workload,
        checkpoint: Path,
        device: str = "cpu",
        *,
        weights: str = "dtype",
        native: bool = True,
        recorded: bool = True,
    ) -> None:
        base = BaseModel.load(checkpoint, device=device, dtype="bfloat16", weights=weights, native=native)
        base.recorder = base.recorder if recorded else None
        self._engine = Engine(base, EngineSettings(max_total_tokens=workload.whole, text_budget=0))
        head = tuple(~row for row in range(workload.length))
        self._prompts = [Prompt(f"task-{task}", rows, head) for task, rows in enumerate(workload.rows())]
        self._sampling = Sampling(max_new_tokens=workload.new_tokens, ignore_eos=True)
        self._engine.start()
        for prompt in self._prompts:
            self._engine.load(prompt)

    def generate(self, jobs: Sequence[Job], concurrency: int) -> list[list[int]]:
        """Raises ValueError for an answer that failed."""
        prompts = [self._prompts[job.task] for job in jobs]
        asked = [
            Request(index, (*prompt.head, *job.ids), self._sampling, prompt)
            for index, (prompt, job) in enumerate(zip(prompts, jobs, strict=True))
        ]
        return [answer.ids for answer in ask(self._engine, asked, concurrency)]

    def close(self) -> None:
        self._engine.close()
