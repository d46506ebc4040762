"""The sampling parameters that a task may bring as defaults, and their bounds. Knows no request and no model."""

from collections.abc import Callable, Mapping
from typing import Any

from prompt_store.errors import PromptError

MAX_STOPS = 8
MAX_STOP_CHARACTERS = 128

Check = Callable[[Any], Any]
"""Takes a JSON value, returns it normalised, raises ValueError with the bounds."""


def whole(low: int, high: int) -> Check:
    """A whole number; 4096.0 is one, true and "3" are none."""

    def check(value: Any) -> int:
        if type(value) is float and value.is_integer() and abs(value) < 2**53:
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return check


def number(low: float, high: float, *, also_zero: bool = False) -> Check:
    """A finite number within bounds, which are included. NaN fails every comparison."""

    def check(value: Any) -> float:
        if type(value) not in {int, float} or not (low <= value <= high or (also_zero and value == 0)):
            raise ValueError(f"must be {'0 or ' if also_zero else ''}a number from {low} to {high}")
        return float(value)

    return check


def boolean(value: Any) -> bool:
    """True or false; 1 and "yes" are neither."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - every check raises the one type its caller expects
    return value


def stops(value: Any) -> list[str]:
    """A list of stop strings, none of them empty."""
    if not isinstance(value, list) or len(value) > MAX_STOPS:
        raise ValueError(f"must be a list of at most {MAX_STOPS} strings")
    if not all(isinstance(item, str) and 1 <= len(item) <= MAX_STOP_CHARACTERS for item in value):
        raise ValueError(f"must hold strings of 1 to {MAX_STOP_CHARACTERS} characters")
    return list(value)


DEFAULTS: Mapping[str, Check] = {
    "max_new_tokens": whole(1, 2**20),
    "temperature": number(0.01, 100.0, also_zero=True),
    "top_k": whole(1, 2**20),
    "top_p": number(1e-6, 1.0),
    "min_p": number(0.0, 1.0),
    "repetition_penalty": number(0.01, 100.0),
    "stop": stops,
    "ignore_eos": boolean,
}
"""Every parameter of a request but `seed`, `n`, `logprobs` and `timeout_ms`, which belong to one request alone."""


def check_defaults(value: Any) -> dict[str, Any]:
    """Defaults of a task, normalised. Raises `bad_metadata`, naming the parameter."""
    if not isinstance(value, dict):
        raise PromptError("bad_metadata", f"defaults must be an object, got {type(value).__name__}")
    checked = {}
    for name, item in value.items():
        if name not in DEFAULTS:
            raise PromptError("bad_metadata", f"defaults may hold {', '.join(DEFAULTS)}")
        try:
            checked[name] = DEFAULTS[name](item)
        except ValueError as error:
            raise PromptError("bad_metadata", f"defaults.{name} {error}") from None
    return checked
