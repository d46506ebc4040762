"""What yardsticks change inside of a base: low-rank terms of linear layers, bottlenecks behind a layer's modules.

Each row of a batch has its own. Hooks stand on a module from when it is first changed on, and do nothing while the
scene has nothing for it. Knows modules by name; not how changes are learnt.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuning.scene import Scene
from tuning.soft import Bottleneck, Change, LowRank

PROJECTIONS = ("q_proj", "v_proj", "c_attn", "query_key_value", "qkv_proj")
"""Linear layers that LoRA changes (queries and values, or all three where a family has them in one)."""
MODULES = ("self_attn", "attn", "attention", "mlp", "fc2")
"""Children of a decoder layer behind which an adapter of Houlsby's stands: attention and feed-forward."""


class Changes:
    """The hooks of one model; `scene` is that of the pass which runs."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = dict(model.named_modules())
        self._hooked: set[str] = set()
        self.scene: Scene | None = None

    def projections(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of every layer that LoRA changes, by name."""
        return {
            name: _sizes(module) for name, module in self._modules.items() if name.rsplit(".", 1)[-1] in PROJECTIONS
        }

    def behind(self) -> list[str]:
        """The modules behind which an adapter may stand, two a layer."""
        layers = [name for name in self._modules if name.rsplit(".", 1)[-1].isdecimal()]
        return [f"{layer}.{part}" for layer in layers for part in MODULES if f"{layer}.{part}" in self._modules]

    def watch(self, names: Sequence[str]) -> None:
        """Hooks where there are none yet."""
        for name in set(names) - self._hooked:
            self._hooked.add(name)
            self._modules[name].register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def changed(_module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
            scene = self.scene
            change = scene.changes.get(name) if scene is not None else None
            if scene is None or change is None:
                return None
            if isinstance(change, LowRank):
                return output + _through(given[0], change.down, change.up, scene)
            if isinstance(output, tuple):  # attention also returns its weights
                return (output[0] + _bottleneck(output[0], change, scene), *output[1:])
            return output + _bottleneck(output, change, scene)

        return changed


def stacked(of: Sequence[Mapping[str, Change]]) -> dict[str, Change]:
    """The changes of several soft prompts along a new first dimension; smaller ones are padded with zeros.

    A name that one of them lacks is changed by nothing there.
    """
    found: dict[str, Change] = {}
    for name in dict.fromkeys(name for one in of for name in one):
        held = [one.get(name) for one in of]
        kind = next(type(change) for change in held if change is not None)
        parts = {}
        for part in kind.__dataclass_fields__:
            parts[part] = _padded([None if change is None else getattr(change, part) for change in held])
        found[name] = kind(**parts)
    return found


def _padded(tensors: Sequence[Tensor | None]) -> Tensor:
    some = [tensor for tensor in tensors if tensor is not None]
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in some), strict=True)]
    whole = []
    for tensor in tensors:
        one = some[0].new_zeros(shape) if tensor is None else tensor
        edges = [edge for have, want in zip(one.shape[::-1], shape[::-1], strict=True) for edge in (0, want - have)]
        whole.append(nn.functional.pad(one, edges))
    return torch.stack(whole)


def _through(x: Tensor, down: Tensor, up: Tensor, scene: Scene) -> Tensor:
    """x [B, n, in] through down [K, r, in] and up [K, out, r], each row by its own."""
    if len(down) == 1:
        return x @ down[0].T @ up[0].T
    own = scene.owner
    return x @ down.index_select(0, own).transpose(1, 2) @ up.index_select(0, own).transpose(1, 2)


def _bottleneck(output: Tensor, change: Bottleneck, scene: Scene) -> Tensor:
    """Of output [B, n, d], or [B * n, d] as OPT has it."""
    own = scene.owner
    y = output.view(len(own), -1, output.shape[-1])
    down, inner, up, outer = (
        part.index_select(0, own) for part in (change.down, change.inner, change.up, change.outer)
    )
    held = torch.relu(y @ down.transpose(1, 2) + inner[:, None])
    return (held @ up.transpose(1, 2) + outer[:, None]).view_as(output)


def _sizes(module: nn.Module) -> tuple[int, int]:
    """GPT-2 keeps its weights the other way round."""
    sizes: Any = module.weight.shape
    return (sizes[1], sizes[0]) if isinstance(module, nn.Linear) else (sizes[0], sizes[1])
