"""transformers' `generate` as a peer: what its users write today. Knows nothing of timing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from benchmarks.peer import Still
from benchmarks.workload import Job, Workload


def loaded(
    checkpoint: Path, device: str = "cpu"
) -> Any:  # transformers' own types fit neither `generate` nor its caches
    model: Any = LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).eval().to(device)
    model.generation_config.pad_token_id = 0
    return model


class StaticPeer(Still):
    """Hand-made mixed batches for `generate(inputs_embeds=...)`: as long as the longest runs, nobody joins."""

    def __init__(self, workload: Workload, checkpoint: Path, device: str = "cpu") -> None:
        self._model = loaded(checkpoint, device)
        self._device = device
        self._rows = torch.from_numpy(workload.rows()).bfloat16().to(device)
        self._new_tokens = workload.new_tokens

    @torch.inference_mode()
    def generate(self, jobs: Sequence[Job], concurrency: int) -> list[list[int]]:
        answers: list[list[int]] = []
        for start in range(0, len(jobs), concurrency):
            batch = jobs[start : start + concurrency]
            ids = torch.tensor([job.ids for job in batch], device=self._device)
            texts = self._model.get_input_embeddings()(ids)
            embeds = torch.cat([self._rows[[job.task for job in batch]], texts], dim=1)  # [batch, p + n, d]
            mask = torch.ones(embeds.shape[:2], dtype=torch.int64, device=self._device)
            answers += self._model.generate(
                inputs_embeds=embeds, attention_mask=mask, max_new_tokens=self._new_tokens, do_sample=False
            ).tolist()
        return answers
