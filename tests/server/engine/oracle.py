"""The oracle of the engine: transformers' own `generate`, one request at a time, and brute-force scores."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from server.engine.engine import Engine
from server.engine.request import Event, Failed, Finished, Prompt, PromptEvent, Request, Scored, TokenEvent

PATIENCE = 120.0


def embedded(model: PreTrainedModel, ids: tuple[int, ...], rows: torch.Tensor | None) -> torch.Tensor:
    """[1, N, d]: what block 0 receives for ids where ~i stands for row i."""
    table = cast("nn.Embedding", model.get_input_embeddings())
    found = table(torch.tensor([max(token, 0) for token in ids]))
    for at, token in enumerate(ids):
        if token < 0 and rows is not None:
            found[at] = rows[~token]
    return cast("torch.Tensor", found[None])


@torch.inference_mode()
def generate(
    model: PreTrainedModel, ids: tuple[int, ...], rows: torch.Tensor | None, new: int, *, stop_at_eos: bool = False
) -> list[int]:
    """Greedy ids after `ids`, from `inputs_embeds` alone."""
    config = GenerationConfig(
        max_new_tokens=new, do_sample=False, pad_token_id=2, eos_token_id=1 if stop_at_eos else -1
    )
    inputs = embedded(model, ids, rows)
    mask = torch.ones(inputs.shape[:2], dtype=torch.int64)
    out = cast("Any", model).generate(inputs_embeds=inputs, attention_mask=mask, generation_config=config)
    return [int(token) for token in out[0]]


@torch.inference_mode()
def generate_behind(model: PreTrainedModel, prefix: torch.Tensor, ids: tuple[int, ...], new: int) -> list[int]:
    """Greedy ids after text `ids` behind a deep prefix [L, 2, H_kv, p, D]: everything is fed anew for each of them."""
    found: list[int] = []
    for _ in range(new):
        found.append(int(logits_behind(model, prefix, (*ids, *found))[-1].argmax()))
    return found


@torch.inference_mode()
def logits_behind(model: PreTrainedModel, prefix: torch.Tensor, ids: tuple[int, ...]) -> torch.Tensor:
    """float32 [N, V] of text `ids` behind a deep prefix [L, 2, H_kv, p, D]."""
    at = prefix.shape[3] + torch.arange(len(ids))[None]
    cache = DynamicCache([(layer[0][None], layer[1][None]) for layer in prefix])
    mask = torch.ones(1, prefix.shape[3] + len(ids), dtype=torch.int64)
    out = model(
        input_ids=torch.tensor([ids]), position_ids=at, past_key_values=cache, attention_mask=mask, use_cache=True
    )
    found: torch.Tensor = out.logits[0].float()
    return found


@contextmanager
def adapted(model: PreTrainedModel, prompts: torch.Tensor, gate: torch.Tensor) -> Iterator[None]:
    """The formula of LLaMA-Adapter around the topmost attentions: prompts [L_top, p, d], gate [L_top, 1 or H]."""
    modules: list[Any] = [m for m in model.modules() if hasattr(m, "k_proj") or hasattr(m, "c_attn")]
    tops = modules[len(modules) - len(prompts) :]
    hooks = [
        module.register_forward_hook(partial(_with_adapter, rows, gates), with_kwargs=True)
        for module, rows, gates in zip(tops, prompts, gate, strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _with_adapter(  # noqa: PLR0913, PLR0917 - the signature is torch's
    rows: torch.Tensor, gate: torch.Tensor, module: Any, args: tuple[Any, ...], given: dict[str, Any], output: Any
) -> Any:
    hidden, size = given["hidden_states"] if "hidden_states" in given else args[0], module.head_dim

    def heads(x: torch.Tensor) -> torch.Tensor:
        return torch.unflatten(x, -1, (-1, size))

    if hasattr(module, "c_attn"):
        query = heads(module.c_attn(hidden).chunk(3, -1)[0])[0].transpose(0, 1)
        keys, values = (heads(x).transpose(0, 1) for x in module.c_attn(rows).chunk(3, -1)[1:])
    else:
        norms = [getattr(module, name, lambda x: x) for name in ("q_norm", "k_norm")]
        cos, sin = given["position_embeddings"]
        query = norms[0](heads(module.q_proj(hidden)))[0].transpose(0, 1)
        first, second = query.chunk(2, -1)
        query = query * cos[0] + torch.cat([-second, first], -1) * sin[0]
        keys, values = norms[1](heads(module.k_proj(rows))).transpose(0, 1), heads(module.v_proj(rows)).transpose(0, 1)
    repeats = len(query) // len(keys)
    keys, values = keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0)
    weights = torch.softmax(query @ keys.transpose(1, 2) / size**0.5, -1)
    term = (gate[:, None, None] * (weights @ values)).transpose(0, 1).flatten(1)[None]
    return (output[0] + (term if hasattr(module, "c_attn") else module.o_proj(term)), *output[1:])


@torch.inference_mode()
def logits(model: PreTrainedModel, ids: tuple[int, ...], rows: torch.Tensor | None) -> torch.Tensor:
    """float32 [N, V]."""
    found: torch.Tensor = model(inputs_embeds=embedded(model, ids, rows)).logits[0].float()
    return found


def logits_after(model: PreTrainedModel, prompt: Prompt | None, ids: tuple[int, ...], count: int) -> torch.Tensor:
    """float32 [count, V]: the logits that the last `count` of `ids` give under a soft prompt of any kind."""
    if prompt is not None and prompt.adapter is not None:
        with adapted(model, *map(torch.tensor, prompt.adapter)):
            return logits(model, ids, None)[-count:]
    if prompt is not None and prompt.prefix is not None:
        prefix = torch.tensor(prompt.prefix)
        return logits_behind(model, prefix, ids[prefix.shape[3] :])[-count:]
    rows = None if prompt is None or prompt.rows is None else torch.tensor(prompt.rows)
    return logits(model, ids, rows)[-count:]


def score(
    model: PreTrainedModel, ids: tuple[int, ...], rows: torch.Tensor | None, continuation: tuple[int, ...]
) -> float:
    """Sum of the natural logs of `continuation`'s probabilities after `ids`."""
    table = torch.log_softmax(logits(model, ids + continuation, rows), -1)
    return sum(float(table[len(ids) - 1 + i, token]) for i, token in enumerate(continuation))


def events(sink: "queue.SimpleQueue[Event]") -> list[Event]:
    """Everything up to and with the terminal event."""
    found: list[Event] = []
    while not found or isinstance(found[-1], TokenEvent | PromptEvent):
        found.append(sink.get(timeout=PATIENCE))
    return found


def ask_all(engine: Engine, requests: list[Request]) -> list[list[Event]]:
    """All at once; each request's events."""
    sinks: list[queue.SimpleQueue[Event]] = [queue.SimpleQueue() for _ in requests]
    for request, sink in zip(requests, sinks, strict=True):
        engine.submit(request, sink)
    return [events(sink) for sink in sinks]


def ask(engine: Engine, request: Request) -> list[Event]:
    return ask_all(engine, [request])[0]


def ids_of(found: list[Event]) -> list[int]:
    assert isinstance(found[-1], Finished), found[-1]
    return [event.id for event in found if isinstance(event, TokenEvent)]


def scores_of(found: list[Event]) -> tuple[float, ...]:
    assert isinstance(found[-1], Scored), found[-1]
    return found[-1].logprobs


def failure_of(found: list[Event]) -> str:
    assert isinstance(found[-1], Failed), found[-1]
    return found[-1].code
