"""A base of a family nobody has tried here runs a few ids both ways before it serves: its own attention and ours.

What the engine asks of a model (attention through transformers' interface, positions that are given, several sequences
on one row) is not written down in its config, so it is measured. Knows the engine and ids; no family by name.
"""

import queue
import random
from typing import Any

import torch

from server.engine.checkpoint import BadBase
from server.engine.engine import Engine
from server.engine.model import BaseModel, one_thread
from server.engine.request import Event, Failed, Request, Sampling, TokenEvent
from server.engine.settings import EngineSettings

LENGTH, NEW, TOP = 48, 6, 4
"""Ids of the longer prompt, generated ids, and logprobs compared at each of them."""
LEAST = 12
"""Ids that two chunks and two different lengths need."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Difference between natural logs of probabilities that rounding explains: the largest in float32; else the median,
since a mixture of experts may choose another one for a rounded bit. Weights of 8 bits are as coarse as bfloat16."""
PATIENCE = 300.0
"""Seconds."""


@one_thread()
def check(base: BaseModel) -> float:
    """The difference found. Raises BadBase when it is more than rounding, or when a way does not run."""
    own: Any = base.model.config._attn_implementation  # type: ignore[union-attr]  # noqa: SLF001 - it has no public name
    prompts = _prompts(base)
    answers = _packed(base, prompts)
    pairs = zip(prompts, answers, strict=True)
    with base.as_it_was(own):
        differences = torch.cat([_differences(base, prompt, answer) for prompt, answer in pairs])
    rounded = torch.bfloat16 if base.int8 else base.dtype
    found = float(differences.max() if rounded == torch.float32 else differences.median())
    if not found <= TOLERANCE[rounded]:
        raise BadBase(
            f"model_type {base.config.model_type} is not served: packed with others its logprobs differ by {found:.2g}"
        )
    return found


def _prompts(base: BaseModel) -> list[tuple[int, ...]]:
    """Two of different lengths: on one row, neither may see the other."""
    draw = random.Random(0)
    longest = min(LENGTH, base.shape.context - NEW)
    if longest < LEAST:
        raise BadBase(
            f"model_type {base.config.model_type} with {base.shape.context} positions is too short to be tried"
        )
    return [
        tuple(draw.randrange(base.shape.vocabulary) for _ in range(length)) for length in (longest, longest // 2 + 1)
    ]


def _packed(base: BaseModel, prompts: list[tuple[int, ...]]) -> list[list[TokenEvent]]:
    """Both at once, the longer in two chunks."""
    longest = max(map(len, prompts))
    settings = EngineSettings(max_total_tokens=longest + NEW, max_batch=len(prompts), max_batch_tokens=longest - 5)
    engine = Engine(base, settings)
    engine.start()
    sampling = Sampling(max_new_tokens=NEW, logprobs=TOP, ignore_eos=True)
    sinks: list[queue.SimpleQueue[Event]] = [queue.SimpleQueue() for _ in prompts]
    try:
        for index, (prompt, sink) in enumerate(zip(prompts, sinks, strict=True)):
            engine.submit(Request(index, prompt, sampling), sink)
        return [_answer(base, sink) for sink in sinks]
    finally:
        engine.close()


def _answer(base: BaseModel, sink: "queue.SimpleQueue[Event]") -> list[TokenEvent]:
    found = []
    try:
        while isinstance(event := sink.get(timeout=PATIENCE), TokenEvent):
            found.append(event)
    except queue.Empty:
        raise BadBase(
            f"model_type {base.config.model_type}: no answer within {PATIENCE:.0f} s of a first try"
        ) from None
    if any(one.logprob != one.top[0][1] for one in found):  # another id may be as likely, in bfloat16 often is
        raise BadBase(f"model_type {base.config.model_type} is not served: a greedy id is not among the likeliest")
    if isinstance(event, Failed):
        raise BadBase(f"model_type {base.config.model_type} is not served: packed on one row, its forward pass fails")
    return found


@torch.inference_mode()
def _differences(base: BaseModel, prompt: tuple[int, ...], answer: list[TokenEvent]) -> torch.Tensor:
    """float32 [NEW * TOP]: to the model's own pass over prompt and answer, at every id's likeliest alternatives."""
    ids = torch.tensor([[*prompt, *(event.id for event in answer)]], device=base.device)
    logits = base.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    own = torch.log_softmax(logits.float(), -1).cpu()
    return torch.tensor([float(own[at, id_]) - log for at, event in enumerate(answer) for id_, log in event.top]).abs()
