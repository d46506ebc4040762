"""Weights of 8 bits: close to the layer they stand for, the same bits whatever is beside a row, and a bad row's own."""

from pathlib import Path

import pytest
import torch
from torch import nn

from server.engine.checkpoint import BadBase
from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.native.binding import NativeKernels, kernels
from server.engine.packing import PackedLinear
from server.engine.quantized import Int8Linear, of_8_bits, quantize
from server.engine.request import Finished, Request, Sampling
from server.engine.settings import EngineSettings
from tests import models
from tests.server.engine import oracle, prompts

CPU = torch.device("cpu")
FOUND = kernels(torch.float32, CPU)
needs_int8 = pytest.mark.skipif(isinstance(FOUND, str) or not FOUND.int8, reason="no AVX512-VNNI kernels here")


def able(dtype: torch.dtype) -> NativeKernels:
    found = kernels(dtype, CPU)
    assert isinstance(found, NativeKernels)
    return found


def layer(inputs: int, outputs: int, *, bias: bool = False) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias).requires_grad_(requires_grad=False)


def test_quantizing_keeps_every_weight_within_half_a_step() -> None:
    """A scale for each output; one of nothing but zeros has none."""
    weight = layer(64, 40).weight.clone()
    weight[7] = 0
    whole, scales = quantize(weight)
    assert int(whole.abs().max()) == 127
    assert float((whole * scales[:, None] - weight).abs().max()) <= 0.5001 * float(scales.max())
    assert float(scales[7]) == 0


@needs_int8
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 7, 12, 13, 70])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 96), (100, 40), (576, 33)])
def test_the_kernel_multiplies_what_was_quantized(
    inputs: int, outputs: int, rows: int, bias: bool, dtype: torch.dtype
) -> None:
    """Against the same steps in float64: rows and weights rounded to 127 steps, nothing lost behind that."""
    linear = layer(inputs, outputs, bias=bias)
    x = 3 * torch.randn(1, rows, inputs, generator=torch.Generator().manual_seed(1)).to(dtype)
    residual = torch.randn(1, rows, outputs, generator=torch.Generator().manual_seed(2)).to(dtype)
    whole, scales = quantize(linear.weight)
    row_scales = x.double().abs().amax(-1, keepdim=True) / 127
    steps = (x.double() / row_scales).abs().add(0.5).floor() * x.double().sign()
    product = steps @ whole.double().T * row_scales * scales.double()
    if bias:
        product += linear.bias.double()
    packed = Int8Linear([linear], able(dtype))
    # a number exactly between two steps may go either way in float32
    tolerance = float(row_scales.max()) * float(linear.weight.abs().max()) + (0 if dtype == torch.float32 else 0.05)
    for found, wanted in ((packed(x), product), (packed.plus(x, residual), product + residual.double())):
        assert found.dtype == dtype
        assert float((found.double() - wanted).abs().max()) <= tolerance
        assert float((found.double() - wanted).abs().mean()) <= 0.1 * tolerance


@needs_int8
def test_no_row_minds_its_neighbours() -> None:
    """To the last bit, a row of NaN or infinity among them."""
    packed = Int8Linear([layer(64, 100)], able(torch.float32))
    x = torch.randn(1, 30, 64)
    together = packed(x)
    assert torch.equal(torch.cat([packed(x[:, row : row + 1]) for row in range(30)], 1), together)
    for bad in (torch.nan, torch.inf):
        x[0, 11, 3] = bad
        found = packed(x)
        assert found[0, 11].isnan().all()
        assert torch.equal(found[0, :11], together[0, :11])
        assert torch.equal(found[0, 12:], together[0, 12:])


@needs_int8
def test_several_layers_lie_side_by_side_and_odd_ones_stay_as_they_are() -> None:
    """Queries, keys and values as one; inputs that are no multiple of four."""
    parts = [layer(64, 40), layer(64, 24)]
    x = torch.randn(1, 3, 64)
    together = of_8_bits(parts, able(torch.float32))(x)
    alone = [of_8_bits([part], able(torch.float32))(x) for part in parts]
    assert torch.equal(together, torch.cat(alone, -1))
    assert isinstance(of_8_bits([layer(62, 40)], able(torch.float32)), PackedLinear)


@needs_int8
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", models.WIDE)
def test_a_base_of_8_bits_serves_every_kind(family: str, dtype: str, tmp_path: Path) -> None:
    """Mixed, with answers that end; and without a neighbour's influence where attention is native."""
    base = BaseModel.load(models.save(tmp_path / "base", family), device="cpu", dtype=dtype, weights="int8")
    assert base.int8
    engine = Engine(base, EngineSettings(max_batch=16, threads=1))
    engine.start()
    asked = []
    for number, kind in enumerate(prompts.kinds_of(base)):
        prompt = prompts.of_kind(kind, base.shape, 1)
        ids = prompts.ids_of(kind, prompt, prompts.text(number, 9))
        asked.append(Request(number, ids, Sampling(5, ignore_eos=True), prompt))
    assert all(isinstance(events[-1], Finished) for events in oracle.ask_all(engine, asked))
    engine.close()


@needs_int8
def test_logits_of_8_bits_are_near_the_bases_own(tmp_path: Path) -> None:
    """Correlated at .99 and more: another layout of the weights would give noise."""
    folder = models.save(tmp_path / "base", "llama")
    plain, coarse = (BaseModel.load(folder, device="cpu", dtype="float32", weights=kind) for kind in ("dtype", "int8"))
    assert len(coarse.fused) == coarse.shape.layers
    ids = torch.tensor([[0, 40, 41, 42, 43, 44, 45, 46]])
    with torch.inference_mode():
        pair = torch.stack([model.model(ids, use_cache=False).logits[0].flatten() for model in (plain, coarse)])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.99


def test_where_there_is_no_kernel_8_bits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, at the start."""
    folder = models.save(tmp_path / "base", "llama")
    monkeypatch.setattr(
        "server.engine.model.native_kernels", lambda *_: "they were not compiled when this was installed"
    )
    with pytest.raises(BadBase, match="--no-native"):
        BaseModel.load(folder, device="cpu", dtype="float32", weights="int8", native=False)
    with pytest.raises(BadBase, match="want native kernels: they were not compiled"):
        BaseModel.load(folder, device="cpu", dtype="float32", weights="int8")
