"""Prompt files from strangers (the U rows of the catalogue): 422 with what was wrong, and nothing changes."""

import gzip
import io
import json
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest

from prompt_store.metadata import Base
from tests.server.site import Site, embeddings, peft_file

HIDDEN = 64


def with_header(header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape: list[Any], size: int, dtype: str = "F32", **more: Any) -> dict[str, Any]:
    return {"prompt_embeddings": {"dtype": dtype, "shape": shape, "data_offsets": [0, size], **more}}


def array(value: float = 1.0, length: int = 2) -> np.ndarray[Any, Any]:
    return np.full((length, HIDDEN), value, np.float32)


def last(value: float) -> bytes:
    values = array()
    values[-1, -1] = value
    return peft_file(values)


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return stream.getvalue()


GOOD = peft_file(array())
HEADER = int.from_bytes(GOOD[:8], "little")
TWICE = (
    b'{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}'
)

FILES: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"x",
    "seven bytes": b"x" * 7,
    "header of 0": bytes(8),
    "header of 2^63": (2**63).to_bytes(8, "little") + b"{}",
    "header of 2^64-1": b"\xff" * 8 + b"{}",
    "header over 64 KB": with_header(b" " * 70_000),
    "header beyond the end": GOOD[:8] + GOOD[8:40],
    "header not JSON": with_header(b"{not json}"),
    "header a list": with_header(b"[]"),
    "header a number": with_header(b"1"),
    "header not UTF-8": with_header(b'{"\xff": 1}'),
    "half a surrogate": with_header(b'{"__metadata__":{"a":"\\ud800"}}'),
    "BOM": with_header(b"\xef\xbb\xbf{}"),
    "leading blank": with_header(b" " + GOOD[8 : 8 + HEADER], GOOD[8 + HEADER :]),
    "tensor twice": with_header(TWICE, bytes(4)),
    "extra key": with_header(entry([1, HIDDEN], 4 * HIDDEN, more=1), bytes(4 * HIDDEN)),
    "metadata not a string": with_header({"__metadata__": {"softprompt": 1}}),
    "metadata nested": with_header({"__metadata__": {"softprompt": {}}}),
    "no tensors": with_header({"__metadata__": {"format": "pt"}}),
    "another tensor": with_header({"weights": entry([1, HIDDEN], 256)["prompt_embeddings"]}, bytes(256)),
    "a path for a name": with_header({"../../x": entry([1, HIDDEN], 256)["prompt_embeddings"]}, bytes(256)),
    "reversed offsets": with_header({"a": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 0]}}, bytes(4)),
    "negative offsets": with_header({"a": {"dtype": "F32", "shape": [1, 1], "data_offsets": [-4, 0]}}, bytes(4)),
    "trailing bytes": GOOD + b"PK\x03\x04",
    "one byte short": GOOD[:-1],
    "shape overflow": with_header(entry([2**32, 2**32], 4), bytes(4)),
    "shape is not the bytes": with_header(entry([3, HIDDEN], 256), bytes(256)),
    "negative size": with_header(entry([-1, HIDDEN], 256), bytes(256)),
    "float size": with_header(entry([1.0, HIDDEN], 256), bytes(256)),
    "true size": with_header(entry([True, HIDDEN], 256), bytes(256)),
    "huge size": with_header(b'{"a":{"dtype":"F32","shape":[1' + b"0" * 400 + b'],"data_offsets":[0,4]}}', bytes(4)),
    "rank 0": with_header(entry([], 4), bytes(4)),
    "rank 1": with_header(entry([HIDDEN], 256), bytes(256)),
    "rank 3": with_header(entry([1, 1, HIDDEN], 256), bytes(256)),
    "rank 1,000": with_header(entry([1] * 1000, 4), bytes(4)),
    "no rows": with_header(entry([0, HIDDEN], 0)),
    "wrong width": peft_file(np.ones((2, 63))),
    "longer than the context": peft_file(array(length=300)),
    "F64": with_header(entry([1, HIDDEN], 512, "F64"), bytes(512)),
    "I8": with_header(entry([1, HIDDEN], 64, "I8"), bytes(64)),
    "unknown dtype": with_header(entry([1, HIDDEN], 256, "X1"), bytes(256)),
    "NaN": last(np.nan),
    "Inf": last(np.inf),
    "-Inf": last(-np.inf),
    "absurd norm": peft_file(array(1e30)),
    "finite but overflowing": peft_file(array(3.4e38)),
    "pickle": pickle.dumps({"a": 1}),
    "zip": zipped(),
    "GGUF": b"GGUF\x03\0\0\0" + bytes(64),
    "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n",
    "HTML": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "gzip without saying so": gzip.compress(GOOD),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_bad_file_is_422_and_changes_nothing(site: Site, data: bytes) -> None:
    """In the one error shape, short, and the version that was current stays it."""
    before = site.publish("target", "play {text}")
    answer = site.http.put("/tasks/target", content=data)
    assert answer.status_code == 422, answer.text
    assert len(answer.content) < 4096
    assert site.http.get("/tasks/target").json()["version"] == before["version"]


def test_a_prompt_for_another_base_is_refused(site: Site) -> None:
    """By its fingerprint, though its shape would fit; one without a fingerprint is taken, unverified."""
    other = Base("0" * 64, "other", HIDDEN, 3, 2, 16)
    answer = site.http.put("/tasks/other", content=embeddings(other, "{text}", 2).data)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "wrong_base")
    unnamed = site.http.put("/tasks/other", content=embeddings(None, "{text}", 2).data)
    assert (unnamed.status_code, unnamed.json()["verified"]) == (201, False)


def test_a_wrong_width_states_expected_and_got(site: Site) -> None:
    """Numbers, so that the uploader can see what is wrong."""
    error = site.http.put("/tasks/width", content=peft_file(np.ones((2, 63)))).json()["error"]
    assert error["code"] == "wrong_shape"
    assert "63" in error["message"]
    assert str(HIDDEN) in error["message"]


def test_odd_but_legal_values_are_taken(site: Site) -> None:
    """All zeros, denormals, equal rows: learnt by nobody, harmless to everybody."""
    for number, value in enumerate((0.0, 1e-40, 1.0)):
        assert site.http.put(f"/tasks/odd-{number}", content=peft_file(array(value))).status_code == 201


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"template": "{"}, 422),
        ({"template": "{soft:2}{text}"}, 422),
        ({"template": "{text}", "labels": []}, 422),
        ({"template": "{text}", "labels": ["a", "a"]}, 422),
        ({"template": "{text}", "defaults": {"seed": 1}}, 422),
        ({"template": "{text}", "defaults": {"max_new_tokens": 0}}, 422),
        ({"template": "word " * 300 + "{text}"}, 422),
        ({"template": "{text}", "defaults": {"max_new_tokens": 1000}}, 422),
        ({"template": 1}, 400),
        ({"template": None}, 400),
        ({}, 400),
        ({"template": "{text}", "kind": "embeddings"}, 400),
        ({"template": "{text}", "length": 0}, 400),
        ({"template": "{text}", "metrics": {"a": "b"}}, 422),
        ({"tempalte": "{text}"}, 400),
        ([], 400),
    ],
)
def test_a_bad_text_task_is_refused(site: Site, body: Any, status: int) -> None:
    """A body of another shape is 400, a task that cannot be is 422."""
    answer = site.http.put("/tasks/bad-text", json=body)
    assert answer.status_code == status, answer.text
    assert site.http.get("/tasks/bad-text").status_code == 404
