"""Beginnings that requests of one soft prompt have in common are read once, and change no answer."""

import itertools
from collections.abc import Iterator

import pytest

from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Finished, Prompt, Request, Sampling
from server.engine.settings import EngineSettings
from server.engine.texts import BLOCK
from tests import models
from tests.server.engine import oracle

DOCUMENT = tuple(3 + (i * 29) % 380 for i in range(100))
WHOLE_BLOCKS = len((0, *DOCUMENT)) // BLOCK * BLOCK
_serial = itertools.count()


@pytest.fixture
def engine(base: BaseModel) -> Iterator[Engine]:
    found = Engine(base, EngineSettings(max_batch=16, max_batch_tokens=64, threads=1))
    found.start()
    yield found
    found.close()


def prompt(seed: int, length: int = 4) -> Prompt:
    return Prompt(f"soft/{seed}", models.rows(length, seed=seed).numpy(), (*(~i for i in range(length)), 0))


def question(number: int, soft: Prompt | None, document: tuple[int, ...] = DOCUMENT) -> Request:
    own = tuple(3 + (number * 41 + i * 17) % 380 for i in range(5))
    ids = (*(soft.head if soft else (0,)), *document, *own)
    return Request(next(_serial), ids, Sampling(max_new_tokens=6, ignore_eos=True), soft)


def cached(engine: Engine, request: Request) -> int:
    end = oracle.ask(engine, request)[-1]
    assert isinstance(end, Finished)
    return end.cached_tokens


@pytest.mark.parametrize("soft", [None, prompt(1)])
def test_answers_about_one_document_are_those_of_transformers(engine: Engine, soft: Prompt | None) -> None:
    """At once and one by one, whoever has read the document; with a soft prompt in front and without."""
    questions = [question(number, soft) for number in range(8)]
    rows = None if soft is None else models.rows(4, seed=1)
    wanted = [oracle.generate(models.random_model(), q.ids, rows, 6) for q in questions]
    assert [oracle.ids_of(found) for found in oracle.ask_all(engine, questions)] == wanted
    assert [oracle.ids_of(oracle.ask(engine, q)) for q in questions] == wanted


def test_a_document_that_many_ask_about_at_once_is_read_once(engine: Engine) -> None:
    """The others wait for its first reader: its whole blocks are fed once."""
    questions = [question(number, None) for number in range(8)]
    ends = [found[-1] for found in oracle.ask_all(engine, questions)]
    assert sorted(end.cached_tokens for end in ends if isinstance(end, Finished)) == [0, *[WHOLE_BLOCKS] * 7]
    fed = engine.snapshot().counters.ids_fed
    assert fed == len(questions[0].ids) + 7 * (len(questions[0].ids) - WHOLE_BLOCKS)


def test_what_two_had_in_common_outlives_them(engine: Engine) -> None:
    """Asked one after the other, the third question finds the document there."""
    assert [cached(engine, question(number, None)) for number in range(4)] == [0, 0, WHOLE_BLOCKS, WHOLE_BLOCKS]


def test_nothing_is_shared_between_two_soft_prompts(engine: Engine) -> None:
    """The same text behind another prompt has other keys and values; nor between the bare base and a task."""
    wanted = [oracle.ids_of(oracle.ask(engine, question(1, prompt(seed)))) for seed in range(3)]
    assert len(set(map(tuple, wanted))) == 3
    for soft in (None, *(prompt(seed) for seed in range(3, 6))):
        assert cached(engine, question(1, soft)) == 0


def test_a_dropped_soft_prompt_leaves_no_text_behind(engine: Engine) -> None:
    """What was kept of it is forgotten with it."""
    for number in range(3):
        oracle.ask(engine, question(number, prompt(1)))
    assert engine.snapshot().text_bytes > 0
    engine.drop(prompt(1).digest)
    oracle.ask(engine, question(9, None))
    assert engine.snapshot().text_bytes == 0
    assert cached(engine, question(9, prompt(1))) == 0


def test_kept_texts_stay_within_their_budget(base: BaseModel) -> None:
    """The least recently used leaves first; a budget of nothing keeps nothing, and who runs at once still shares."""
    document_bytes = WHOLE_BLOCKS * base.shape.layers * 2 * base.shape.kv_heads * base.shape.head_dim * 4
    for budget, kept in ((0, 0), (2 * document_bytes, 2 * document_bytes)):
        engine = Engine(base, EngineSettings(max_batch=8, threads=1, text_budget=budget))
        engine.start()
        for shift in range(4):
            document = tuple(3 + (token + shift) % 380 for token in DOCUMENT)
            together = [question(number, None, document) for number in range(2)]
            ends = [found[-1] for found in oracle.ask_all(engine, together)]
            assert sorted(end.cached_tokens for end in ends if isinstance(end, Finished)) == [0, WHOLE_BLOCKS]
        assert engine.snapshot().text_bytes == kept
        engine.close()
