"""Texts that requests of one soft prompt begin with alike: instructions or a document are read once, not each time.

A sequence that starts finds the longest beginning that one in a slot, or one gone before, has in common with it; its
keys and values are copied. What two requests had in common outlives them, least recently used leaving first. Beginnings
are counted in blocks of `BLOCK` ids and known by a BLAKE2b chain over soft prompt and ids, as vLLM's prefix cache does.
Knows ids, sequences and opaque values; no tensors, and never shares between two soft prompts.
"""

import hashlib
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from server.engine.sequence import Sequence

BLOCK = 32
WORTH_WAITING = 2 * BLOCK
"""Ids of a beginning that a sequence waits for while another one is still reading them."""
MAX_SEEN = 65_536


@dataclass(frozen=True, slots=True)
class Kept:
    """Keys and values of a beginning that outlived its sequences, [L, 2, H_kv, length, D]."""

    kv: Any
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first `length` ids' keys and values: in the slot of `source`, a sequence, or kept. `ready` False: soon."""

    length: int
    source: Any
    ready: bool = True


def chain(sequence: Sequence) -> tuple[bytes, ...]:
    """A key for every whole block of the sequence's prompt but its last id; equal keys mean equal beginnings."""
    ids = sequence.request.ids
    key = hashlib.blake2b(sequence.digest.encode(), digest_size=16).digest()
    keys = []
    for end in range(BLOCK, len(ids), BLOCK):
        key = hashlib.blake2b(array("q", ids[end - BLOCK : end]).tobytes(), key=key, digest_size=16).digest()
        keys.append(key)
    return tuple(keys)


class Texts:
    """Within `budget` bytes; 0 keeps nothing and shares among running sequences only."""

    def __init__(self, budget: int, position_bytes: int) -> None:
        self.bytes = 0
        self._budget = budget
        self._position_bytes = position_bytes
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._reader: dict[bytes, Sequence] = {}
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def find(self, sequence: Sequence, shared: int) -> Beginning | None:
        """The longest beginning known that is longer than the `shared` ids which the sequence has anyway."""
        for number in range(len(sequence.chain), shared // BLOCK, -1):
            key, length = sequence.chain[number - 1], number * BLOCK
            kept, reader = self._kept.get(key), self._reader.get(key)
            if reader is not None and reader.fed >= length:
                return Beginning(length, reader)
            if kept is not None:
                self._kept.move_to_end(key)
                return Beginning(length, kept.kv)
            if reader is not None and length - shared >= WORTH_WAITING:
                return Beginning(length, reader, ready=False)
        return None

    def started(self, sequence: Sequence) -> None:
        """The sequence has a slot and reads its prompt, or has it already."""
        for key in sequence.chain:
            self._reader[key] = sequence
            self._seen[key] = self._seen.pop(key, 0) + 1
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)

    def worth_keeping(self, sequence: Sequence) -> int:
        """How many leading ids of a sequence that is about to end another one has begun with too, and nobody keeps."""
        covered = sequence.resident.covered if sequence.resident else 0
        for number in range(len(sequence.chain), covered // BLOCK, -1):
            key = sequence.chain[number - 1]
            if self._seen.get(key, 0) > 1 and number * BLOCK * self._position_bytes <= self._budget:
                return 0 if key in self._kept else number * BLOCK
        return 0

    def keep(self, sequence: Sequence, length: int, kv: Any) -> None:
        """The keys and values of the first `length` ids outlive the sequence."""
        kept = Kept(kv, length * self._position_bytes, sequence.digest)
        self._kept[sequence.chain[length // BLOCK - 1]] = kept
        self.bytes += kept.bytes
        while self.bytes > self._budget:
            self._leave(next(iter(self._kept)))

    def ended(self, sequence: Sequence) -> None:
        """Its slot is no longer its own."""
        for key in sequence.chain:
            if self._reader.get(key) is sequence:
                del self._reader[key]

    def drop(self, digest: str) -> None:
        """Forgets what was kept of a soft prompt."""
        for key in [key for key, kept in self._kept.items() if kept.digest == digest]:
            self._leave(key)

    def _leave(self, key: bytes) -> None:
        self.bytes -= self._kept.pop(key).bytes
