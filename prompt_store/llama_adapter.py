"""The official LLaMA-Adapter's checkpoint (Zhang et al., arXiv 2303.16199), its tensors saved as safetensors.

`adapter_query.weight [L_top * p, d]` and, for each adapted layer i, `layers.{i}.attention.gate [1, H, 1, 1]`: one gate
per head, before its tanh. Knows names and shapes; no model.
"""

import re
from collections.abc import Mapping

import numpy as np

from prompt_store.container import Tensor
from prompt_store.errors import PromptError
from prompt_store.metadata import MAX_LENGTH, Base, Kind
from prompt_store.prompt import SoftPrompt

QUERY = "adapter_query.weight"
GATE = re.compile(r"layers\.([0-9]{1,4})\.attention\.gate")


def is_official(tensors: Mapping[str, Tensor]) -> bool:
    return QUERY in tensors and len(tensors) > 1 and all(name == QUERY or GATE.fullmatch(name) for name in tensors)


def read_official(tensors: Mapping[str, Tensor], base: Base, kind: Kind | None) -> SoftPrompt:
    """Kind `adapter`: prompts from the lowest adapted layer up, gates as the multipliers they are, tanh applied."""
    gates = {int(match[1]): tensors[name] for name in tensors if (match := GATE.fullmatch(name))}
    query, count = tensors[QUERY], len(gates)
    if sorted(gates) != list(range(base.layers - count, base.layers)):
        raise PromptError("wrong_tensors", f"gates must stand on the topmost of {base.layers} layers")
    heads = gates[base.layers - 1].shape[1] if len(gates[base.layers - 1].shape) == 4 else 0
    length = query.shape[0] // count if len(query.shape) == 2 else 0
    if query.shape != (count * length, base.hidden) or not 1 <= length <= MAX_LENGTH or kind not in {None, "adapter"}:
        raise PromptError("wrong_shape", f"{QUERY} must have shape [{count} * length, {base.hidden}]")
    if any(gate.shape != (1, heads, 1, 1) for gate in gates.values()) or not heads:
        raise PromptError("wrong_shape", "each gate must have shape [1, heads, 1, 1]")
    if len({tensor.dtype for tensor in tensors.values()}) > 1:
        raise PromptError("bad_dtype", "all tensors of a file must have one dtype")
    stacked = np.stack([np.tanh(gates[layer].float32()[0, :, 0, 0]) for layer in sorted(gates)])
    prompts = Tensor(query.dtype, (count, length, base.hidden), query.data)
    return SoftPrompt("adapter", length, {"prompts": prompts, "gate": Tensor.from_float32(stacked, query.dtype)})
