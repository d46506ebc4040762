"""The base as a model of its own to learn on: other modules, the very same weights.

The engine's modules carry its attention function, fused layers and hooks; a job that learns has its own. What is copied
is structure, a few kilobytes a layer. Knows modules and tensors; nothing of what is learnt.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from server.engine.model import BaseModel
from server.engine.norms import FusedRMSNorm
from server.engine.packing import Part


def view(base: BaseModel) -> nn.Module:
    """To be called before an engine is built on `base`. Raises ValueError for weights that no gradient goes through."""
    if base.int8:
        raise ValueError("weights of 8 bits take no gradient: serve without --weights int8 to learn here")
    memo: dict[int, Any] = {id(tensor): tensor for tensor in _tensors(base.model)}
    memo |= {id(one): None for one in (*base.fused, base.kernels) if one is not None}
    copied = copy.deepcopy(base.model, memo)
    for module in copied.modules():
        if module.__dict__.get("forward", module) is None:  # where a fused layer had taken the place of its own code
            del module.forward
        if isinstance(module, FusedRMSNorm):
            module.kernels = None
    return copied


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """All that a model holds: parameters, buffers, and what packed layers keep beside them."""
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        holders = [module, module.together.whole] if isinstance(module, Part) else [module]
        for holder in holders:
            yield from (value for value in vars(holder).values() if isinstance(value, torch.Tensor))
