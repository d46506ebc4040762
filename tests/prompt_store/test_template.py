"""Templates: what they may say, and the ids that a request, a training row and a label become."""

from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_store.errors import InputsError, PromptError
from prompt_store.metadata import Kind
from prompt_store.template import Composed, Template, compose, head
from tests.prompt_store.make import BOS, tokenize, tokenizer

USER = 2
"""The id of <|user|>."""


def parse(text: str, length: int = 3, kind: Kind = "embeddings") -> Template:
    """A template of three rows."""
    return Template.parse(text, kind, length)


def composed(text: str, inputs: Mapping[str, str] | None = None, *, bos: int | None = BOS, length: int = 3) -> Composed:
    """One request of kind embeddings."""
    return compose(parse(text, length), inputs or {}, tokenize, bos)


def plain(text: str) -> tuple[int, ...]:
    """The ids of a text as one string, no special token recognised."""
    return tuple(tokenize(text, False))


ROWS = (-1, -2, -3)


@pytest.mark.parametrize(
    ("text", "fields", "behind"),
    [
        ("", (), False),
        ("no field", (), False),
        ("{input}", ("input",), False),
        ("{a} {b} {a}", ("a", "b"), False),
        ("{soft:3}{a}", ("a",), False),
        ("{soft:1}{a}{soft:2}", ("a",), True),
        ("x{soft:3}{a}", ("a",), False),
        ("{_A1}", ("_A1",), False),
        ("{{{a}}}", ("a",), False),
        ("{soft_1}{softer}", ("soft_1", "softer"), False),
    ],
)
def test_what_a_template_says(text: str, fields: tuple[str, ...], behind: bool) -> None:
    """Fields are distinct and in order; whether rows stand behind one is known at once."""
    template = parse(text)
    assert template.fields == fields
    assert template.soft_behind_field is behind


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("{", 0),
        ("ab}", 2),
        ("{}", 0),
        ("a{1b}", 1),
        ("{a b}", 0),
        ("{a", 0),
        ("{soft}", 0),
        ("{soft:0}", 0),
        ("{soft:03}", 0),
        ("{soft:-1}", 0),
        ("{soft:x}", 0),
        ("{soft:1234567}", 0),
        ("{{}", 2),
        ("{a:3}", 0),
        ("{a.b}", 0),
        ("{a!r}", 0),
        ("{ü}", 0),
        ("{%if%}", 0),
        ("{{7*7}} {x}}", 11),
        ("x{" + "a" * 65 + "}", 1),
    ],
)
def test_faults_are_named_by_position(text: str, position: int) -> None:
    """Every other use of a brace is a bad template, and the message says where (T2)."""
    with pytest.raises(PromptError, match=rf"character {position}:") as caught:
        parse(text)
    assert caught.value.code == "bad_template"


@pytest.mark.parametrize(
    ("text", "kind", "length"),
    [
        ("{soft:2}", "embeddings", 3),
        ("{soft:2}{soft:2}", "embeddings", 3),
        ("{soft:1}", "text", 0),
        ("{soft:3}", "prefix", 3),
        ("{soft:3}", "adapter", 3),
        ("".join(f"{{f{n}}}" for n in range(65)), "text", 0),
        ("x" * 32_769, "text", 0),
    ],
)
def test_slots_and_sizes_are_bounded(text: str, kind: Kind, length: int) -> None:
    """Slots belong to embeddings and add up to the length; fields and characters are counted."""
    with pytest.raises(PromptError) as caught:
        parse(text, length, kind)
    assert caught.value.code == "bad_template"


def test_rows_stand_in_front_without_slots() -> None:
    """PEFT's order: rows, BOS, text."""
    assert composed("{input} x", {"input": "cat"}).ids == (*ROWS, BOS, *plain("cat x"))


def test_rows_stand_in_their_slots_in_order() -> None:
    """Rows are counted through the slots; BOS comes after leading rows, whatever the number of slots that hold them."""
    made = composed("{soft:1}{soft:1}{a} question{soft:1} answer", {"a": "the cat"})
    assert made.ids == (-1, -2, BOS, *plain("the cat question"), -3, *plain(" answer"))
    assert (made.soft_tokens, made.prompt_tokens) == (3, len(made.ids) - 3)
    assert made.text == "the cat question answer"


def test_bos_comes_first_when_text_does() -> None:
    """With text before the first slot BOS is the very first id; an empty value there changes nothing."""
    assert composed("{a}{soft:3}x", {"a": "mat"}).ids == (BOS, *plain("mat"), *ROWS, *plain("x"))
    assert composed("{a}{soft:3}x", {"a": ""}).ids == (BOS, *ROWS, *plain("x"))


def test_a_deep_prefix_stands_in_front_of_the_text() -> None:
    """It takes the first positions, as rows would, and has no slots."""
    template = Template.parse("Say {input}", "prefix", 3)
    assert compose(template, {"input": "x"}, tokenize, BOS).ids == (*ROWS, BOS, *plain("Say x"))


@pytest.mark.parametrize("kind", ["text", "adapter"])
def test_other_kinds_have_no_rows_in_the_ids(kind: Kind) -> None:
    """A text task has none, and an adapter takes no positions."""
    template = Template.parse("Say {input}", kind, 0 if kind == "text" else 4)
    assert compose(template, {"input": "x"}, tokenize, BOS).ids == (BOS, *plain("Say x"))


def test_without_bos_none_is_added() -> None:
    """A tokenizer without BOS gets none; then a text task with nothing to say has no ids at all."""
    assert composed("{soft:3}", bos=None).ids == ROWS
    assert compose(Template.parse("{a}", "text", 0), {"a": ""}, tokenize, None).ids == ()
    assert composed("{soft:3}").ids == (*ROWS, BOS)


def test_a_run_is_tokenised_as_one_string() -> None:
    """Literals and values merge as they would in running text: piecewise tokenising would give other ids."""
    whole = plain("the cat sat on the mat")
    assert composed("the {a}t on{b}", {"a": "cat sa", "b": " the mat"}).ids[4:] == whole
    assert whole != (*plain("the "), *plain("cat sa"), *plain("t on"), *plain(" the mat"))


def test_runs_are_tokenised_apart() -> None:
    """A slot ends a run: what stands on its two sides does not merge."""
    assert composed("ca{soft:3}t").ids == (BOS, *plain("ca"), *ROWS, *plain("t"))
    assert plain("cat") != (*plain("ca"), *plain("t"))


def test_special_tokens_are_recognised_in_literals_only() -> None:
    """The template may speak in special tokens; a user's value that looks like one stays text (G15)."""
    ids = composed("<|user|>{a}<|user|></s> the", {"a": "<|user|>the"}).ids[4:]
    assert ids == (USER, *plain("<|user|>the"), USER, 1, *plain(" the"))
    assert USER not in plain("<|user|>the")


def test_special_tokens_do_not_form_across_a_value() -> None:
    """Halves in a literal and a value make no special token, nor do halves on the two sides of a value."""
    assert composed("<|us{a}", {"a": "er|>"}).ids[4:] == plain("<|user|>")
    assert composed("<|us{a}er|>", {"a": ""}).ids[4:] == plain("<|user|>")


def test_a_template_that_writes_bos_gets_no_second() -> None:
    """A literal BOS at the start of the first run is the one; one written by a user does not count."""
    assert composed("<s>{a}", {"a": "cat"}).ids == (*ROWS, BOS, *plain("cat"))
    assert composed("{soft:1}<s>{a}{soft:2}", {"a": "cat"}).ids == (-1, BOS, *plain("cat"), -2, -3)
    assert composed("{a}", {"a": "<s>"}).ids == (*ROWS, BOS, *plain("<s>"))


def test_values_are_inserted_literally() -> None:
    """Braces and directives in a value are text, and values are not expanded again (T4)."""
    made = composed("{{{a}}} {b}", {"a": "{b}", "b": "{{7*7}}{% raw %}{soft:9}"})
    assert made.text == "{{b}} {{7*7}}{% raw %}{soft:9}"
    assert made.ids == (*ROWS, BOS, *plain(made.text))


def test_a_field_may_repeat() -> None:
    """The same value stands at each of its places."""
    assert composed("{a} and {a}", {"a": "x"}).text == "x and x"


@pytest.mark.parametrize("inputs", [{}, {"a": "x"}, {"b": "x"}, {"a": "x", "b": "x", "c": "x"}])
def test_inputs_must_be_the_fields(inputs: dict[str, str]) -> None:
    """A missing or an extra field is refused; the message names the template's fields, never the request's."""
    with pytest.raises(InputsError) as caught:
        composed("{a}{b}", inputs)
    assert "c" not in caught.value.message.replace("inputs may hold", "").replace("inputs lack", "").replace(
        "fields", ""
    )


@pytest.mark.parametrize("keep", range(1, 12))
def test_truncate_keeps_the_last_ids(keep: int) -> None:
    """BOS is counted and stays, rows stay, and the oldest text ids go, over slots too."""
    template = parse("{soft:1}the {a}{soft:2} answer")
    full = compose(template, {"a": "question hypothesis"}, tokenize, BOS)
    made = compose(template, {"a": "question hypothesis"}, tokenize, BOS, truncate=keep)
    texts = [item for item in full.ids if item > 0]
    kept = texts[max(0, len(texts) - (keep - 1)) :]
    assert [item for item in made.ids if item >= 0] == [BOS, *kept]
    assert [item for item in made.ids if item < 0] == list(ROWS)
    assert made.ids[:2] == (-1, BOS)
    assert made.prompt_tokens == min(keep, full.prompt_tokens)
    assert made.cut == full.prompt_tokens - made.prompt_tokens
    assert made.text == full.text


def test_nothing_is_cut_without_truncate() -> None:
    """Length alone never removes an id."""
    assert composed("{a}", {"a": "cat " * 5000}).cut == 0


def test_truncate_without_bos() -> None:
    """Without BOS the last n ids are all text."""
    made = compose(parse("{a}"), {"a": "the cat sat"}, tokenize, None, truncate=1)
    assert made.ids == (*ROWS, plain("the cat sat")[-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a}", (*ROWS, BOS)),
        ("{soft:2}{a}{soft:1}", (-1, -2, BOS)),
        ("<|user|>{a}", (*ROWS, BOS, USER)),
        ("x{soft:3}{a}", (BOS, *plain("x"), *ROWS)),
        ("fixed", (*ROWS, BOS, *plain("fixed"))),
    ],
)
def test_head_is_what_requests_share(text: str, expected: tuple[int, ...]) -> None:
    """Rows, BOS and the leading literal, up to the first field."""
    assert head(parse(text), tokenize, BOS) == expected


def test_head_leaves_out_what_may_merge() -> None:
    """The last token of a literal may become another one together with the value."""
    made = head(parse("the question: ca{a}"), tokenize, BOS)
    assert made == (*ROWS, BOS, *plain("the question: ca"))[: len(made)]
    assert len(made) > 5
    assert composed("the question: ca{a}", {"a": "t"}).ids[: len(made)] == made


TEXTS = st.text(alphabet="the catsonmqui{}<|user|>/ü\n ", max_size=20)


@given(TEXTS, TEXTS, TEXTS)
def test_ids_spell_the_text(before: str, value: str, after: str) -> None:
    """Whatever stands in literals and values, the text ids decode to the rendered text, specials included."""
    literal = before.replace("{", "{{").replace("}", "}}")
    made = composed(literal + "{a}" + after.replace("{", "{{").replace("}", "}}"), {"a": value}, bos=None)
    assert made.text == before + value + after
    assert tokenizer().decode([item for item in made.ids if item >= 0], skip_special_tokens=False) == made.text


@given(st.text(max_size=30))
def test_parse_never_fails_otherwise(text: str) -> None:
    """Any text is a template or a PromptError."""
    with suppress(PromptError):
        assert len(parse(text).text) == len(text)
