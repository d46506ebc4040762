"""Every kind of soft prompt against PEFT, transformers and plain modules; and that many in one pass stay alone."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from prompt_store.template import Template
from tests import models
from tests.models import FAMILIES, rows
from tests.tuning.conftest import LABELS, examples, frozen
from tuning import initial
from tuning.base import FrozenBase
from tuning.crowd import Member, gather
from tuning.encoding import Encoded, Encoder, encode, shared_head
from tuning.generation import generate
from tuning.inside import ALPHA, BottleneckAdapter, Lora
from tuning.likelihood import log_likelihoods, of_one
from tuning.llama_adapter import LlamaAdapter
from tuning.soft import Soft

ADAPTED = ("llama", "mistral", "qwen2", "qwen3")


def batch(base: FrozenBase, labels: Sequence[str] | None = LABELS) -> list[Encoded]:
    """Prompts of text alone, of unequal widths, that share a beginning."""
    parsed = Template.parse("Say what it is: {text} Intent:", "text", 0)
    encoder = Encoder(parsed, " ", base.tokenizer.encode, base.tokenizer.bos, 1, tuple(labels) if labels else None)
    return encode(examples(5), encoder, base.context)


def random(*size: int, seed: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def deep(base: FrozenBase, length: int = 4, seed: int = 0) -> Soft:
    """Keys and values of every layer, at random."""
    layers, _, heads, _, size = initial.keys_values(base, rows(1)).shape
    pair = random(2, layers, heads, length, size, seed=seed)
    return Soft(rows(0), deep=(pair[0], pair[1]))


@torch.no_grad()
def scored(logits_of: Callable[[torch.Tensor], torch.Tensor], some: Sequence[Encoded]) -> list[list[float]]:
    """Each answer by itself: the logits that an oracle has for the prompt and the answer, [n, V]."""
    found: list[list[float]] = []
    for one in some:
        found.append([])
        for answer in one.answers:
            logs = logits_of(torch.tensor([[*one.prompt, *answer]])).double().log_softmax(-1)
            first = len(one.prompt) - 1
            found[-1].append(sum(logs[first + n, token].item() for n, token in enumerate(answer)))
    return found


def holds(base: FrozenBase, soft: Soft, logits_of: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """All likelihoods are the oracle's, and are not what they would be without the soft prompt."""
    some = batch(base)
    found = of_one(base, soft, some, shared_head(some)).detach()
    assert found == pytest.approx(torch.tensor(scored(logits_of, some)), rel=1e-4, abs=1e-3)
    nothing = of_one(base, Soft(rows(0)), some, shared_head(some))
    assert float((found - nothing).abs().max()) > 0.05, "a soft prompt that changes nothing proves nothing"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_deep_prefix_is_transformers_cache(family: str) -> None:
    """Keys and values in front of the text, which begins at position p, in every family."""
    base = frozen(family)
    soft, plain = deep(base), models.random_model(family)
    assert soft.deep is not None
    keys, values = soft.deep

    def oracle(ids: torch.Tensor) -> torch.Tensor:
        cache = DynamicCache()
        for layer in range(len(keys)):
            cache.update(keys[layer][None], values[layer][None], layer)
        logits: torch.Tensor = plain(
            input_ids=ids, past_key_values=cache, position_ids=torch.arange(4, 4 + ids.shape[1])[None]
        ).logits[0]
        return logits

    holds(base, soft, oracle)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("family", ADAPTED)
def test_an_adapter_is_the_formula(family: str) -> None:
    """gate * softmax(q k / sqrt(D)) v of the top layers' prompts, added in front of the output projection."""
    base = frozen(family)
    method = LlamaAdapter(rows(2 * 3).view(2, 3, 64), 4)
    with torch.no_grad():
        method.parameters()["gates"].copy_(random(2, 4, seed=3))
    soft = method.soft()
    assert soft.side is not None
    with adapted(models.random_model(family), soft.side) as plain:
        holds(base, soft, lambda ids: plain(input_ids=ids).logits[0])


@contextmanager
def adapted(plain: PreTrainedModel, side: tuple[torch.Tensor, torch.Tensor]) -> Iterator[PreTrainedModel]:
    """A model whose upper layers' output projection is fed the side attention too: queries found by a hook of ours."""
    prompts, gates = side
    attention = [module for module in plain.modules() if hasattr(module, "k_proj") and hasattr(module, "o_proj")]
    first = len(attention) - len(prompts)
    seen: dict[int, torch.Tensor] = {}

    def spying(module: Any, query: torch.Tensor, *args: Any, **named: Any) -> Any:
        seen[module.layer_idx] = query
        return sdpa_attention_forward(module, query, *args, **named)

    AttentionInterface.register("spying", spying)
    AttentionMaskInterface.register("spying", sdpa_mask)
    plain.set_attn_implementation("spying")

    def added(index: int) -> Callable[..., Any]:
        def hook(module: nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            own: Any = attention[first + index]
            query = seen[own.layer_idx]  # [1, H, n, D]
            keys, values = own.k_proj(prompts[index]), own.v_proj(prompts[index])
            keys, values = (x.view(len(x), -1, query.shape[-1]) for x in (keys, values))
            if hasattr(own, "k_norm"):
                keys = own.k_norm(keys)
            again = query.shape[1] // keys.shape[1]
            keys, values = (x.repeat_interleave(again, 1).transpose(0, 1)[None] for x in (keys, values))
            weights = torch.softmax(query @ keys.transpose(2, 3) / query.shape[-1] ** 0.5, -1)
            term = gates[index][None, :, None, None] * (weights @ values)
            return (given[0] + term.transpose(1, 2).flatten(2),)

        return hook

    for index in range(len(prompts)):
        projection: Any = attention[first + index].o_proj
        projection.register_forward_pre_hook(added(index))
    yield plain


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_is_pefts(tmp_path: Path) -> None:
    """The same A and B in PEFT's own layers; alpha / r as we have it."""
    base = frozen()
    method = Lora(base, rank=2, seed=0)
    with torch.no_grad():
        for name, parameter in method.parameters().items():
            if name.endswith(".B"):
                parameter.copy_(random(*parameter.shape, seed=len(name)))
    config = LoraConfig(r=2, lora_alpha=int(ALPHA * 2), target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    theirs = get_peft_model(models.random_model(), config).eval()
    state = {
        f"base_model.model.{name[:-2]}.lora_{name[-1]}.default.weight": parameter
        for name, parameter in method.parameters().items()
    }
    missing = theirs.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    holds(base, method.soft(), lambda ids: theirs(input_ids=ids).logits[0])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "opt"])
def test_a_bottleneck_stands_behind_attention_and_feed_forward(family: str) -> None:
    """As a plain module wrapped around theirs, twice a layer."""
    base = frozen(family)
    method = BottleneckAdapter(base, units=3, seed=0)
    with torch.no_grad():
        for name, parameter in method.parameters().items():
            parameter.copy_(random(*parameter.shape, seed=len(name)) * 0.3)
    plain = models.random_model(family)
    places = base.changes.behind()
    assert len(places) == 2 * len(base.attentions)
    for name in places:
        own = {part: method.parameters()[f"{name}.{part}"] for part in ("down", "inner", "up", "outer")}
        plain.get_submodule(name).register_forward_hook(wrapped(own))
    holds(base, method.soft(), lambda ids: plain(input_ids=ids).logits[0])


def wrapped(own: Mapping[str, torch.Tensor]) -> Callable[..., Any]:
    def hook(_module: nn.Module, _given: Any, output: Any) -> Any:
        y = output[0] if isinstance(output, tuple) else output
        y = y + torch.relu(y @ own["down"].T + own["inner"]) @ own["up"].T + own["outer"]
        return (y, *output[1:]) if isinstance(output, tuple) else y

    return hook


def crowded(base: FrozenBase, kind: str) -> list[Soft]:
    """Three of one kind, of different lengths."""
    if kind == "rows":
        return [Soft(rows(length, seed=length)) for length in (2, 5, 3)]
    if kind == "deep":
        return [deep(base, length, seed=length) for length in (4, 1, 6)]
    if kind == "side":
        return [Soft(rows(0), side=(random(2, p, 64, seed=p), random(2, 4, seed=p))) for p in (3, 1, 2)]
    softs = []
    for size in (2, 4, 1):
        method = Lora(base, size, size) if kind == "low rank" else BottleneckAdapter(base, size, size)
        with torch.no_grad():
            for number, parameter in enumerate(method.parameters().values()):
                parameter.copy_(random(*parameter.shape, seed=number + size) * 0.3)
        softs.append(method.soft())
    return softs


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        *itertools.product(("rows", "deep", "low rank", "bottleneck"), ("llama", "mistral", "gemma3")),
        ("side", "llama"),
        ("side", "mistral"),
    ],
)
def test_many_soft_prompts_in_one_pass_are_each_alone(kind: str, family: str) -> None:
    """Other lengths, other heads, other numbers of answers: each row has the likelihoods and gradients it has alone."""
    base = frozen(family)
    softs = crowded(base, kind)
    leaves = [leaf for soft in softs for leaf in _leaves(soft)]
    for leaf in leaves:
        leaf.requires_grad_()
    some = batch(base)
    parts = {0: some[:2], 1: [replace(some[1], answers=some[1].answers[:2], right=0)], 2: some[2:]}
    if kind == "rows":  # in front of the text, and not all of one member's begin alike
        parts = {
            member: [replace(one, prompt=(*range(-1, -1 - len(softs[member].rows), -1), *one.prompt)) for one in part]
            for member, part in parts.items()
        }
    heads = [shared_head(parts[member]) if member != 1 else () for member in range(3)]
    crowd = gather(base, [Member(soft, head) for soft, head in zip(softs, heads, strict=True)])
    found = log_likelihoods(base, crowd, parts, [len(head) for head in heads])
    sum(one.square().sum() for one in found.values()).backward()  # type: ignore[union-attr]
    together = [leaf.grad.clone() for leaf in leaves if leaf.grad is not None]
    for leaf in leaves:
        leaf.grad = None
    for member, soft in enumerate(softs):
        single = of_one(base, soft, parts[member], heads[member])
        assert found[member].detach() == pytest.approx(single.detach(), rel=1e-5, abs=1e-4)
        single.square().sum().backward()
    apart = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert len(together) == len(apart) == len(leaves)
    for one, other in zip(together, apart, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()) + 1e-6)


def _leaves(soft: Soft) -> list[torch.Tensor]:
    changed = [getattr(change, part) for change in soft.changes.values() for part in change.__dataclass_fields__]
    found = [soft.rows, *(soft.deep or ()), *(soft.side or ()), *changed]
    return [tensor.detach_() if tensor.requires_grad else tensor for tensor in found if tensor.numel()]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["rows", "deep"])
def test_answers_are_those_of_greedy_decoding_alone(kind: str, family: str) -> None:
    """A padded batch, rows that end early, keys and values kept: each answer is what feeding all ids again gives."""
    base = frozen(family)
    soft = Soft(rows(3)) if kind == "rows" else deep(base)
    some = [one.prompt for one in batch(base)]
    if kind == "rows":
        some = [(~0, *prompt, ~1, ~2) for prompt in some]
    head = shared_head([Encoded(prompt, ((0,),)) for prompt in some])
    found = generate(base, soft, some, 8, head)
    for prompt, answer in zip(some, found, strict=True):
        ids = list(prompt)
        for _ in range(8):
            every = [of_one(base, soft, [Encoded(tuple(ids), tuple((v,) for v in range(models.VOCABULARY)))], ())]
            best = int(every[0][0].argmax())
            if best in base.ends:
                break
            ids.append(best)
        assert answer == ids[len(prompt) :]
    assert len({tuple(answer) for answer in found}) > 1


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_answer_ends_at_the_bases_context(family: str) -> None:
    """Some families would go on, others stumble; shorter prompts beside it are answered in full."""
    base = frozen(family)
    base.ends = (-1,)
    found = generate(base, Soft(rows(2)), [(5,) * (base.context - 3), (~0, 6, ~1)], 12)
    assert [len(answer) for answer in found] == [4, 12]
