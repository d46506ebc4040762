"""Uploads whose safetensors header is wrong: U01 to U25."""

import json
import time

import pytest

from prompt_store.metadata import Metadata
from tests.attacks.attack import Attack
from tests.attacks.files import DATA, GOOD, HEADER, HIDDEN, NAME, ROW, entry, file, pair, tensor

TWICE = b'{"%s":%s,"%s":%s}'
ENTRY = json.dumps(entry()).encode()
OTHER = json.dumps(entry(shape=[1, 2 * HIDDEN])).encode()
OURS = {"softprompt": Metadata("embeddings", 2, "{text}").to_json()}


def test_U01_an_empty_body(attack: Attack) -> None:
    """Nothing is no file."""
    attack.refused(422, "file_too_short")


@pytest.mark.parametrize("length", range(1, 8))
def test_U02_a_few_bytes(attack: Attack, length: int) -> None:
    """Too few for a header's length."""
    attack.refused(422, "file_too_short", GOOD[:length])


@pytest.mark.parametrize("rest", [b"", DATA], ids=["nothing", "data"])
def test_U03_a_header_of_length_0(attack: Attack, rest: bytes) -> None:
    """Whatever follows."""
    attack.refused(422, "bad_header", bytes(8) + rest)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**32])
def test_U04_a_header_that_claims_everything(attack: Attack, length: int) -> None:
    """The length is judged, never allocated."""
    attack.refused(422, "header_too_large", file(HEADER, DATA, length))


@pytest.mark.parametrize("size", [64 * 1024 + 1, 2**20, 99 * 10**6])
def test_U05_a_header_above_our_limit(attack: Attack, size: int) -> None:
    """Well-formed and padded: the library would take it."""
    attack.refused(422, "header_too_large", file(HEADER.ljust(size), DATA))


@pytest.mark.parametrize("kept", [8, 9, 40, len(GOOD) - len(DATA) - 1])
def test_U06_a_header_beyond_the_end(attack: Attack, kept: int) -> None:
    """An upload cut short."""
    attack.refused(422, "bad_header", GOOD[:kept])


def test_U07_a_header_of_99_megabytes(attack: Attack) -> None:
    """1.7 million empty tensors, on which the library alone spends seconds and gigabytes."""
    entries = b",".join(b'"t%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(1_700_000))
    data = file(b"{" + entries + b"}")
    began = time.monotonic()
    attack.refused(422, "header_too_large", data)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "header", [b"{not json}", b"{", b"[]", b"1", b"null", b'"{}"', b"{}{}", b'{"a":' + b"[" * 30_000]
)
def test_U08_a_header_that_is_no_json_object(attack: Attack, header: bytes) -> None:
    """Nested too deeply, too."""
    attack.refused(422, "bad_header", file(header, DATA))


@pytest.mark.parametrize(
    "header",
    [
        HEADER.replace(b'"pt"', b'"\xff"'),
        HEADER.replace(b'"pt"', rb'"\ud800"'),
        HEADER.replace(b'"format"', rb'"\udfff"'),
        b"\xef\xbb\xbf" + HEADER,
        HEADER + bytes(8),
        HEADER.decode().encode("utf-16-le"),
    ],
    ids=["not UTF-8", "half a surrogate", "half a surrogate as a name", "BOM", "NUL", "UTF-16"],
)
def test_U09_a_header_of_other_characters(attack: Attack, header: bytes) -> None:
    """UTF-8, padded with spaces, and nothing else."""
    attack.refused(422, "bad_header", file(header, DATA))


@pytest.mark.parametrize("blank", [b" ", b"\n", b"\t", b" " * 64])
def test_U10_blanks_before_the_header(attack: Attack, blank: bytes) -> None:
    """The library takes them."""
    attack.refused(422, "bad_header", file(blank + HEADER, DATA))


def test_U11_a_tensor_twice(attack: Attack) -> None:
    """The same entry: the library takes the last one."""
    name = NAME.encode()
    attack.refused(422, "bad_header", file(TWICE % (name, ENTRY, name, ENTRY), DATA))


@pytest.mark.parametrize("spelt", [NAME, rb"prompt_embedding\u0073".decode()])
def test_U12_a_name_with_two_entries(attack: Attack, spelt: str) -> None:
    """Also where the name is spelt with an escape."""
    attack.refused(422, "bad_header", file(TWICE % (NAME.encode(), ENTRY, spelt.encode(), OTHER), DATA))


@pytest.mark.parametrize("more", [{"extra": 1}, {"DTYPE": "F32"}, {"": None}])
def test_U14_an_unknown_key(attack: Attack, more: dict[str, object]) -> None:
    """The library passes it over."""
    attack.refused(422, "bad_header", file({NAME: entry() | more}, DATA))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"softprompt": 1}, "bad_header"),
        ({"format": None}, "bad_header"),
        ({"softprompt": {"format": 1}}, "bad_header"),
        ({"softprompt": ["a"]}, "bad_header"),
        ("format", "bad_header"),
        ([], "bad_header"),
        ({"softprompt": "x" * 2**20}, "header_too_large"),
    ],
    ids=["number", "null", "nested", "list", "a string itself", "a list itself", "1 MB"],
)
def test_U15_metadata_that_are_none(attack: Attack, value: object, code: str) -> None:
    """Strings by strings, within the header's limit."""
    attack.refused(422, code, file({"__metadata__": value, NAME: entry()}, DATA))


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, OURS], ids=["none", "PEFT", "ours"])
def test_U16_no_tensors(attack: Attack, metadata: dict[str, str]) -> None:
    """A file that brings none must be of kind text."""
    attack.refused(422, "wrong_tensors", file({"__metadata__": metadata}))
    text = file({"__metadata__": {"softprompt": Metadata("text", 0, "say {text}").to_json()}})
    assert attack.accepted(201, text, task=f"text-of-{len(metadata)}-{len(str(metadata))}").json()["length"] == 0


@pytest.mark.parametrize("metadata", [{"format": "pt"}, OURS], ids=["PEFT", "ours"])
def test_U17_another_tensor(attack: Attack, metadata: dict[str, str]) -> None:
    """The message names the one that is expected."""
    error = attack.refused(422, "wrong_tensors", file({"__metadata__": metadata, "weights": entry()}, DATA))
    assert ("embeddings" if metadata is OURS else NAME) in error["message"]


@pytest.mark.parametrize(("metadata", "right"), [({"format": "pt"}, NAME), (OURS, "embeddings")], ids=["PEFT", "ours"])
def test_U18_one_tensor_too_many(attack: Attack, metadata: dict[str, str], right: str) -> None:
    """Though the right one is there."""
    more = entry(shape=[1], data_offsets=[2 * ROW, 2 * ROW + 4])
    attack.refused(
        422, "wrong_tensors", file({"__metadata__": metadata, right: entry(), "more": more}, DATA + bytes(4))
    )


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "", "n" * 10_240, "\0\x1b[31m\n", "prompt_embeddings\0"])
def test_U19_a_tensor_of_another_name(attack: Attack, name: str) -> None:
    """A name is compared and opens nothing."""
    attack.refused(422, "wrong_tensors", tensor(name))


@pytest.mark.parametrize(
    "data",
    [
        pair([0, 2 * ROW], [ROW, 3 * ROW], 3 * ROW),
        pair([0, 2 * ROW], [0, 2 * ROW], 2 * ROW),
        pair([0, 2 * ROW], [3 * ROW, 5 * ROW], 5 * ROW),
        pair([4, 4 + 2 * ROW], [4 + 2 * ROW, 4 + 4 * ROW], 4 + 4 * ROW),
        tensor(data_offsets=[2 * ROW, 0]),
        tensor(data_offsets=[-2 * ROW, 0]),
        tensor(data_offsets=[0, 2 * ROW, 2 * ROW]),
        tensor(data_offsets=[0]),
    ],
    ids=["overlap", "twice", "hole", "hole in front", "reversed", "negative", "three", "one"],
)
def test_U20_offsets_that_cannot_be(attack: Attack, data: bytes) -> None:
    """Every byte belongs to exactly one tensor."""
    attack.refused(422, "bad_header", data)


@pytest.mark.parametrize("more", [b"PK\x03\x04" + bytes(64), GOOD, b"\n"])
def test_U21_something_appended(attack: Attack, more: bytes) -> None:
    """A file that is another one as well."""
    attack.refused(422, "bad_header", GOOD + more)


@pytest.mark.parametrize("data", [GOOD[:-1], GOOD + b"\0"], ids=["short", "long"])
def test_U22_one_byte_off(attack: Attack, data: bytes) -> None:
    """Either way."""
    attack.refused(422, "bad_header", data)


@pytest.mark.parametrize("shape", [[2**32, 2**32], [2**62, 4], [2**62, 2**62, 0], [2**63]])
def test_U23_a_shape_that_overflows(attack: Attack, shape: list[int]) -> None:
    """Modulo 2^64 the first two are nothing."""
    attack.refused(422, "bad_header", tensor(data=b"", shape=shape, data_offsets=[0, 0]))
    attack.refused(422, "bad_header", tensor(shape=shape))


@pytest.mark.parametrize("shape", [[3, HIDDEN], [1, HIDDEN], [2, HIDDEN + 1], [0, HIDDEN]])
def test_U24_a_shape_that_is_not_its_bytes(attack: Attack, shape: list[int]) -> None:
    """Too many and too few."""
    attack.refused(422, "bad_header", tensor(shape=shape))


@pytest.mark.parametrize("size", ["-2", "2.0", '"2"', "true", "1" + "0" * 400, "null", "-0", "NaN", "2e0"])
def test_U25_a_size_that_is_none(attack: Attack, size: str) -> None:
    """Whole numbers, written as such."""
    header = HEADER.replace(b"[2,", f"[{size},".encode())
    assert header != HEADER
    attack.refused(422, "bad_header", file(header, DATA))
