"""transformers' continuous batching as a peer. Its paged attention takes ids alone, no embeddings and no keys.

So it is given what it can take: texts of the same length, a task's pseudo-tokens replaced by ids of the task's own.
Knows no figures.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LlamaForCausalLM
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from benchmarks.workload import SEED, Job, Workload

MOST = 64
"""Requests at once."""
SECONDS = 600.0
"""After which an answer is given up."""


class ContinuousPeer:
    """A closed loop over its manager. Pages are as long as a task's ids, so that its prefix cache can share them."""

    def __init__(self, workload: Workload, checkpoint: Path, device: str = "cpu") -> None:
        self._model: Any = LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).eval().to(device)
        draw = np.random.default_rng(SEED + 2)
        ids = draw.integers(3, workload.shape.vocabulary, (workload.tasks, workload.length))
        self._heads = [tuple(row) for row in ids.tolist()]
        self._new_tokens = workload.new_tokens
        page = max(4, workload.length)
        pages = -(-workload.whole // page) + 1
        config = ContinuousBatchingConfig(
            page_size=page, num_blocks=pages * MOST, max_batch_tokens=512, max_requests_per_batch=MOST
        )
        greedy = GenerationConfig(do_sample=False, max_new_tokens=workload.new_tokens, eos_token_id=-1, pad_token_id=0)
        self._manager = self._model.init_continuous_batching(greedy, config)
        self._manager.start()

    def generate(self, jobs: Sequence[Job], concurrency: int) -> list[list[int]]:
        """An answer that failed comes back too short, which the measurement refuses."""
        waiting = list(enumerate(jobs))[::-1]
        at: dict[str, int] = {}
        answers: list[list[int]] = [[] for _ in jobs]
        for _ in range(min(concurrency, len(jobs))):
            self._submit(waiting, at)
        while at:
            result = self._manager.get_result(timeout=SECONDS)
            if result is None:
                raise RuntimeError("the continuous batching manager has stopped")
            answers[at.pop(result.request_id)] = list(result.generated_tokens)
            if waiting:
                self._submit(waiting, at)
        return answers

    def _submit(self, waiting: list[tuple[int, Job]], at: dict[str, int]) -> None:
        index, job = waiting.pop()
        name = self._manager.add_request([*self._heads[job.task], *job.ids], max_new_tokens=self._new_tokens)
        at[name] = index

    def close(self) -> None:
        self._manager.destroy()
