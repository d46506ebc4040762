"""Examples as ids: the same ids that the server composes."""

import pytest

from prompt_store.template import Template, compose
from tests.tuning.conftest import LABELS, examples
from tuning.base import FrozenBase
from tuning.encoding import Encoded, Encoder, encode, shared_head
from tuning.examples import DataError, Example


def encoder(base: FrozenBase, labels: tuple[str, ...] | None = None, text: str = "{text} Intent:") -> Encoder:
    return Encoder(Template.parse(text, "embeddings", 2), " ", base.tokenizer.encode, base.tokenizer.bos, 1, labels)


def test_a_prompt_is_what_the_server_would_feed(base: FrozenBase) -> None:
    """Rows, BOS, text: the ids of `compose`, which serving uses."""
    one = examples(1)[0]
    served = compose(encoder(base).template, one.inputs, base.tokenizer.encode, base.tokenizer.bos)
    assert encoder(base)(one).prompt == served.ids
    assert served.ids[:3] == (~0, ~1, 0)


def test_free_text_ends_in_eos_and_labels_do_not(base: FrozenBase) -> None:
    """Training targets end in EOS, scores leave it out."""
    one = examples(1)[0]
    assert encoder(base)(one).answers[0][-1] == 1
    assert all(1 not in answer for answer in encoder(base, LABELS)(one).answers)


def test_the_right_answer_is_the_targets(base: FrozenBase) -> None:
    """`right` points at the label that the row has."""
    assert [encoder(base, LABELS)(one).right for one in examples(4)] == [0, 1, 2, 0]


def test_a_row_that_does_not_fit_is_named_by_its_line(base: FrozenBase) -> None:
    """Nothing is cut in silence."""
    long = Example({"text": "play " * 300}, "music", line=7)
    with pytest.raises(DataError, match=r"line 7: \d+ tokens with the answer, the base takes 256"):
        encode([*examples(2), long], encoder(base), base.context)


def test_the_shared_head_stops_before_any_prompts_last_id() -> None:
    """Every prompt keeps an id whose logits are its own."""
    assert shared_head([Encoded((~0, 5, 6, 7), ((1,),)), Encoded((~0, 5, 6), ((1,),))]) == (~0, 5)
    assert shared_head([Encoded((5, 6), ((1,),))] * 2) == (5,)
    assert shared_head([Encoded((5, 6), ((1,),)), Encoded((6, 6), ((1,),))]) == ()


def test_a_label_that_begins_another_is_refused(base: FrozenBase) -> None:
    """It has no end, so the longer one could never be the likelier."""
    for labels in (("a table", "a"), ("a", "a")):
        with pytest.raises(DataError, match="could never be chosen"):
            encode([Example({"text": "x"}, "a")], encoder(base, labels), base.context)
