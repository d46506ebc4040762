"""Prompt and continuation: what a training row and a label become."""

import pytest

from prompt_store.metadata import Kind
from prompt_store.template import Composed, Template, Tokenize, compose, continuations
from tests.prompt_store.make import BOS, tokenize, tokenizer


def parse(text: str, length: int = 3, kind: Kind = "embeddings") -> Template:
    """A template of three rows."""
    return Template.parse(text, kind, length)


def plain(text: str) -> tuple[int, ...]:
    """The ids of a text as one string, no special token recognised."""
    return tuple(tokenize(text, False))


def continuation(  # noqa: PLR0913, PLR0917 - as continuations
    template: Template, inputs: dict[str, str], delimiter: str, target: str, tokenize: Tokenize, bos: int
) -> tuple[Composed, tuple[int, ...]]:
    """Of one target."""
    prompt, (behind,) = continuations(template, inputs, delimiter, [target], tokenize, bos)
    return prompt, behind


ROWS = (-1, -2, -3)


LABELS = ["positive", "negative", "the cat", "x", "ü", ""]


@pytest.mark.parametrize("target", LABELS)
@pytest.mark.parametrize(
    "text", ["{a} answer:", "{a} answer: ", "{a} answer:   ", "{a}{soft:3}", "<|user|>{a}<|user|>", "{a}"]
)
@pytest.mark.parametrize("delimiter", [" ", "", "\n"])
def test_continuation_is_the_difference(text: str, target: str, delimiter: str) -> None:
    """Prompt and continuation together are the ids of the whole text, wherever the boundary merges no token."""
    template = parse(text)
    prompt, behind = continuation(template, {"a": "the mat"}, delimiter, target, tokenize, BOS)
    written = text.replace("{soft:3}", "").replace("{a}", "the mat")
    kept = written.rstrip(" ")
    whole = compose(parse(text.rstrip(" ").replace("{a}", "the mat")), {}, tokenize, BOS)
    assert prompt.ids == whole.ids
    assert prompt.text == kept
    assert tokenizer().decode(list(behind), skip_special_tokens=False) == written[len(kept) :] + delimiter + target


def test_continuation_follows_the_evaluation_harness() -> None:
    """lm-evaluation-harness: whole = encode(context + continuation); continuation = whole[len(encode(context)):]."""
    context, target = "question: the cat answer: ", "positive"
    moved = context.rstrip(" ")
    whole = plain(moved + " " + " " + target)
    prompt, behind = continuation(parse("question: {a} answer: "), {"a": "the cat"}, " ", target, tokenize, BOS)
    assert prompt.ids == (*ROWS, BOS, *plain(moved))
    assert behind == whole[len(plain(moved)) :]


def test_continuation_across_a_merge_still_spells_the_target() -> None:
    """Where prompt and target share a token there is no difference to take; prompt and target are encoded apart."""
    assert plain("cat")[: len(plain("ca"))] != plain("ca")
    prompt, behind = continuation(parse("ca"), {}, "", "t", tokenize, BOS)
    assert prompt.ids == (*ROWS, BOS, *plain("ca"))
    assert behind == plain("t")


def test_target_is_text() -> None:
    """Special tokens in a target or delimiter are data, not commands."""
    _, behind = continuation(parse("{a}"), {"a": "x"}, "</s>", "<|user|>", tokenize, BOS)
    assert not {0, 1, 2} & set(behind)


def test_every_target_has_its_own_ids_behind_one_prompt() -> None:
    """As each alone."""
    template = parse("{a} answer: ")
    prompt, behind = continuations(template, {"a": "the cat"}, " ", LABELS, tokenize, BOS)
    assert [(prompt, ids) for ids in behind] == [
        continuation(template, {"a": "the cat"}, " ", label, tokenize, BOS) for label in LABELS
    ]


def test_server_and_tuner_compose_alike() -> None:
    """The prompt of a training row is the prompt of the same request, unless it ends in spaces."""
    for text in ("{a} answer:", "{soft:1}{a}{soft:2} is", "<|user|>{a}", "{a}{soft:3}"):
        template = parse(text)
        prompt = continuation(template, {"a": "the cat"}, " ", "x", tokenize, BOS)[0]
        assert prompt == compose(template, {"a": "the cat"}, tokenize, BOS)
