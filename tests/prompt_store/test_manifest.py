"""A manifest gives back its Task, or Corrupt: no byte of it may differ."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_store import manifest
from prompt_store.errors import Corrupt
from prompt_store.manifest import _checksum
from prompt_store.task import Task
from tests.prompt_store.make import embeddings

FILE = embeddings(labels=("a", "ü"))
TASK = Task("intent", 3, "rollback", FILE.digest, 500, FILE.metadata, True, 1_700_000_000, "op-1", 2, 1)
TOMBSTONE = Task("intent", 4, "delete", None, 0, None, False, 1_700_000_001, "op-2", 3, None)


def test_a_manifest_gives_back_its_task() -> None:
    """Every field of a version survives, tombstones too; the text holds no user's path and ends nowhere else."""
    for task in (TASK, TOMBSTONE):
        assert manifest.read(manifest.write(task), "intent", task.version) == task


@given(st.integers(0, len(manifest.write(TASK)) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_corrupt(position: int, flip: int) -> None:
    """Any one byte of a manifest changed is noticed."""
    data = bytearray(manifest.write(TASK))
    data[position] ^= flip
    with pytest.raises(Corrupt):
        manifest.read(bytes(data), "intent", 3)


@given(st.integers(0, len(manifest.write(TASK)) - 1))
def test_a_truncated_manifest_is_corrupt(size: int) -> None:
    """A manifest cut anywhere, to nothing included, is noticed."""
    with pytest.raises(Corrupt):
        manifest.read(manifest.write(TASK)[:size], "intent", 3)


def test_a_manifest_in_another_place_is_corrupt() -> None:
    """A valid manifest copied to another task or version does not speak for it."""
    for name, version in (("other", 3), ("intent", 4)):
        with pytest.raises(Corrupt, match="another task or version"):
            manifest.read(manifest.write(TASK), name, version)


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"event": "purge"}, {"extra": 1}, {"metadata": {"format": 2}}, {"metadata": []}]
)
def test_what_a_newer_server_wrote_is_refused(change: dict[str, Any]) -> None:
    """A checksum that fits is not enough: an unknown form is refused, not guessed at (X7)."""
    fields = {**json.loads(manifest.write(TASK)), **change}
    del fields["checksum"]
    data = json.dumps({**fields, "checksum": _checksum(fields)}).encode()
    with pytest.raises(Corrupt):
        manifest.read(data, "intent", 3)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000])
def test_garbage_is_corrupt(data: bytes) -> None:
    """Whatever stands in a manifest's place, the answer is Corrupt."""
    with pytest.raises(Corrupt):
        manifest.read(data, "intent", 3)


@pytest.mark.parametrize("number", [b"1e999", b"NaN", b"-Infinity", b'"\\ud800"', b"1" * 5000])
def test_what_no_manifest_of_ours_holds_is_corrupt(number: bytes) -> None:
    """Numbers beyond all bounds, half a character: JSON takes them, the checksum cannot be made of them."""
    data = manifest.write(TASK).replace(b'"created":1700000000', b'"created":' + number)
    assert number in data
    with pytest.raises(Corrupt):
        manifest.read(data, "intent", 3)
