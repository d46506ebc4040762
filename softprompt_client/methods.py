"""How a function that builds a call becomes a method of a client: the same arguments, its answer instead of a call."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any, get_args


def as_method(build: Callable[..., Any], method: Callable[..., Any]) -> None:
    """`method` says of itself what `build` says, and that it gives what the call of `build` reads."""
    wraps(build)(method)
    of = signature(build)
    parameters = [Parameter("self", Parameter.POSITIONAL_ONLY), *of.parameters.values()]
    (answered,) = get_args(of.return_annotation)
    method.__signature__ = of.replace(parameters=parameters, return_annotation=answered)  # type: ignore[attr-defined]  # read by inspect
