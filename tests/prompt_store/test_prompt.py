"""The prompt file: read and written strictly, and refused where the base cannot run it."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from prompt_store.container import DType, write
from prompt_store.errors import PromptError
from prompt_store.metadata import Metadata
from prompt_store.prompt import KEY, PromptFile, SoftPrompt, Tensor, build, check_fits, parse
from tests.prompt_store.make import BASE, HIDDEN, embeddings, raw, tensor, text_task

NORM = 1e4


def file_of(tensors: dict[str, Tensor], *, kind: str = "embeddings", length: int = 3) -> bytes:
    """Bytes that claim `kind`, whatever the tensors are."""
    fields = {"format": 1, "kind": kind, "length": length, "template": "{input}"}
    return write({KEY: json.dumps(fields)}, tensors)


def code_of(data: bytes) -> str:
    """How `parse` refuses."""
    with pytest.raises(PromptError) as caught:
        parse(data)
    return caught.value.code


def prefix(**shapes: tuple[int, ...]) -> PromptFile:
    """A prefix file for BASE, its tensors' shapes changed at will."""
    whole = (BASE.layers, BASE.kv_heads, 3, BASE.head_dim)
    tensors = {name: tensor(*shapes.get(name, whole)) for name in ("key", "value")}
    return build(SoftPrompt("prefix", 3, tensors), Metadata("prefix", 3, "{input}"))


def adapter(layers: int = 2, length: int = 3, hidden: int = HIDDEN, gate: tuple[int, ...] | None = None) -> PromptFile:
    """An adapter file."""
    tensors = {"prompts": tensor(layers, length, hidden), "gate": tensor(*(gate or (layers, 1)))}
    return build(SoftPrompt("adapter", length, tensors), Metadata("adapter", length, "{input}"))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_build_and_parse_are_inverse(dtype: DType) -> None:
    """A built file parses to what it was built from, and building that again gives the same bytes and digest."""
    file = embeddings(dtype=dtype, labels=("a", "ü"), metrics={"f1": 0.5})
    again = parse(file.data)
    assert again == file
    assert build(again.prompt, again.metadata).data == file.data
    assert file.digest == hashlib.sha256(file.data).hexdigest()
    assert np.array_equal(again.prompt.tensors["embeddings"].float32(), tensor(3, HIDDEN, dtype=dtype).float32())


def test_digest_of_a_known_file() -> None:
    """The format is fixed to the byte: this digest may only change with a new `format`."""
    tensors = {"embeddings": Tensor.from_float32(np.arange(4, dtype=np.float32).reshape(2, 2))}
    file = build(SoftPrompt("embeddings", 2, tensors), Metadata("embeddings", 2, "{input}"))
    assert file.digest == KNOWN


KNOWN = "4c210ae0dee556f720c51df407c6e8581a6420ff752c46eea7b60bec9c42279a"


def test_every_metadata_change_is_another_digest() -> None:
    """The digest covers the header: a task with another template is another version."""
    assert len({embeddings(template=text).digest for text in ("{input}", "{input} ", "{soft:3}{input}")}) == 3


def test_file_of_another_writer_is_kept_as_it_came() -> None:
    """A file with a softprompt key is ours whoever wrote it; its bytes and digest are not touched."""
    text = json.dumps({"format": 1, "kind": "embeddings", "length": 2, "template": "{a}"}, indent=1)
    data = save({"embeddings": np.ones((2, 4), np.float32)}, {KEY: text})
    assert parse(data).data == data


def test_all_kinds_are_read() -> None:
    """text, embeddings, prefix and adapter are formats of the file; which are served is the server's affair."""
    for file in (text_task(), embeddings(), prefix(), adapter()):
        assert parse(file.data).prompt.kind == file.metadata.kind


def test_metadata_must_be_the_one_key() -> None:
    """No softprompt key, or another beside it, is no file of ours."""
    assert code_of(write({}, {})) == "bad_metadata"
    assert code_of(write({"format": "pt"}, {"embeddings": tensor(3, 8)})) == "bad_metadata"
    assert (
        code_of(write({KEY: embeddings().metadata.to_json(), "x": ""}, {"embeddings": tensor(3, 8)})) == "bad_metadata"
    )


def test_wrong_tensors_are_named() -> None:
    """None, one of another name, and one beside the right one are refused, naming the right one (U16-U19)."""
    rows = tensor(3, 8)
    for tensors in ({}, {"prompt": rows}, {"../../x": rows}, {"": rows}, {"embeddings": rows, "x": rows}):
        with pytest.raises(PromptError, match="embeddings") as caught:
            parse(file_of(tensors))
        assert caught.value.code == "wrong_tensors"
    assert code_of(file_of({"embeddings": rows}, kind="text", length=0)) == "wrong_tensors"


@pytest.mark.parametrize("shape", [(), (3,), (3, 8, 1), (1,) * 8, (2, 8), (4, 8), (3, 0)])
def test_wrong_shapes_inside_the_file(shape: tuple[int, ...]) -> None:
    """Ranks other than 2, lengths other than the metadata's and empty rows are refused (U27)."""
    assert code_of(file_of({"embeddings": tensor(*shape)})) == "wrong_shape"


def test_dtypes_are_not_mixed() -> None:
    """All tensors of a file have one dtype."""
    whole = (3, 2, 3, 4)
    assert code_of(file_of({"key": tensor(*whole), "value": tensor(*whole, dtype="F16")}, kind="prefix")) == "bad_dtype"


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, -1])
def test_non_finite_values_are_refused(dtype: DType, value: float, place: int) -> None:
    """One NaN or infinity anywhere, the last element included, is refused (U31)."""
    array = np.zeros((3, 8), np.float32)
    array.flat[place] = value
    assert code_of(file_of({"embeddings": Tensor.from_float32(array, dtype)})) == "non_finite"


def test_legal_oddities_are_accepted() -> None:
    """Denormals, zeros and equal rows are values like any other (U34)."""
    for value in (0.0, 1e-40, 1.0):
        array = np.full((3, HIDDEN), value, np.float32)
        assert check_fits(parse(file_of({"embeddings": Tensor.from_float32(array)})), BASE, max_norm=NORM) is False


def test_template_is_checked_with_the_file() -> None:
    """Slots that do not add up to the length are a bad template on upload, not at the first request."""
    with pytest.raises(PromptError) as caught:
        embeddings(3, template="{soft:2}{input}")
    assert caught.value.code == "bad_template"


def refusal(file: PromptFile, **options: Any) -> PromptError:
    """How `check_fits` refuses a file for BASE."""
    with pytest.raises(PromptError) as caught:
        check_fits(file, BASE, **{"max_norm": NORM, **options})
    return caught.value


def test_fit_needs_the_width_of_the_base() -> None:
    """Rows of another width are refused with expected and got (U28)."""
    error = refusal(embeddings(3, HIDDEN + 1))
    assert error.code == "wrong_shape"
    assert "8" in error.message
    assert "9" in error.message


def test_fit_of_prefix_and_adapter() -> None:
    """Each size of the K/V kinds is compared with the base's."""
    assert check_fits(prefix(), BASE, max_norm=NORM) is False
    assert check_fits(adapter(3), BASE, max_norm=NORM) is False
    for shape in ((2, 2, 3, 4), (3, 1, 3, 4), (3, 2, 3, 5)):
        assert refusal(prefix(key=shape, value=shape)).code == "wrong_shape"
    for file in (adapter(4), adapter(hidden=9)):
        assert refusal(file).code == "wrong_shape"
    for shapes in ({"value": (3, 2, 3, 5)}, {"key": (3, 2, 4, 4)}, {"key": (3, 2, 3)}):
        with pytest.raises(PromptError, match="shape"):
            prefix(**shapes)
    with pytest.raises(PromptError, match="gate"):
        adapter(2, gate=(3, 1))


def test_fingerprint_decides() -> None:
    """Another fingerprint is refused, the same is verified, none is accepted unless the operator requires one."""
    named = embeddings(base=BASE)
    assert check_fits(named, BASE, max_norm=NORM, require_fingerprint=True) is True
    assert refusal(embeddings(base=replace(BASE, fingerprint="cd" * 32))).code == "wrong_base"
    assert check_fits(embeddings(), BASE, max_norm=NORM) is False
    assert refusal(embeddings(), require_fingerprint=True).code == "wrong_base"
    assert check_fits(text_task(), BASE, max_norm=NORM, require_fingerprint=True) is False


def of_value(value: float, dtype: DType = "F32") -> PromptFile:
    """Three rows with one value each."""
    array = np.zeros((3, HIDDEN), np.float32)
    array[:, 1] = value
    prompt = SoftPrompt("embeddings", 3, {"embeddings": Tensor.from_float32(array, dtype)})
    return build(prompt, Metadata("embeddings", 3, "{input}"))


def test_values_must_survive_the_cast() -> None:
    """What is finite in the file and infinite in the base's dtype is refused (1e5 in float16, 3.4e38 in bfloat16)."""
    assert refusal(of_value(1e5), dtype="F16", max_norm=1e40).code == "overflows_dtype"
    assert refusal(of_value(3.4e38), dtype="BF16", max_norm=1e40).code == "overflows_dtype"
    assert check_fits(of_value(65504.0), BASE, dtype="F16", max_norm=1e40) is False
    assert check_fits(of_value(3.38e38), BASE, dtype="BF16", max_norm=1e40) is False
    assert check_fits(of_value(3.4e38), BASE, dtype="F32", max_norm=1e40) is False


def test_absurd_norms_are_refused() -> None:
    """A row of norm 1e38 gives finite logits, so only a bound notices it; Lester's 1,385 pass (U33)."""
    assert refusal(of_value(1e38)).code == "norm_out_of_range"
    assert refusal(of_value(-2e4)).code == "norm_out_of_range"
    assert check_fits(of_value(1385.0), BASE, max_norm=NORM) is False


def test_garbage_is_refused() -> None:
    """Bytes that are no safetensors file at all raise PromptError and nothing else."""
    for data in (b"", b"x" * 100, raw({"__metadata__": {KEY: "{"}})):
        assert code_of(data) in {"file_too_short", "bad_header", "bad_metadata"}
