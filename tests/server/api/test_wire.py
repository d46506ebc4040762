"""Results as JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.wire import SLICE, dumps, encoded, in_slices
from tests.server.pauses import beside

numbers = st.integers(-(2**63), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
events = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda below: st.lists(below) | st.dictionaries(texts, below),
    max_leaves=20,
)


@given(event=events)
def test_an_event_says_what_json_says(event: Any) -> None:
    """Every number and character, on one line."""
    line = encoded(event)
    assert json.loads(line) == json.loads(dumps(event)) == event
    assert b"\n" not in line
    assert b"\r" not in line


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
    _, pause = beside(lambda: in_slices(value))
    assert pause < 1 / 3
