"""Whether Triton's kernels run on this machine and say what torch says: tried before anybody is served with them.

Triton compiles at first use, with a C compiler and a folder of its own: an image may lack either, and a new version may
refuse what an old one took. Knows kernels and tensors; no model.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F

from server.engine.gpu.binding import DTYPES, GpuKernels
from server.engine.kernels import Layer, Rows, Run

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2**-5, torch.float16: 2**-7}
"""Largest difference to float64, of numbers of size 1."""
SPAN = 160
Draw = Callable[..., torch.Tensor]
"""Random numbers of the sizes that it is given, in the kernels' dtype, on their device."""


class Heads(NamedTuple):
    """Query heads, key heads, numbers of each: what tiles follow from, and what may be too large for a device."""

    q: int = 6
    kv: int = 2
    size: int = 64


def trouble(kernels: GpuKernels, device: torch.device, heads: Heads) -> str | None:
    """Why they are not to be used for such heads; None where they are."""
    try:
        off = [one for one in _differences(kernels, device, heads) if not one <= TOLERANCE[kernels.dtype]]  # NaN is off
    except Exception as error:  # noqa: BLE001 - Triton's, its compiler's, the driver's: they have no class in common
        said = str(error).strip().splitlines()
        return f"Triton's do not run here: {type(error).__name__}" + (f": {said[-1][:200]}" if said else "")
    return f"Triton's are off by {off[0]:.2g} here" if off else None


@torch.inference_mode()
def _differences(kernels: GpuKernels, device: torch.device, heads: Heads) -> Iterator[float]:
    """One of each kernel."""
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=generator).to(device, kernels.dtype)

    x, weight = draw(3, 96), draw(96)
    yield _off(kernels.norm(x, weight, 1e-5), F.rms_norm(x.double(), (96,), weight.double(), 1e-5))
    first, second = x.double().split(48, -1)
    yield _off(kernels.gate(x), F.silu(first) * second)
    best = x.max(-1).values.float()
    yield _off(kernels.log_sums(x, best), (x.double() - best[:, None]).logsumexp(-1))
    yield _off(*_rotated(kernels, draw, heads))
    yield _off(*_attended(kernels, draw, heads))
    yield _off(*_beside(kernels, draw, heads))


def _off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1.0))


def _rotated(kernels: GpuKernels, draw: Draw, heads: Heads) -> tuple[torch.Tensor, torch.Tensor]:
    """With norms of heads, as Qwen3 has them."""
    x, (cos, sin), (q, k) = draw(4, (heads.q + 2 * heads.kv) * heads.size), draw(2, 4, heads.size), draw(2, heads.size)
    plain = x.double().view(4, -1, heads.size)
    normed = F.rms_norm(plain, (heads.size,), None, 1e-5)
    normed[:, : heads.q] *= q.double()
    normed[:, heads.q :] *= k.double()
    turned = torch.cat([-normed[..., heads.size // 2 :], normed[..., : heads.size // 2]], -1)
    wanted = normed * cos.double()[:, None] + turned * sin.double()[:, None]
    wanted[:, heads.q + heads.kv :] = plain[:, heads.q + heads.kv :]
    kernels.rotate(x, cos, sin, heads.q, heads.kv, (q, k), 1e-5)
    return x, wanted.view(4, -1)


def _attended(kernels: GpuKernels, draw: Draw, heads: Heads) -> tuple[torch.Tensor, torch.Tensor]:
    """Two decodes and a run of five, with a window and capped scores."""
    places = [(0, SPAN - 1), (2, 3), *((1, 70 + i) for i in range(5))]
    keys, values = draw(3, heads.kv, SPAN, heads.size), draw(3, heads.kv, SPAN, heads.size)
    slots, positions = torch.tensor(places, device=keys.device).T.contiguous()
    q, k, v = draw(heads.q, 7, heads.size), draw(heads.kv, 7, heads.size), draw(heads.kv, 7, heads.size)
    layer = Layer(keys, values, torch.tensor([SPAN], device=keys.device), 0.1, 100, 30.0)
    found = kernels.attend(q, k, v, layer, Rows(slots, positions, 2, (Run(2, 5, 1, 70),)))
    rows = []
    keys[slots, :, positions], values[slots, :, positions] = k.transpose(0, 1), v.transpose(0, 1)
    for row, (slot, at) in enumerate(places):
        seen = slice(max(0, at - 99), at + 1)
        rows.append(_softmax(q[:, row], keys[slot, :, seen].double(), values[slot, :, seen].double(), 0.1, 30.0))
    return found, torch.stack(rows)


def _beside(kernels: GpuKernels, draw: Draw, heads: Heads) -> tuple[torch.Tensor, torch.Tensor]:
    """One token with an adapter of nine rows in the upper layer of two, and one without."""
    q, gate = draw(heads.q, 2, heads.size), draw(1, heads.q)
    keys, values = draw(1, heads.kv, 9, heads.size), draw(1, heads.kv, 9, heads.size)
    told = [[one.data_ptr() for one in (keys, values, gate)] + [1, 9], [0] * 5]
    table = torch.tensor(told, dtype=torch.int64).T.contiguous().to(q.device)
    found = kernels.attend_beside(q, torch.tensor([1, 0], device=q.device), table, 1, heads.kv)
    one = _softmax(q[:, 1], keys[0].double(), values[0].double(), heads.size**-0.5, None) * gate[0].double()[:, None]
    return found, torch.stack([one, torch.zeros_like(one)])


def _softmax(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float, softcap: float | None
) -> torch.Tensor:
    """q [H, D], keys and values [H_kv, T, D] -> float64 [H, D]."""
    keys, values = (side.repeat_interleave(len(q) // len(side), 0) for side in (keys, values))
    scores = scale * torch.einsum("hd,htd->ht", q.double(), keys)
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    return torch.einsum("ht,htd->hd", torch.softmax(scores, -1), values)


def kernels(dtype: torch.dtype, device: torch.device, heads: Heads) -> GpuKernels | str:
    """Those for tensors of `dtype` on `device`, or why there are none for such heads."""
    if dtype not in DTYPES:
        return f"none for {str(dtype).removeprefix('torch.')} on {device.type}"
    found = GpuKernels(dtype, torch.cuda.get_device_properties(device).multi_processor_count)
    return trouble(found, device, heads) or found
