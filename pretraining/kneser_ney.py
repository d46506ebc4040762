"""The yardstick below a neural base: an interpolated modified Kneser-Ney 5-gram over the same tokens.

Chen & Goodman, "An empirical study of smoothing techniques for language modeling" (1999), section 4. An n-gram is one
uint64, its ids as digits of base `vocabulary` (6144**5 < 2**63), so counting is sorting. Knows ids; no text, no files.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ORDER = 5
Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Level:
    """n-grams of one order: discounted mass of each, and each context's total and share for the lower order."""

    grams: Keys
    mass: Numbers
    contexts: Keys
    totals: Numbers
    backoff: Numbers


def _digits(ids: npt.NDArray[np.int64], order: int, vocabulary: int) -> Keys:
    """The n-gram that ends at each position from `order` - 1 on."""
    keys = np.zeros(len(ids) - order + 1, np.uint64)
    for offset in range(order):
        keys = keys * np.uint64(vocabulary) + ids[offset : offset + len(keys)].astype(np.uint64)
    return keys


def _level(grams: Keys, counts: Counts, vocabulary: int) -> _Level:
    ones, twos, threes, fours = (int((counts == n).sum()) for n in (1, 2, 3, 4))
    base = ones / max(ones + 2 * twos, 1)
    discounts = np.array(
        [
            0.0,
            1 - 2 * base * twos / max(ones, 1),
            2 - 3 * base * threes / max(twos, 1),
            3 - 4 * base * fours / max(threes, 1),
        ]
    ).clip(0.0, None)
    taken = np.minimum(discounts[np.minimum(counts, 3)], counts)
    contexts, where = np.unique(grams // np.uint64(vocabulary), return_inverse=True)
    totals = np.bincount(where, weights=counts)
    backoff = np.bincount(where, weights=taken) / totals
    return _Level(grams, counts - taken, contexts, totals.astype(np.float64), backoff)


class KneserNey:
    """Learnt from documents of ids below `vocabulary`; `bos` opens each and is never predicted."""

    def __init__(self, documents: Iterable[Sequence[int]], vocabulary: int, bos: int) -> None:
        self._vocabulary, self._bos = vocabulary, bos
        ids = np.concatenate([self._padded(document) for document in documents])
        keys = _digits(ids, ORDER, vocabulary)
        keys = keys[ids[ORDER - 1 :] != bos]  # an n-gram that ends in an opening crosses two documents
        grams, counts = np.unique(keys, return_counts=True)
        self._levels = [_level(grams, counts, vocabulary)]
        for order in range(ORDER - 1, 0, -1):  # lower orders count the different ids in front, not occurrences
            grams, counts = np.unique(grams % np.uint64(vocabulary**order), return_counts=True)
            self._levels.append(_level(grams, counts, vocabulary))

    def _padded(self, document: Sequence[int]) -> npt.NDArray[np.int64]:
        own = document[1:] if len(document) and document[0] == self._bos else document
        return np.concatenate([np.full(ORDER - 1, self._bos), np.asarray(own, np.int64)]).astype(np.int64)

    def nats(self, documents: Iterable[Sequence[int]]) -> float:
        """Negative log-likelihood of every id but the openings."""
        total = 0.0
        for document in documents:
            ids = self._padded(document)
            if len(ids) >= ORDER:
                total -= float(np.log(self._probabilities(_digits(ids, ORDER, self._vocabulary))).sum())
        return total

    def _probabilities(self, grams: Keys) -> Numbers:
        found = np.full(len(grams), 1.0 / self._vocabulary)
        for order, level in enumerate(reversed(self._levels), start=1):
            keys = grams % np.uint64(self._vocabulary**order) if order < ORDER else grams
            mass = _look_up(level.grams, level.mass, keys, 0.0)
            contexts = keys // np.uint64(self._vocabulary)
            totals = _look_up(level.contexts, level.totals, contexts, 1.0)
            backoff = _look_up(level.contexts, level.backoff, contexts, 1.0)
            found = mass / totals + backoff * found
        return found


def _look_up(table: Keys, values: Numbers, keys: Keys, absent: float) -> Numbers:
    at = np.searchsorted(table, keys).clip(0, len(table) - 1)
    return np.where(table[at] == keys, values[at], absent)
