"""Attention over a packed batch: the tokens of all sequences on one row, each reading its own slot of the K/V cache.

Registered under a name of its own with transformers' `AttentionInterface`, so that the model's code stays as it is: it
is handed q, k, v after the rotary step for any family. transformers builds no mask for a name that has no mask function
of its own, and none is wanted: the plan knows who sees what. Knows the plan and the cache; no ids, no requests.
"""

import itertools
from typing import Any

import torch
from transformers import AttentionInterface

from server.engine.adapters import behind_projection
from server.engine.kernels import Kernels, Layer
from server.engine.kv import KVCache
from server.engine.plan import Plan
from server.engine.products import decode, prefill

_serial = itertools.count()


class PackedAttention:
    """One engine's attention function; `begin` comes before every forward pass."""

    def __init__(self, kv: KVCache, kernels: Kernels | None = None) -> None:
        self.kv = kv
        self._kernels = kernels
        self.plan: Plan
        self._late: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.name = f"softprompt-packed-{next(_serial)}"
        AttentionInterface.register(self.name, self)

    def __call__(  # noqa: PLR0913, PLR0917 - the signature is transformers'
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: None = None,  # noqa: ARG002 - there is none
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """query [1, H, N, D], key and value [1, H_kv, N, D] -> [1, N, H, D]."""
        plan = self.plan
        keys, values = self.kv.layers[int(module.layer_idx)]  # type: ignore[arg-type]
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        window = sliding_window or self.kv.positions
        layer = Layer(keys, values, self.kv.spans, scale, window, softcap)
        if self._kernels is None:
            out, segments = query.new_zeros(query.shape[2], query.shape[1], query.shape[3]), plan.segments
            if plan.decodes:
                out[: plan.decodes] = decode(plan, layer, query[0], key[0], value[0])
        else:
            out = self._kernels.attend(query[0], key[0], value[0], layer, plan.rows(query.shape[2]))
            segments = plan.branched
        for segment in segments:
            last = segment.first + segment.count
            q, k, v = (x[:, :, segment.first : last] for x in (query, key, value))
            out[segment.first : last] = prefill(segment, layer, q, k, v, apart=plan.apart)
        for side in plan.sides:
            term = side.term(int(module.layer_idx), query[0])  # type: ignore[arg-type]
            if term is not None and behind_projection(module):
                self._late.append((side.rows, term.flatten(1)))
            elif term is not None:
                out.index_add_(0, side.rows, term)
        return out[None], None

    def begin(self, plan: Plan) -> None:
        """Of every forward pass, whatever became of the last one."""
        self.plan = plan
        self._late.clear()

    def close(self) -> None:
        """Transformers forgets no name, so it is given another function for this one: it would keep the cache."""
        AttentionInterface.register(self.name, _closed)

    def add_late(self, _module: torch.nn.Module, _given: Any, output: tuple[torch.Tensor, Any]) -> None:
        """A forward hook of attentions whose adapters are added behind the output projection."""
        for rows, term in self._late:
            output[0][0].index_add_(0, rows, term)
        self._late.clear()


def _closed(*_given: Any, **_named: Any) -> tuple[torch.Tensor, None]:
    raise RuntimeError("the engine whose attention this was has been closed")
