"""The container: every abuse of table U that concerns the header, and agreement with the library."""

import json
import time
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from safetensors.torch import save as save_torch

from prompt_store.container import HEADER_LIMIT, Tensor, parse_header, read, write
from prompt_store.errors import PromptError
from prompt_store.peft import convert
from prompt_store.prompt import check_fits
from tests.prompt_store.make import BASE, embeddings, raw, tensor

ROWS = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
GOOD = raw({"embeddings": ROWS}, bytes(16))


def entry(**changes: Any) -> bytes:
    """A file of one tensor of 16 bytes whose entry differs from a good one."""
    return raw({"embeddings": {**ROWS, **changes}}, bytes(16))


def two(first: list[int], second: list[int], size: int) -> bytes:
    """A file of two flat tensors at these offsets."""
    entries = {
        name: {"dtype": "F32", "shape": [(offsets[1] - offsets[0]) // 4], "data_offsets": offsets}
        for name, offsets in (("a", first), ("b", second))
    }
    return raw(entries, bytes(size))


ABUSES = {
    "U1 empty": (b"", "file_too_short"),
    "U2 seven bytes": (b"1234567", "file_too_short"),
    "U3 header of length 0": (bytes(16), "bad_header"),
    "U4 header of 2^63": ((2**63).to_bytes(8, "little") + b"{}", "header_too_large"),
    "U4 header of 2^64-1": (b"\xff" * 8, "header_too_large"),
    "U5 header over our limit": (raw(b"{}" + b" " * HEADER_LIMIT), "header_too_large"),
    "U6 header beyond the end": ((100).to_bytes(8, "little") + b"{}", "bad_header"),
    "U8 not JSON": (raw(b"{nope}"), "bad_header"),
    "U8 a list": (raw(b"[]"), "bad_header"),
    "U8 a number": (raw(b"12"), "bad_header"),
    "U9 not UTF-8": (raw(b'{"\xff":1}'), "bad_header"),
    "U9 lone surrogate in a name": (raw(b'{"\\ud800":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'), "bad_header"),
    "U9 lone surrogate in metadata": (raw(b'{"__metadata__":{"a":"\\ud800"}}'), "bad_header"),
    "U9 byte order mark": (raw(b"\xef\xbb\xbf{}"), "bad_header"),
    "U9 NUL padding": (raw(b"{}\0\0"), "bad_header"),
    "U10 leading blank": (raw(b" {}"), "bad_header"),
    "U10 leading newline": (raw(b"\n{}"), "bad_header"),
    "trailing newline": (raw(b"{}\n"), "bad_header"),
    "U11 the same name twice": (raw(b'{"a":%s,"a":%s}' % ((json.dumps(ROWS).encode(),) * 2), bytes(16)), "bad_header"),
    "U12 a name with two entries": (raw(b'{"a":1,"a":2}'), "bad_header"),
    "a key of an entry twice": (
        raw(b'{"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),
        "bad_header",
    ),
    "U14 an unknown key": (entry(extra=1), "bad_header"),
    "a missing key": (raw({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)), "bad_header"),
    "U15 metadata not a string": (raw({"__metadata__": {"softprompt": 1}}), "bad_header"),
    "U15 metadata nested": (raw({"__metadata__": {"softprompt": {}}}), "bad_header"),
    "U15 metadata null": (raw({"__metadata__": None}), "bad_header"),
    "U20 overlap": (two([0, 8], [4, 12], 12), "bad_header"),
    "U20 the same range twice": (two([0, 8], [0, 8], 8), "bad_header"),
    "U20 a hole": (two([0, 8], [12, 20], 20), "bad_header"),
    "U20 reversed": (entry(data_offsets=[16, 0]), "bad_header"),
    "U20 negative": (entry(data_offsets=[-16, 0]), "bad_header"),
    "U21 trailing bytes": (GOOD + b"PK\x03\x04", "bad_header"),
    "U22 a byte short": (GOOD[:-1], "bad_header"),
    "U22 a byte long": (GOOD + b"\0", "bad_header"),
    "U23 a product that overflows": (entry(shape=[2**32, 2**32]), "bad_header"),
    "U23 an overflow hidden by a zero": (entry(shape=[2**62, 2**62, 0], data_offsets=[0, 0]), "bad_header"),
    "U24 shape and bytes disagree": (entry(shape=[2, 3]), "bad_header"),
    "U25 a negative size": (entry(shape=[-2, -2]), "bad_header"),
    "U25 minus zero": (raw(b'{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'), "bad_header"),
    "U25 a float size": (entry(shape=[2.0, 2]), "bad_header"),
    "U25 a string size": (entry(shape=["2", 2]), "bad_header"),
    "U25 a bool size": (entry(shape=[True, 4]), "bad_header"),
    "U25 a size of 400 digits": (
        raw(b'{"a":{"dtype":"F32","shape":[1%s],"data_offsets":[0,0]}}' % (b"0" * 400)),
        "bad_header",
    ),
    "U25 NaN": (raw(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,0]}}'), "bad_header"),
    "U27 rank 10,000": (entry(shape=[1] * 10_000), "bad_header"),
    "U30 float64": (entry(dtype="F64", shape=[2]), "bad_dtype"),
    "U30 int8": (entry(dtype="I8", shape=[16]), "bad_dtype"),
    "U30 bool": (entry(dtype="BOOL", shape=[16]), "bad_dtype"),
    "U30 float8": (entry(dtype="F8_E4M3", shape=[16]), "bad_dtype"),
    "U30 complex": (entry(dtype="C64", shape=[2]), "bad_dtype"),
    "U30 unknown": (entry(dtype="F33"), "bad_dtype"),
    "U30 no string": (entry(dtype=32), "bad_header"),
    "U38 a pickle": (b"\x80\x04\x95" + bytes(40), "bad_header"),
    "U38 a zip": (b"PK\x03\x04" + bytes(40), "bad_header"),
    "U38 GGUF": (b"GGUF\x03\0\0\0" + bytes(40), "bad_header"),
    "U38 an LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "bad_header"),
    "U38 an error page": (b"<!DOCTYPE html><html></html>", "bad_header"),
    "nesting past the recursion limit": (raw(b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}"), "bad_header"),
}


def accepted_by_us(data: bytes) -> dict[str, Tensor] | None:
    """None where it is refused."""
    try:
        return read(data)[1]
    except PromptError:
        return None


def assert_library_agrees(data: bytes) -> None:
    """What we accept, the library reads as the same tensors."""
    ours = accepted_by_us(data)
    if ours is not None:
        theirs = {
            name: (info["dtype"], info["shape"], bytes(info["data"])) for name, info in safetensors.deserialize(data)
        }
        assert theirs == {name: (item.dtype, list(item.shape), item.data) for name, item in ours.items()}


@pytest.mark.parametrize("name", ABUSES)
def test_abuse_is_refused(name: str) -> None:
    """Each malformed file is refused with the code of the table, without an echo of its bytes."""
    data, code = ABUSES[name]
    with pytest.raises(PromptError) as caught:
        read(data)
    assert caught.value.code == code
    assert len(caught.value.message) < 200
    assert accepted_by_us(data) is None, "the library alone noticed"


def test_the_good_file_of_these_tests_is_good() -> None:
    """What the abuses deviate from is accepted, so that they fail for their own reason."""
    assert read(GOOD)[1]["embeddings"].shape == (2, 2)


def test_huge_header_costs_nothing() -> None:
    """A file with a 99 MB header is refused within 10 ms, by its first 8 bytes (U7)."""
    data = (99_000_000).to_bytes(8, "little") + b"{" + b" " * 98_999_999
    start = time.perf_counter()
    with pytest.raises(PromptError, match="65536"):
        read(data)
    assert time.perf_counter() - start < 0.01


def test_header_of_exactly_the_limit_is_read() -> None:
    """The cap is a limit, not a boundary crossed one byte early; one byte more is refused."""
    assert parse_header(raw(b"{}".ljust(HEADER_LIMIT))).size == HEADER_LIMIT + 8
    with pytest.raises(PromptError, match="65536"):
        parse_header(raw(b"{}".ljust(HEADER_LIMIT + 1)))


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=8), st.integers(0, 5), max_size=4))
def test_writer_agrees_with_the_library(text: str, sizes: dict[str, int]) -> None:
    """For float32 tensors our canonical bytes are the ones that safetensors writes."""
    sizes.pop("__metadata__", None)
    arrays = {name: np.arange(size, dtype=np.float32) for name, size in sizes.items()}
    ours = write({"softprompt": text}, {name: Tensor.from_float32(array) for name, array in arrays.items()})
    assert ours == save(arrays, {"softprompt": text})


def test_the_library_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """What our parser accepts and the library should refuse one day is refused, a file of ours and one of PEFT's."""
    ours, theirs = embeddings(), save({"prompt_embeddings": np.ones((3, 8), np.float32)})
    check_fits(ours, BASE, max_norm=100)
    convert(theirs, BASE)

    def refuse(_: bytes) -> None:
        raise safetensors.SafetensorError

    monkeypatch.setattr("prompt_store.container.safetensors.deserialize", refuse)
    with pytest.raises(PromptError, match="library"):
        check_fits(ours, BASE, max_norm=100)
    with pytest.raises(PromptError, match="library"):
        convert(theirs, BASE)


def test_writer_refuses_what_the_reader_would() -> None:
    """Metadata that do not fit the header are refused when written, not when read back."""
    with pytest.raises(PromptError) as caught:
        write({"softprompt": "x" * HEADER_LIMIT}, {})
    assert caught.value.code == "header_too_large"


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 40) | st.sampled_from(["F32", "BF16", "a", "é"]) | st.just(1e2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["dtype", "shape", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)
OFFSETS = st.tuples(st.sampled_from(range(0, 28, 4)), st.sampled_from(range(0, 28, 4))).map(list)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "nope"]),
        "shape": st.lists(st.integers(-1, 4), max_size=3),
        "data_offsets": OFFSETS,
    },
    optional={"extra": st.just(1)},
)
HEADERS = st.dictionaries(st.sampled_from(["a", "b", "", "__metadata__"]), ENTRIES | JSON_LIKE, max_size=3)


@given(HEADERS, st.integers(0, 32), st.sampled_from([b"", b" ", b"   ", b"\n", b"\0"]))
def test_we_accept_no_more_than_the_library(header: dict[str, Any], size: int, padding: bytes) -> None:
    """Of generated headers, none passes our parser that the library refuses or reads otherwise."""
    assert_library_agrees(raw(json.dumps(header).encode() + padding, bytes(range(size))))


@given(OFFSETS, OFFSETS, st.integers(0, 24))
def test_we_lay_tensors_out_as_the_library_does(first: list[int], second: list[int], size: int) -> None:
    """Of two tensors at any offsets we take exactly the layouts that the library takes."""
    data = two(first, second, size)
    assert_library_agrees(data)
    if accepted_by_us(data) is None:
        with pytest.raises(safetensors.SafetensorError):
            safetensors.deserialize(data)


@given(st.data())
def test_we_accept_no_more_than_the_library_of_damaged_files(data: st.DataObject) -> None:
    """Of good files with bytes changed, cut out or put in, none passes our parser that the library refuses."""
    good = write(
        {"softprompt": '{"a":"ü"}'}, {"b": tensor(2, 3), "a": tensor(1, dtype="F16"), "c": tensor(2, dtype="BF16")}
    )
    position = data.draw(st.integers(0, len(good) - 1))
    new = data.draw(st.binary(max_size=2))
    assert_library_agrees(good[:position] + new + good[position + data.draw(st.integers(0, 2)) :])


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=3))
def test_we_accept_every_plain_file_of_the_library(shapes: list[list[int]]) -> None:
    """Files as safetensors writes them from torch, of our three dtypes, are read as they are."""
    dtypes = [torch.float32, torch.float16, torch.bfloat16]
    tensors = {str(n): torch.ones(shape, dtype=dtypes[n]) for n, shape in enumerate(shapes)}
    ours = read(save_torch(tensors, {"format": "pt"}))[1]
    assert {name: item.shape for name, item in ours.items()} == {
        name: tuple(item.shape) for name, item in tensors.items()
    }


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_rounding_agrees_with_torch(values: list[float]) -> None:
    """float32 to float16 and bfloat16 and back gives what torch gives, or is refused as an overflow."""
    array = np.array(values, np.float32)
    for dtype, kind in (("F16", torch.float16), ("BF16", torch.bfloat16), ("F32", torch.float32)):
        theirs = torch.from_numpy(array).to(kind).to(torch.float32).numpy()
        if np.array_equal(np.isfinite(array), np.isfinite(theirs)):
            assert np.array_equal(Tensor.from_float32(array, dtype).float32(), theirs, equal_nan=True)  # type: ignore[arg-type]
        else:
            with pytest.raises(PromptError, match="too large"):
                Tensor.from_float32(array, dtype)  # type: ignore[arg-type]
