"""Which parameters are taken, and in which order request, task and server speak."""

from typing import Any

import pytest
from pydantic import ValidationError

from prompt_store.parameters import DEFAULTS, check_defaults
from server.parameters import Parameters

REFUSED: dict[str, list[Any]] = {
    "max_new_tokens": [0, -1, 2**31, 2**63, 10**300, 1e30, 3.5, "3", True, None],
    "temperature": [-1, 1e308, 1e-320, "1", None, True],
    "top_k": [-1, 0, 2**31, 1.5, None],
    "top_p": [0, -0.1, 1.1, None, "1"],
    "min_p": [-0.1, 1.1, None],
    "repetition_penalty": [0, -1, 1e10, None],
    "stop": [["a"] * 9, [""], ["x" * 129], [1], "a", None],
    "seed": [-1, 2**53, 2**64, 1.5, "1", None],
    "n": [0, 17, 10**9, None],
    "logprobs": [-1, 21, 10**9, None],
    "ignore_eos": [1, "true", None],
    "timeout_ms": [0, -1, 10**12, None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_values_out_of_bounds_are_refused(name: str, value: Any) -> None:
    """Nothing is coerced, nothing is silently cut, null is not absent."""
    with pytest.raises(ValidationError):
        Parameters.model_validate({name: value})


def test_a_whole_float_is_an_integer() -> None:
    """4096.0 is what some JSON writers make of 4096."""
    assert Parameters.model_validate({"max_new_tokens": 4096.0, "seed": 7.0}).max_new_tokens == 4096


def test_the_request_speaks_over_the_task() -> None:
    """A default of the task counts only where the request is silent."""
    settled = Parameters(temperature=0.0).over({"temperature": 0.7, "top_k": 5})
    assert (settled.temperature, settled.top_k) == (0.0, 5)


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_task_may_bring_what_a_request_may_ask_for(name: str) -> None:
    """The store's bounds of defaults are the request's, so that no stored default breaks a request."""
    allowed = {"max_new_tokens": 2**20, "temperature": 100, "top_k": 2**20, "top_p": 1e-6, "min_p": 1}
    value = {**allowed, "repetition_penalty": 0.01, "stop": ["x" * 128] * 8, "ignore_eos": True}[name]
    checked = check_defaults({name: value})
    assert Parameters().over(checked).model_dump(exclude_none=True) == checked


def test_the_schema_shows_the_bounds_and_no_null() -> None:
    """OpenAPI says what is checked."""
    schema = Parameters.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["n"] == {"maximum": 16, "minimum": 1, "title": "N", "type": "integer"}
    assert "null" not in str(schema)
