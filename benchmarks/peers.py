"""The systems that are measured beside the engine in an environment they share with it, each behind `Peer`.

`peft` is what PEFT's users write today. `sketch` is a prototype of one file, loaded
from the path it is given; it is not a part of this project. Knows nothing of timing.
"""

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import DynamicCache

from benchmarks.continuous_peer import ContinuousPeer
from benchmarks.engine_peer import EnginePeer
from benchmarks.peer import Peer, Still
from benchmarks.static_peer import StaticPeer, loaded
from benchmarks.workload import Job, Workload


def _with_prompts(model: Any, config: PromptTuningConfig) -> Any:
    return get_peft_model(model, config, adapter_name="0")


class PeftPeer(Still):
    """One active soft prompt per model object: the requests in flight are grouped by task, a `generate` each."""

    def __init__(self, workload: Workload, checkpoint: Path) -> None:
        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=workload.length)
        self._model = _with_prompts(loaded(checkpoint), config)
        self._new_tokens = workload.new_tokens
        for task, rows in enumerate(torch.from_numpy(workload.rows())):
            if task:
                self._model.add_adapter(str(task), config)
            self._model.prompt_encoder[str(task)].embedding.weight.data = rows.bfloat16()

    @torch.inference_mode()
    def generate(self, jobs: Sequence[Job], concurrency: int) -> list[list[int]]:
        answers: list[list[int]] = [[] for _ in jobs]
        for start in range(0, len(jobs), concurrency):
            of_task: dict[int, list[int]] = {}
            for index in range(start, min(start + concurrency, len(jobs))):
                of_task.setdefault(jobs[index].task, []).append(index)
            for task, indices in of_task.items():
                for index, answer in zip(indices, self._of_one(task, [jobs[i] for i in indices]), strict=True):
                    answers[index] = answer
        return answers

    def _of_one(self, task: int, jobs: Sequence[Job]) -> list[list[int]]:
        self._model.set_adapter(str(task))
        ids = torch.tensor([job.ids for job in jobs])
        whole = self._model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=self._new_tokens, do_sample=False
        )
        return [row[ids.shape[1] :] for row in whole.tolist()]


class SketchPeer(Still):
    """A packed engine of one file with `Engine`, `Req` and `pack`: `step()` returns the requests that are done."""

    def __init__(self, workload: Workload, checkpoint: Path, file: Path) -> None:
        spec = importlib.util.spec_from_file_location("benchmarks_sketch", file)
        if spec is None or spec.loader is None:
            raise ValueError("the sketch is not a Python file")
        self._module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._module)
        self._model = loaded(checkpoint)
        self._prefixes = [self._prefix(rows) for rows in torch.from_numpy(workload.rows()).bfloat16()]
        self._module.pack(self._model, 64)
        self._workload = workload

    @torch.inference_mode()
    def _prefix(self, rows: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values [kv_heads, p, head_dim] of a soft prompt, a pair per layer."""
        cache: Any = DynamicCache()
        self._model(inputs_embeds=rows[None], past_key_values=cache, use_cache=True)
        return [(layer.keys[0], layer.values[0]) for layer in cache.layers]

    def generate(self, jobs: Sequence[Job], concurrency: int) -> list[list[int]]:
        of = self._workload
        engine = self._module.Engine(self._model, slots=concurrency, tmax=-(-of.whole // 32) * 32)
        running = [self._module.Req(list(job.ids), of.new_tokens, self._prefixes[job.task]) for job in jobs]
        engine.wait.extend(running)
        while engine.wait or engine.run:
            engine.step()
        return [request.new for request in running]


def peers(sketch: Path | None) -> dict[str, Callable[[Workload, Path], Peer]]:
    """Every peer by name, the engine first; `sketch` only with a path to load it from."""
    found: dict[str, Callable[[Workload, Path], Peer]] = {
        "engine": EnginePeer,
        "int8": partial(EnginePeer, weights="int8"),
        "torch": partial(EnginePeer, native=False),
        "static": StaticPeer,
        "continuous": ContinuousPeer,
        "peft": PeftPeer,
    }
    if sketch is not None:
        found["sketch"] = lambda workload, checkpoint: SketchPeer(workload, checkpoint, sketch)
    return found


@torch.inference_mode()
def embedded_jobs(workload: Workload, checkpoint: Path, count: int, file: Path) -> None:
    """Soft prompt and embedded text of so many jobs, float32 [count, p + n, hidden], for a peer that takes those."""
    jobs = workload.jobs(count)
    texts = loaded(checkpoint).get_input_embeddings()(torch.tensor([job.ids for job in jobs])).float().numpy()
    np.save(file, np.concatenate([workload.rows()[[job.task for job in jobs]], texts], axis=1))
