"""What generate, classify and render may be asked, as types. Knows names; the server checks values."""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

Inputs = str | Mapping[str, str]
"""A text where the task's template has one field, else a text for each."""


class Parameters(TypedDict, total=False):
    """docs/parameters.md says what each does. Left out: the task's default, else the server's."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    stop: Sequence[str]
    ignore_eos: bool
    seed: int
    n: int
    logprobs: int
    timeout_ms: int


class Asked(TypedDict):
    """What every question names. `task` left out or `base`: the bare model."""

    task: NotRequired[str]
    inputs: Inputs
    version: NotRequired[int]
    min_version: NotRequired[int]


class GenerateRequest(Asked):
    """One of many generations."""

    parameters: NotRequired[Parameters]
    truncate: NotRequired[int]


class ClassifyRequest(Asked):
    """One of many classifications; `labels` left out: the task's own."""

    labels: NotRequired[Sequence[str]]
