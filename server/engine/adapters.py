"""Gated side attention in the upper layers: LLaMA-Adapter (Zhang et al., arXiv 2303.16199), many at once in one pass.

A token of an adapted sequence also attends to keys and values of the learnt prompts, on its own softmax and behind a
gate: `gate * softmax(q k_a / sqrt(D)) v_a`, added to the attention's output. Knows layers' projections and rows of a
step; no sequences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from server.engine.kernels import BankedKernels

MAX_ROWS = 512
"""Pseudo-tokens of an adapter: each takes a place in the attention of every token, though none in the context."""
ADAPTED_FAMILIES = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""`model_type`s on which an adapter's answers are proved equal to PEFT's or to the formula's."""


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """One adapter as cached: keys, values [L_top, H_kv, p, D] of the topmost layers, gate [L_top, H]."""

    keys: torch.Tensor
    values: torch.Tensor
    gate: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes + self.gate.nbytes


def attentions(model: nn.Module) -> dict[int, nn.Module]:
    """The attention module of every layer, by `layer_idx`."""
    return {
        int(module.layer_idx): module  # type: ignore[arg-type]
        for module in model.modules()
        if hasattr(module, "layer_idx") and (hasattr(module, "k_proj") or hasattr(module, "c_attn"))
    }


def lacking(model_type: str, modules: Mapping[int, Any]) -> str | None:
    """Why a base cannot run adapters; None when it can."""
    if model_type not in ADAPTED_FAMILIES:
        return f"adapters run on {', '.join(ADAPTED_FAMILIES)}; this base is {model_type}"
    if any(getattr(getattr(module, "o_proj", None), "bias", None) is not None for module in modules.values()):
        return "this base's output projection has a bias, which an adapter's term would add twice"
    return None


def behind_projection(module: nn.Module) -> bool:
    """GPT-2's adapters are added after the output projection, unprojected; all others' before it."""
    return hasattr(module, "c_attn")


@torch.inference_mode()
def projected(modules: Mapping[int, nn.Module], prompts: torch.Tensor, gate: torch.Tensor, heads: int) -> Adapter:
    """Prompts [L_top, p, d] through the key and value projections of the topmost layers, once; gate [L_top, 1 or H]."""
    first = len(modules) - len(prompts)
    pairs = [_keys_values(modules[first + index], rows) for index, rows in enumerate(prompts)]
    keys, values = (torch.stack(side) for side in zip(*pairs, strict=True))
    return Adapter(keys, values, gate.expand(-1, heads).contiguous())


def _keys_values(module: Any, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[H_kv, p, D] each, normed where the family norms its keys, never rotated."""
    fed = rows[None]
    if behind_projection(module):
        _, keys, values = module.c_attn(fed).chunk(3, dim=-1)
    else:
        keys, values = module.k_proj(fed), module.v_proj(fed)
    keys, values = (x[0].unflatten(-1, (-1, module.head_dim)) for x in (keys, values))
    if hasattr(module, "k_norm"):
        keys = module.k_norm(keys)
    return keys.transpose(0, 1).contiguous(), values.transpose(0, 1).contiguous()


LAID_OUT = 2**12
"""Tokens times rows of a step up to which every token may get a copy of its adapter, all layers at once."""
GROUPED = 4
"""Tokens an adapter from which on they are grouped by adapter all the same: a prefill."""


@dataclass(frozen=True, slots=True)
class Laid:
    """The tokens of a pass, by the adapter each uses: a copy for every token, or the tokens of every adapter."""

    which: torch.Tensor
    copies: tuple[torch.Tensor, torch.Tensor] | None = None
    groups: list[tuple[int, torch.Tensor]] = field(default_factory=list)


class Bank:
    """The adapters of a step side by side, from the lowest adapted layer up; short ones are padded and masked.

    keys, values [L_top, A, H_kv, p, D], gate [L_top, A, H, 1], mask [A, 1, 1, p] to be added to scores. With native
    `kernels` tokens need not be laid out.
    """

    def __init__(self, adapters: Sequence[Adapter], layers: int, kernels: BankedKernels | None = None) -> None:
        top = max(len(one.keys) for one in adapters)
        longest = max(one.keys.shape[2] for one in adapters)
        self.first = layers - top
        _, kv_heads, _, size = adapters[0].keys.shape
        self._keys = adapters[0].keys.new_zeros(top, len(adapters), kv_heads, longest, size)
        self._values = torch.zeros_like(self._keys)
        self._gate = adapters[0].gate.new_zeros(top, len(adapters), adapters[0].gate.shape[1], 1)
        self._mask = torch.full((len(adapters), 1, 1, longest), float("-inf"), device=self._keys.device)
        for index, one in enumerate(adapters):
            from_layer, length = top - len(one.keys), one.keys.shape[2]
            self._keys[from_layer:, index, :, :length] = one.keys
            self._values[from_layer:, index, :, :length] = one.values
            self._gate[from_layer:, index, :, 0] = one.gate
            self._mask[index, ..., :length] = 0
        self._padded = bool(torch.isinf(self._mask).any())
        self._lengths = torch.tensor([one.keys.shape[2] for one in adapters], device=self._keys.device)
        self._kernels = kernels
        self._last: Laid | None = None

    def laid_out(self, which: torch.Tensor) -> Laid:
        """Of tokens that use adapters `which` [n]. Made once for as long as the same follow, step after step.

        Few get a copy of their adapter each; many are grouped by adapter, as copies would be larger than the model.
        """
        if self._kernels is not None:
            return Laid(which)
        if self._last is None or not torch.equal(self._last.which, which):
            used = which.unique().tolist()
            if len(which) < GROUPED * len(used) and len(which) * self._keys.shape[3] <= LAID_OUT:
                self._last = Laid(which, (self._keys[:, which], self._values[:, which]))
            else:
                groups = [(index, (which == index).nonzero()[:, 0]) for index in used]
                self._last = Laid(which, groups=groups)
        return self._last

    def term(self, layer: int, query: torch.Tensor, rows: torch.Tensor, laid: Laid) -> torch.Tensor:
        """Of the tokens `rows` of query [H, N, D], which were laid out -> [n, H, D]."""
        at = layer - self.first
        if self._kernels is not None:
            banks = self._keys[at], self._values[at], self._gate[at]
            return self._kernels.attend_side(query, rows, *banks, laid.which, self._lengths)
        return self._term(at, query[:, rows].transpose(0, 1), laid)

    def _term(self, at: int, query: torch.Tensor, laid: Laid) -> torch.Tensor:
        """The same in torch's operators, query [n, H, D]."""
        count, heads, size = query.shape
        kv_heads = self._keys.shape[2]
        grouped = (query * size**-0.5).reshape(count, kv_heads, heads // kv_heads, size)
        if laid.copies is not None:
            keys, values = (side[at] for side in laid.copies)
            found = _attended(grouped, keys, values, self._mask[laid.which] if self._padded else None)
        else:
            found = torch.empty_like(grouped)
            for index, mine in laid.groups:
                keys, values = self._keys[at, index], self._values[at, index]
                found[mine] = _attended(grouped[mine], keys, values, self._mask[index])
        return found.reshape(count, heads, size) * self._gate[at, laid.which]


def _attended(
    grouped: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """grouped [n, H_kv, G, D] over keys, values [(n,) H_kv, p, D] -> [n, H_kv, G, D]."""
    scores = (grouped @ keys.transpose(-2, -1)).float()
    weights = torch.softmax(scores if mask is None else scores + mask, -1).to(values.dtype)
    return weights @ values


class Side(Protocol):
    """Which tokens of a step's row are adapted: `rows` int64 [n]."""

    @property
    def rows(self) -> torch.Tensor: ...

    def term(self, layer: int, query: torch.Tensor) -> torch.Tensor | None:
        """query [H, N, D] -> what is to be added to `rows`, [n, H, D]; None below the adapted layers."""


@dataclass(frozen=True, slots=True)
class BankSide:
    """Tokens `rows` int64 [n], laid out in `bank`."""

    bank: Bank
    laid: Laid
    rows: torch.Tensor

    def term(self, layer: int, query: torch.Tensor) -> torch.Tensor | None:
        if layer < self.bank.first:
            return None
        return self.bank.term(layer, query, self.rows, self.laid)
