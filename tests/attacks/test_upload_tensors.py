"""Uploads whose header is right and whose tensors are not, and what only looks wrong: U27 to U38."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prompt_store import container
from prompt_store.container import Tensor
from prompt_store.metadata import Base, Metadata
from prompt_store.prompt import KEY
from tests.attacks.attack import Attack
from tests.attacks.files import CONTEXT, DATA, HIDDEN, array, last, tensor
from tests.attacks.victim import Lines, Victim, inside
from tests.models import save
from tests.server import poison
from tests.server.site import embeddings, peft_file

WIDE = 4096
LARGE = 90 * 2**20 // (4 * WIDE)
"""Hidden size and rows of a file that is nearly as large as an upload may be."""
PROMPT: dict[str, Any] = {"parameters": {"max_new_tokens": 3, "ignore_eos": True}, "inputs": "x"}


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory, lines: Lines) -> Iterator[Victim]:
    """A base whose layer norms overflow, and an operator who has lifted the bound on norms."""
    folder = save(tmp_path_factory.mktemp("gpt2"), "gpt2")
    with inside(folder, tmp_path_factory.mktemp("lenient"), lines, max_norm=1e300) as found:
        yield found


@pytest.fixture(scope="module")
def half(base_folder: Path, tmp_path_factory: pytest.TempPathFactory, lines: Lines) -> Iterator[Victim]:
    with inside(base_folder, tmp_path_factory.mktemp("half"), lines, dtype="float16") as found:
        yield found


@pytest.fixture(scope="module")
def strict(base_folder: Path, tmp_path_factory: pytest.TempPathFactory, lines: Lines) -> Iterator[Victim]:
    with inside(base_folder, tmp_path_factory.mktemp("strict"), lines, require_fingerprint=True) as found:
        yield found


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ([], "wrong_shape"),
        ([2 * HIDDEN], "wrong_shape"),
        ([1, 2, HIDDEN], "wrong_shape"),
        ([1] * 10_000, "bad_header"),
        ([1] * 100_000, "header_too_large"),
    ],
    ids=["0", "1", "3", "10,000", "100,000"],
)
def test_U27_another_rank(attack: Attack, shape: list[int], code: str) -> None:
    """Two dimensions, and no room for jokes."""
    items = 2 * HIDDEN if HIDDEN in shape or 2 * HIDDEN in shape else 1
    attack.refused(422, code, tensor(data=DATA[: 4 * items], shape=shape, data_offsets=[0, 4 * items]))


@pytest.mark.parametrize("width", [63, 65, 128, 1, WIDE])
def test_U28_another_hidden_size(attack: Attack, width: int) -> None:
    """Numbers, so that the uploader can see what is wrong."""
    files = [peft_file(np.ones((2, width))), embeddings(None, "{text}", 2, hidden=width).data]
    if width == WIDE:
        files += [peft_file(np.ones((LARGE, width))), large(1.0)]
    for data in files:
        message = attack.refused(422, "wrong_shape", data)["message"]
        assert str(HIDDEN) in message
        assert str(width) in message


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (peft_file(array(length=CONTEXT + 1)), "prompt_too_long"),
        (peft_file(array(length=16_385)), "wrong_shape"),
        (embeddings(None, "{text}", 10, defaults={"max_new_tokens": CONTEXT - 10}).data, "prompt_too_long"),
        (embeddings(None, "word " * 120 + "{text}", 10).data, "prompt_too_long"),
        (peft_file(array(length=0)), "wrong_shape"),
    ],
    ids=["context", "any prompt", "with max_new_tokens", "with its template", "no row"],
)
def test_U29_more_rows_than_there_is_room_for(attack: Attack, data: bytes, code: str) -> None:
    """Everything a request needs is counted when the task is published."""
    attack.refused(422, code, data)


@pytest.mark.parametrize(
    ("dtype", "items"),
    [("F64", 64), ("I8", 512), ("I32", 128), ("BOOL", 512), ("F8_E4M3", 512), ("F4", 1024), ("C64", 64), ("X1", 128)],
)
def test_U30_another_dtype(attack: Attack, dtype: str, items: int) -> None:
    """F32, F16 and BF16, and nothing that would have to be converted in silence."""
    attack.refused(422, "bad_dtype", tensor(dtype=dtype, shape=[1, items]))


PLACES = (
    "PEFT",
    "everywhere",
    "F16",
    "BF16",
    "large",
    *(f"{kind}/{name}" for kind in poison.KINDS for name in poison.tensors(kind)),
)


def spoilt(place: str, value: float) -> bytes:
    """A file with one number that is none, but for `everywhere`; in every kind and dtype, and nearly too large."""
    if place in {"PEFT", "everywhere"}:
        return last(value) if place == "PEFT" else peft_file(array(value))
    if place == "large":
        return large(value)
    if place in {"F16", "BF16"}:
        values = array()
        values[-1, -1] = value
        data = Tensor.from_float32(values, "F16" if place == "F16" else "BF16").data
        return tensor(data=bytes(data), dtype=place, data_offsets=[0, len(data)])
    kind, _, name = place.partition("/")
    (known,) = (one for one in poison.KINDS if one == kind)
    sound = poison.tensors(known)
    sound[name].reshape(-1)[-1] = value
    return poison.file_of(known, sound)


def large(last: float) -> bytes:
    """A file of ours for a wide base, as large as it may nearly be."""
    values = np.ones((LARGE, WIDE), np.float32)
    values[-1, -1] = last
    written = Tensor("F32", values.shape, values.tobytes())
    return container.write({KEY: Metadata("embeddings", LARGE, "{text}").to_json()}, {"embeddings": written})


NONE = (np.nan, np.inf, -np.inf)
SPOILT = [(place, value) for place in PLACES for value in NONE if place != "large" or np.isnan(value)]


@pytest.mark.parametrize(("place", "value"), [*SPOILT, ("PEFT", 70_000.0)])
def test_U31_numbers_that_are_none(attack: Attack, half: Victim, place: str, value: float) -> None:
    """The last one alone is enough. And finite in the file is not: a number must be finite in the base's dtype too."""
    if np.isfinite(value):
        attack.on(half).refused(422, "overflows_dtype", spoilt(place, value))
    else:
        attack.refused(422, "non_finite", spoilt(place, value))


@pytest.mark.parametrize("value", [2e5, 1e30, 1e38, -1e38, 3.4e38])
def test_U33_an_absurd_norm(attack: Attack, lenient: Victim, value: float) -> None:
    """Nothing later would notice; the operator may set the bound elsewhere."""
    assert "1e+06" in attack.refused(422, "norm_out_of_range", peft_file(array(value)))["message"]
    name = f"loud-{abs(value):g}-{value < 0}".replace("+", "")
    attack.on(lenient).accepted(201, peft_file(array(min(abs(value), 1e7))), task=name)


@pytest.mark.parametrize("value", [1e-40, 0.0, 1.0], ids=["denormals", "zeros", "equal rows"])
def test_U34_odd_but_legal(attack: Attack, value: float) -> None:
    """Learnt by nobody, harmless to everybody."""
    name = f"odd-{value:g}"
    attack.accepted(201, peft_file(array(value)), task=name)
    answer = attack.victim.http.post("/generate", json={**PROMPT, "task": name})
    assert (answer.status_code, answer.json()["usage"]["completion_tokens"]) == (200, 3)


@pytest.mark.parametrize("length", [1, 2, 8])
def test_U35_a_forward_pass_that_is_not_finite(attack: Attack, lenient: Victim, length: int) -> None:
    """Tried before it is published: refused, and forgotten by the engine."""
    attack.on(lenient).refused(422, "canary_failed", peft_file(array(3e38, length)))
    assert lenient.http.post("/generate", json=PROMPT).status_code == 200


@pytest.mark.parametrize("hidden", [HIDDEN, HIDDEN + 1])
def test_U36_another_base(attack: Attack, hidden: int) -> None:
    """By its fingerprint, whether or not its shape would fit."""
    other = Base("0" * 64, "other", hidden, 3, 2, 16)
    attack.refused(422, "wrong_base", embeddings(other, "{text}", 2, hidden=hidden).data)


@pytest.mark.parametrize("data", [peft_file(array()), embeddings(None, "{text}", 2).data], ids=["PEFT", "ours"])
def test_U37_no_base_named(attack: Attack, strict: Victim, data: bytes) -> None:
    """Taken as unverified where the shapes fit; the operator may require it."""
    answer = attack.accepted(201, data, task=f"unnamed-{len(data)}")
    assert (answer.json()["verified"], answer.json()["base"]) == (False, None)
    assert "requires" in attack.on(strict).refused(422, "wrong_base", data)["message"]


def archived(save_into: Any) -> bytes:
    stream = io.BytesIO()
    save_into(stream)
    return stream.getvalue()


OTHERS = {
    "pickle": pickle.dumps({"prompt_embeddings": [1.0] * 64}),
    "pickle of protocol 0": pickle.dumps({"prompt_embeddings": [1.0] * 64}, 0),
    "torch": archived(lambda stream: torch.save({"prompt_embeddings": torch.ones(2, HIDDEN)}, stream)),
    "torch of old": archived(
        lambda stream: torch.save({"a": torch.ones(2, HIDDEN)}, stream, _use_new_zipfile_serialization=False)
    ),
    "npz": archived(lambda stream: np.savez(stream, prompt_embeddings=array())),
    "npy": archived(lambda stream: np.save(stream, array())),
    "GGUF": b"GGUF\x03\0\0\0" + bytes(64),
    "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n",
    "error page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "JSON": b'{"error": "Repository not found"}',
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_U38_another_format(attack: Attack, data: bytes) -> None:
    """Nothing is opened to see what it is; the message says what is taken."""
    assert "safetensors" in attack.refused(422, "bad_header", data)["message"]
