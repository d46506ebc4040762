"""Questions whose numbers and lists are out of bounds: G16 to G24, G26, G30 and G31."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.attacks.asking import (
    GENERATE,
    OPENAI,
    Case,
    each,
    raw_parameter,
    with_fields,
    with_parameters,
)
from tests.attacks.attack import Attack

SAMPLING = (*GENERATE, *OPENAI)
NO_NUMBER: tuple[Any, ...] = ("", "1", "nan", True, False, [], [1], {}, {"value": 1})
NO_INTEGER: tuple[Any, ...] = (0.5, 3.5, -0.5, *NO_NUMBER)
HUGE = (2**31, 2**32, 2**53, 2**63, 2**64, 10**30, 1e30, 1e300)
MANY = 100_000


def nulls(*parameters: str) -> Iterator[Case]:
    """Of our own routes: OpenAI's take null for nothing."""
    for parameter in parameters:
        yield from each(parameter, [None], GENERATE)


def test_G16_a_count_of_new_tokens(attack: Attack) -> None:
    """None, fewer, more than anybody has, no integer; and a number of 5,000 digits, which Python would not read."""
    cases = each("max_new_tokens", [0, -1, -(2**63), 2**20 + 1, *HUGE, *NO_INTEGER])
    attack.all_refused(400, "invalid_request", [*cases, *nulls("max_new_tokens")])
    long = [raw_parameter(route, "max_new_tokens", sign + "1" + "0" * 5000) for route in SAMPLING for sign in ("", "-")]
    attack.all_refused(400, "invalid_json", long)


@pytest.mark.parametrize("route", SAMPLING[:3])
def test_G17_a_whole_float(attack: Attack, route: str) -> None:
    """8.0 is 8, as JSON has it and the schema says."""
    path, body = with_parameters(route, max_new_tokens=8.0, seed=1.0)
    answer = attack.right(attack.ask(path, body))
    if route == "/generate":
        assert answer.json()["usage"]["completion_tokens"] <= 8
        assert answer.json()["seed"] == 1
    known = attack.victim.http.get("/openapi.json").json()["components"]["schemas"]["Parameters"]["properties"]
    assert known["max_new_tokens"]["type"] == "integer"


def test_G18_a_temperature(attack: Attack) -> None:
    """Cold, too hot, nearly nothing, no number; 0 is greedy whatever else is asked for; `do_sample` is not ours."""
    bad = (-1, -1e-9, 0.009, 100.1, 1e308, 1e-320, 5e-324, 10**400, 10**30, *NO_NUMBER)
    attack.all_refused(400, "invalid_request", [*each("temperature", bad), *nulls("temperature")])
    attack.all_refused(
        400, "unknown_field", [with_parameters(path, temperature=0, do_sample=True) for path in GENERATE]
    )
    cold: dict[str, Any] = {"task": "target", "inputs": "play", "parameters": {"max_new_tokens": 8}}
    greedy = attack.right(attack.ask("/generate", cold)).json()["generated_text"]
    for zero in (0, 0.0, -0.0):
        asked = {**cold, "parameters": {"max_new_tokens": 8, "temperature": zero, "top_k": 5, "top_p": 0.5}}
        assert attack.right(attack.ask("/generate", asked)).json()["generated_text"] == greedy


def test_G19_a_share_of_the_vocabulary(attack: Attack) -> None:
    """Out of their bounds, the vocabulary's too; `typical_p` is not ours. On /v1 0 and -1 switch `top_k` off."""
    cases = [
        *each("top_p", [0, -0.0, -0.1, 1e-7, 1.0001, 2, 10**30, *NO_NUMBER]),
        *each("min_p", [-0.1, -1e-9, 1.0001, 2, 10**30, *NO_NUMBER]),
        *each("top_k", [-2, -(2**31), 385, 2**20, 2**20 + 1, *HUGE, *NO_INTEGER], (*GENERATE, "/v1/completions")),
        *each("top_k", [-1, 0], GENERATE),
        *nulls("top_p", "min_p", "top_k"),
    ]
    attack.all_refused(400, "invalid_request", cases)
    attack.all_refused(400, "unknown_field", each("typical_p", [0.5, 1], GENERATE))
    for off in (-1, 0, 384):
        attack.right(attack.ask(*with_parameters("/v1/completions", top_k=off)))


def test_G20_a_penalty(attack: Attack) -> None:
    """None, negative, beyond any use."""
    bad = (0, -0.0, -1, 0.009, 100.1, 1e10, 1e308, 1e-320, 10**30, *NO_NUMBER)
    attack.all_refused(400, "invalid_request", [*each("repetition_penalty", bad), *nulls("repetition_penalty")])
    cases = [
        with_parameters(path, **{name: 0.5}) for path in SAMPLING for name in ("frequency_penalty", "presence_penalty")
    ]
    attack.all_refused(400, "unknown_field", cases)


def test_G21_many_choices(attack: Attack) -> None:
    """None of them, a thousand million of them, under every name they have; sixteen at most."""
    counts = [0, -1, 17, 1_000_000_000, *HUGE, *NO_INTEGER]
    attack.all_refused(400, "invalid_request", [*each("n", counts), *nulls("n")])
    attack.all_refused(400, "invalid_request", each("best_of", [0, -1, 2, 17, 1_000_000_000], ["/v1/completions"]))
    names = ("best_of", "num_return_sequences", "beam_width", "num_beams")
    attack.all_refused(
        400, "unknown_field", [with_parameters(path, **{name: 10**9}) for path in GENERATE for name in names]
    )
    streamed = [
        ("/generate_stream", {"inputs": "x", "parameters": {"n": 2}}),
        with_fields("/generate", stream=True, parameters={"n": 2}),
    ]
    attack.all_refused(400, "invalid_request", streamed)


def test_G22_many_logprobs(attack: Attack) -> None:
    """More than twenty, negative, no integer; an echo that would tell more numbers than 1,024 in each place."""
    counts = [-1, 21, 384, 385, 1_000_000_000, *HUGE, *NO_INTEGER]
    attack.all_refused(400, "invalid_request", [*each("logprobs", counts), *nulls("logprobs")])
    told = {"echo": True, "max_tokens": 0, "logprobs": 20}
    crowd = [("/v1/completions", {**told, "model": "target", "prompt": ["x"] * 49})]
    choices = [("/v1/completions", {**told, "max_tokens": 1, "model": "target", "prompt": ["x"] * 4, "n": 16})]
    attack.all_refused(400, "invalid_request", [*crowd, *choices])
    attack.all_refused(400, "unknown_field", each("prompt_logprobs", [0, 1, 20, 10**9], ["/v1/completions", *GENERATE]))


@pytest.mark.parametrize(
    "bias",
    [
        {str(index): 1.0 for index in range(10_000)},
        {"-1": 1},
        {"385": 1},
        {"4294967296": 1},
        {"1": 1e308},
        {"x": 1},
        {"1": "a"},
        [1],
    ],
    ids=["many", "negative", "beyond the vocabulary", "beyond 32 bits", "huge", "no id", "no number", "no object"],
)
def test_G23_a_bias(attack: Attack, bias: Any) -> None:
    """Ids are not weighted here, whatever it says."""
    attack.all_refused(400, "unknown_field", each("logit_bias", [bias]))
    if len(bias) > 1:
        attack.all_refused(400, "invalid_json", each("logit_bias", [{str(index): 1.0 for index in range(MANY)}]))


@pytest.mark.parametrize(
    "stop",
    [
        ["a"] * MANY,
        [str(number) for number in range(9)],
        [""],
        ["a", ""],
        ["x" * 2**20],
        ["x" * 129],
        [1],
        [None],
        [["a"]],
        [{"a": "b"}],
        {"a": "b"},
        7,
        True,
    ],
    ids=lambda stop: f"{type(stop).__name__} {str(stop)[:12]}",
)
def test_G24_what_ends_a_text(attack: Attack, stop: Any) -> None:
    """Eight texts of 128 characters; some that overlap are right, and the one that comes first ends the text."""
    attack.all_refused(400, "invalid_request", [*each("stop", [stop]), *nulls("stop")])
    attack.all_refused(400, "invalid_request", each("stop", ["a", ""], GENERATE))
    asked: dict[str, Any] = {
        "task": "target",
        "inputs": "play",
        "parameters": {"max_new_tokens": 24, "ignore_eos": True},
    }
    whole = attack.right(attack.ask("/generate", asked)).json()["generated_text"]
    plain = re.search(r"[ -~]{4}", whole)
    assert plain is not None, "four characters that are whole"
    overlapping = [plain[0], plain[0][:1], plain[0][1:3]]
    asked["parameters"]["stop"] = overlapping
    cut = attack.right(attack.ask("/generate", asked)).json()["generated_text"]
    assert cut == whole[: min(whole.index(one) for one in overlapping)]


def test_G26_a_seed(attack: Attack) -> None:
    """Negative, more than a JSON number holds exactly, no integer."""
    attack.all_refused(
        400, "invalid_request", [*each("seed", [-1, 2**53, 2**63, 2**64, 1e30, *NO_INTEGER]), *nulls("seed")]
    )


def test_G30_a_stream(attack: Attack) -> None:
    """True or false, and no other word for it."""
    values: tuple[Any, ...] = ("yes", "true", "", 1, 0, 1.0, [], [True], {})
    routes = ("/generate", "/generate_stream", *OPENAI)
    cases = [with_fields(route, stream=value) for route in routes for value in values]
    attack.all_refused(400, "invalid_request", [*cases, with_fields("/generate", stream=None)])
    options = [{"include_usage": value} for value in ("yes", 1)]
    cases = [with_fields(route, stream=True, stream_options=value) for route in OPENAI for value in (*options, 1, "x")]
    attack.all_refused(400, "invalid_request", [*cases, with_fields("/v1/completions", stream_options=options[0])])
    attack.all_refused(400, "unknown_field", [with_fields(route, stream=True) for route in ("/classify", "/render")])


def test_G31_a_deadline(attack: Attack) -> None:
    """None, past, or in thirty years."""
    bad = (0, -1, 3_600_001, 10**12, *HUGE, *NO_INTEGER)
    attack.all_refused(400, "invalid_request", [*each("timeout_ms", bad, GENERATE), *nulls("timeout_ms")])
