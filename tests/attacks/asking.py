"""Good questions of every route that asks the model, and the same with one thing wrong.

Knows the routes' fields by their names; nothing of what is wrong.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from tests.attacks.victim import TARGET

GENERATE = ("/generate", "/generate_stream")
OURS = (*GENERATE, "/classify", "/render")
OPENAI = ("/v1/completions", "/v1/chat/completions")
ROUTES = (*OURS, *OPENAI)
TOP: Mapping[str, Mapping[str, str]] = {
    "/v1/completions": {"max_new_tokens": "max_tokens"},
    "/v1/chat/completions": {"max_new_tokens": "max_tokens", "logprobs": "top_logprobs"},
}
"""What OpenAI calls it; the parameters of its routes stand at the top."""
Case = tuple[str, dict[str, Any]]


def question(route: str, text: str = "x", task: str = TARGET) -> dict[str, Any]:
    """A body that would be answered, if the base has a chat template where it is asked for one."""
    if route == "/v1/completions":
        return {"model": task, "prompt": text}
    if route == "/v1/chat/completions":
        return {"model": task, "messages": [{"role": "user", "content": text}]}
    return {"task": task, "inputs": text, **({"labels": ["a", "b"]} if route == "/classify" else {})}


def with_fields(route: str, **fields: Any) -> Case:
    """Beside the question."""
    return route, {**question(route), **deepcopy(fields)}


def with_parameters(route: str, **parameters: Any) -> Case:
    """Where the route has them, under its names."""
    if route in GENERATE:
        return with_fields(route, parameters=parameters)
    names = TOP[route]
    told = {"logprobs": True} if route == "/v1/chat/completions" and "logprobs" in parameters else {}
    return with_fields(route, **{names.get(name, name): value for name, value in parameters.items()}, **told)


def each(parameter: str, values: Iterable[Any], routes: Sequence[str] = (*GENERATE, *OPENAI)) -> Iterator[Case]:
    """Every value on every route, one at a time."""
    for value in values:
        for route in routes:
            yield with_parameters(route, **{parameter: value})


def raw(route: str, **fields: str) -> tuple[str, bytes]:
    """Beside the question, as JSON that Python would not write."""
    good = {name: json.dumps(value) for name, value in question(route).items()}
    text = ", ".join(f'"{name}": {value}' for name, value in {**good, **fields}.items())
    return route, f"{{{text}}}".encode()


def raw_parameter(route: str, name: str, value: str) -> tuple[str, bytes]:
    """The same of a parameter, where the route has it."""
    if route in GENERATE:
        return raw(route, parameters=f'{{"{name}": {value}}}')
    return raw(route, **{TOP[route].get(name, name): value})
