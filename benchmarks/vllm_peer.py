"""vLLM as a peer, run by an interpreter of its own: `PYTHON -m benchmarks.vllm_peer '{"checkpoint": ..., ...}'`.

Its environment holds neither this project nor its requirements, so besides vLLM, torch and numpy nothing is imported
but the clock, and what to measure comes as arrays in a file. Its last line on stdout is the result as JSON.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import vllm
from vllm import LLM, SamplingParams
from vllm.sampling_params import RequestOutputKind

from benchmarks.timing import warm_and_timed


class VllmPeer:
    """The library without HTTP, a closed loop like the engine's. Soft prompt and text come as one `prompt_embeds`."""

    def __init__(self, checkpoint: str, context: int, most: int, new_tokens: int) -> None:
        self._llm = LLM(
            model=checkpoint,
            dtype="bfloat16",
            enable_prompt_embeds=True,
            enable_prefix_caching=True,
            max_num_seqs=most,
            max_model_len=context,
            skip_tokenizer_init=True,
        )
        self._sampling = SamplingParams(
            max_tokens=new_tokens,
            temperature=0.0,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._served = 0

    def generate(self, jobs: Sequence[torch.Tensor], concurrency: int) -> list[list[int]]:
        """Each job is bfloat16 [p + n, hidden]. Names are never used twice, whatever was served before."""
        engine, waiting = self._llm.llm_engine, list(enumerate(jobs))[::-1]
        answers: list[list[int]] = [[] for _ in jobs]
        base, running = self._served, 0
        self._served += len(jobs)
        while waiting or running:
            while waiting and running < concurrency:
                index, embeds = waiting.pop()
                engine.add_request(str(base + index), {"prompt_embeds": embeds}, self._sampling)
                running += 1
            for output in engine.step():
                if output.finished:
                    answers[int(output.request_id) - base] = list(output.outputs[0].token_ids)
                    running -= 1
        return answers


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """The figures that benchmarks.parts.mixed reads of any peer. `embeds`: a .npy of float32 [jobs, p + n, hidden]."""
    embeds = torch.from_numpy(np.load(order["embeds"])).bfloat16()
    began = time.perf_counter()
    peer = VllmPeer(order["checkpoint"], order["context"], max(order["concurrency"]), order["new_tokens"])
    loaded = time.perf_counter() - began
    timings = [
        asdict(warm_and_timed(peer.generate, list(embeds[:requests]), concurrency, order["new_tokens"]))
        for concurrency, requests in zip(order["concurrency"], order["requests"], strict=True)
    ]
    versions = {"vllm": vllm.__version__, "torch": torch.__version__}
    return {"load_seconds": loaded, "timings": timings, "versions": versions}


if __name__ == "__main__":
    found = measure(json.loads(sys.argv[1]))
    sys.stdout.write("\n" + json.dumps(found) + "\n")
