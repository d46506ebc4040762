"""Metadata of a prompt file: one canonical text, every value bounded, nothing unknown."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_store.errors import PromptError
from prompt_store.metadata import MAX_TUNING_DEPTH, Base, Metadata, merge
from prompt_store.parameters import DEFAULTS, check_defaults
from tests.prompt_store.make import BASE

GOOD: dict[str, Any] = {
    "format": 1,
    "kind": "embeddings",
    "length": 3,
    "template": "{input}",
    "target_delimiter": " ",
    "labels": ["yes", "no"],
    "defaults": {"max_new_tokens": 8, "stop": ["\n"]},
    "base": BASE.to_mapping(),
    "description": "A task.",
    "metrics": {"accuracy": 0.91, "rouge-L@1": 3},
    "tuning": {"method": "prompt_tuning", "lr": 0.3, "seeds": [1, 2], "more": {"deep": None}},
}


def nested(depth: int) -> dict[str, Any]:
    """An object in an object in an object."""
    return {"a": nested(depth - 1)} if depth else {}


def test_everything_survives_a_round_trip() -> None:
    """Metadata read from a text give that text again, and the text is canonical."""
    metadata = Metadata.from_json(json.dumps(GOOD, indent=3))
    assert metadata.to_mapping() == GOOD
    assert metadata.to_json() == json.dumps(GOOD, sort_keys=True, separators=(",", ":"))
    assert Metadata.from_json(metadata.to_json()) == metadata
    assert metadata.base == BASE


def test_text_is_utf8_without_escapes() -> None:
    """Letters beyond ASCII stand as themselves in the canonical text."""
    assert "größer" in Metadata("text", 0, "größer {input}").to_json()


def test_absent_keys_take_their_defaults() -> None:
    """Only format, kind, length and template must be there."""
    least = {"format": 1, "kind": "text", "length": 0, "template": "x"}
    assert Metadata.from_mapping(least) == Metadata("text", 0, "x", " ", None, {}, None, None, {}, None)
    for name in least:
        with pytest.raises(PromptError):
            Metadata.from_mapping({key: value for key, value in least.items() if key != name})


BAD: dict[str, dict[str, Any]] = {
    "unknown key": {"author": "me"},
    "newer format": {"format": 2},
    "format true": {"format": True},
    "length 0": {"length": 0},
    "length negative": {"length": -1},
    "length too large": {"length": 16_385},
    "length a float": {"length": 3.5},
    "length a string": {"length": "3"},
    "length true": {"length": True},
    "template not a string": {"template": None},
    "template too long": {"template": "x" * 32_769},
    "template with half a surrogate pair": {"template": "\ud800"},
    "delimiter too long": {"target_delimiter": " " * 65},
    "delimiter null": {"target_delimiter": None},
    "labels a string": {"labels": "yes,no"},
    "no labels": {"labels": []},
    "too many labels": {"labels": [str(n) for n in range(513)]},
    "a label twice": {"labels": ["a", "a"]},
    "an empty label": {"labels": [""]},
    "a long label": {"labels": ["x" * 257]},
    "a label that is a number": {"labels": [1]},
    "description too long": {"description": "x" * 4_097},
    "description a number": {"description": 1},
    "metrics a list": {"metrics": []},
    "a metric NaN": {"metrics": {"a": float("nan")}},
    "a metric infinite": {"metrics": {"a": float("inf")}},
    "a metric of 400 digits": {"metrics": {"a": 10**400}},
    "a metric true": {"metrics": {"a": True}},
    "a metric with a strange name": {"metrics": {"a\n": 1}},
    "too many metrics": {"metrics": {f"m{n}": 1 for n in range(65)}},
    "tuning a string": {"tuning": "x"},
    "tuning too long": {"tuning": {"a": "x" * 16_384}},
    "tuning too deep": {"tuning": nested(MAX_TUNING_DEPTH + 1)},
    "tuning with infinity": {"tuning": {"a": [float("inf")]}},
    "tuning with half a surrogate pair": {"tuning": {"a": ["\udfff"]}},
    "base without a key": {"base": {"fingerprint": "ab" * 32}},
    "base with a key too many": {"base": {**BASE.to_mapping(), "vocab": 3}},
    "base with another fingerprint": {"base": {**BASE.to_mapping(), "fingerprint": "AB" * 32}},
    "base of hidden 0": {"base": {**BASE.to_mapping(), "hidden": 0}},
    "base with a long name": {"base": {**BASE.to_mapping(), "name": "x" * 257}},
    "defaults a list": {"defaults": []},
    "defaults null": {"defaults": None},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_value_is_refused(name: str) -> None:
    """Each value out of its bounds is refused, and the message does not repeat it."""
    with pytest.raises(PromptError) as caught:
        Metadata.from_mapping({**GOOD, **BAD[name]})
    assert caught.value.code == "bad_metadata"
    assert len(caught.value.message) < 300


def test_limits_themselves_are_accepted() -> None:
    """Every bound is inclusive."""
    full = {
        "length": 16_384,
        "template": "x" * 32_768,
        "target_delimiter": " " * 64,
        "labels": [str(n) for n in range(511)] + ["x" * 256],
        "description": "x" * 4_096,
        "metrics": {f"m{n}": 1 for n in range(64)},
        "tuning": nested(MAX_TUNING_DEPTH),
    }
    assert Metadata.from_mapping({**GOOD, **full}).length == 16_384


def test_unknown_kind_has_its_own_code() -> None:
    """A kind that does not exist is `unsupported_kind`, whatever its type."""
    kinds: list[Any] = ["lora", None, [], 1]
    for kind in kinds:
        with pytest.raises(PromptError) as caught:
            Metadata.from_mapping({**GOOD, "kind": kind})
        assert caught.value.code == "unsupported_kind"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "1", '"x"', "{", '{"format":1,"format":1}', '{"format":NaN}', "[" * 100_000, "1" * 5000],
)
def test_text_that_is_no_object_is_refused(text: str) -> None:
    """What is not one JSON object with distinct keys and real numbers is `bad_metadata`."""
    with pytest.raises(PromptError) as caught:
        Metadata.from_json(text)
    assert caught.value.code == "bad_metadata"


BAD_DEFAULTS: dict[str, list[Any]] = {
    "max_new_tokens": [0, -1, 2**31, 2**63, 10**5000, 1e30, 3.5, "3", True, None, float("nan")],
    "temperature": [-1, 1e308, 1e-320, 0.009, 100.1, "1", None, True, float("nan"), float("inf")],
    "top_k": [-1, 0, 2**21, 1.5, "1", None],
    "top_p": [0, -0.1, 1.1, "1", None, float("nan")],
    "min_p": [-0.1, 1.1, "1", None],
    "repetition_penalty": [0, -1, 1e10, "1", None],
    "stop": ["x", [""], ["x" * 129], ["x"] * 9, [1], None, {"a": 1}, ["\ud800"]],
    "ignore_eos": [0, 1, "true", None],
    "seed": [1],
    "n": [1],
    "logprobs": [1],
    "timeout_ms": [1000],
    "max_tokens": [4],
}


@pytest.mark.parametrize("name", BAD_DEFAULTS)
def test_bad_default_is_refused(name: str) -> None:
    """Defaults have the bounds of the request's parameters; those that belong to one request alone are no defaults."""
    for value in BAD_DEFAULTS[name]:
        with pytest.raises(PromptError) as caught:
            Metadata.from_mapping({**GOOD, "defaults": {name: value}})
        assert caught.value.code == "bad_metadata"


def test_good_defaults_are_normalised() -> None:
    """4096.0 is a whole number, a temperature is a float, and the limits are inside."""
    given_defaults = {
        "max_new_tokens": 4096.0,
        "temperature": 0,
        "top_k": 1,
        "top_p": 1,
        "min_p": 0,
        "stop": ["x" * 128] * 8,
    }
    checked = check_defaults({**given_defaults, "repetition_penalty": 0.01, "ignore_eos": True})
    assert checked.keys() == DEFAULTS.keys()
    assert (checked["max_new_tokens"], type(checked["max_new_tokens"])) == (4096, int)
    assert (checked["temperature"], type(checked["temperature"])) == (0.0, float)


def test_text_task_is_published_from_json() -> None:
    """A JSON body is a text task's metadata: template alone is enough, length and base are not its to say."""
    assert Metadata.for_text_task({"template": "x"}) == Metadata("text", 0, "x")
    assert Metadata.for_text_task({"kind": "text", "template": "x", "labels": ["a"]}).labels == ("a",)
    for name in ("format", "length", "base", "tuning"):
        with pytest.raises(PromptError):
            Metadata.for_text_task({"template": "x", name: None})
    with pytest.raises(PromptError) as caught:
        Metadata.for_text_task({"template": "x", "kind": "embeddings"})
    assert caught.value.code == "unsupported_kind"


def test_patch_merges() -> None:
    """A patch replaces what it names, merges defaults key by key, and null puts a default back (RFC 7396)."""
    metadata = Metadata.from_mapping(GOOD)
    patched = metadata.patched({"labels": ["a"], "defaults": {"stop": None, "top_k": 5}, "description": None})
    assert patched.labels == ("a",)
    assert patched.defaults == {"max_new_tokens": 8, "top_k": 5}
    assert patched.description is None
    assert patched.tuning == metadata.tuning
    assert metadata.patched({"labels": None}).labels is None
    assert metadata.patched({"target_delimiter": None}).target_delimiter == " "
    assert metadata.patched({}) == metadata


@pytest.mark.parametrize(
    "patch", [{"template": None}, {"kind": "text"}, {"length": 1}, {"metrics": {}}, [], {"labels": []}]
)
def test_patch_is_bounded(patch: Any) -> None:
    """What a patch may not touch is refused, and what it may is checked as on upload."""
    with pytest.raises(PromptError, match=r"patch|template|labels"):
        Metadata.from_mapping(GOOD).patched(patch)


def test_merge_follows_the_examples_of_the_rfc() -> None:
    """The cases of RFC 7396's appendix that concern objects."""
    assert merge({"a": "b"}, {"a": "c"}) == {"a": "c"}
    assert merge({"a": "b"}, {"b": "c"}) == {"a": "b", "b": "c"}
    assert merge({"a": "b", "b": "c"}, {"a": None}) == {"b": "c"}
    assert merge({"a": ["b"]}, {"a": "c"}) == {"a": "c"}
    assert merge({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}) == {"a": {"b": "d"}}
    assert merge({"a": "foo"}, {"a": {"b": None, "c": 1}}) == {"a": {"c": 1}}
    assert merge({}, {"a": {"bb": {"ccc": None}}}) == {"a": {"bb": {}}}


@given(
    st.builds(
        Metadata,
        kind=st.just("embeddings"),
        length=st.integers(1, 16_384),
        template=st.text(max_size=30),
        target_delimiter=st.text(max_size=5),
        labels=st.none() | st.lists(st.text(min_size=1, max_size=5), min_size=1, unique=True).map(tuple),
        description=st.none() | st.text(max_size=20),
        metrics=st.dictionaries(st.sampled_from(["f1", "bleu"]), st.floats(-1e9, 1e9) | st.integers(0, 9)),
        base=st.none() | st.builds(Base, st.just("0" * 64), st.text(max_size=9), *[st.integers(1, 99)] * 4),
    )
)
def test_any_metadata_survive_their_text(metadata: Metadata) -> None:
    """from_json undoes to_json, and the same metadata always give the same bytes."""
    assert Metadata.from_json(metadata.to_json()) == metadata
    assert Metadata.from_json(metadata.to_json()).to_json() == metadata.to_json()
