"""Results as JSON."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from server.api.wire import SLICE, dumps, in_slices


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"tokens": [], "token_strs": None, "count": 0},
        {"tokens": [5], "token_strs": ["é\n\"'\u2028"]},
        *({"tokens": [*range(length)], "count": length} for length in (SLICE - 1, SLICE, SLICE + 1, 2 * SLICE)),
        {"prompt": "a\0b", "nested": [[1, 2], {"a": []}, None]},
    ],
    ids=["empty", "none", "odd", "less", "slice", "more", "two", "others"],
)
def test_in_slices_it_is_the_same_text(value: dict[str, Any]) -> None:
    """As json writes the whole, at the ends of slices, too."""
    assert in_slices(value) == dumps(value).encode()


def test_a_long_list_is_written_while_others_go_on() -> None:
    """json's own encoder keeps Python's lock from the first item to the last."""
    value = {"tokens": [7] * 2_000_000}
    with ThreadPoolExecutor(1) as beside:
        began = last = time.monotonic()
        writing = beside.submit(in_slices, value)
        longest = 0.0
        while not writing.done():
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        took = time.monotonic() - began
    assert longest < took / 3
