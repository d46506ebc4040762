"""What the base makes of a prompt's own text: every id's log-probability, and the best in its place."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Event, Finished, Prompt, PromptEvent, Request, Sampling, TokenEvent
from server.engine.settings import EngineSettings
from tests import models
from tests.server.engine import oracle
from tests.server.engine.prompts import BOS, KINDS, front, ids_of, of_kind, text

BEST = 3
Told = list[tuple[int, float, tuple[tuple[int, float], ...]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def reference(folder: Path) -> PreTrainedModel:
    found: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return found


@pytest.fixture(scope="module", params=[False, True], ids=["packed", "deterministic"])
def engine(folder: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A pass reads so few ids that every prompt comes in chunks."""
    settings = EngineSettings(max_batch=8, max_batch_tokens=16, threads=1, deterministic=request.param)
    found = Engine(BaseModel.load(folder, device="cpu", dtype="float32"), settings)
    found.start()
    yield found
    found.close()


def told_of(events: list[Event]) -> Told:
    return [token for event in events if isinstance(event, PromptEvent) for token in event.tokens]


def expected(reference: PreTrainedModel, prompt: Prompt | None, ids: tuple[int, ...]) -> Told:
    """Of every text id but the first, as transformers alone has it."""
    table = torch.log_softmax(oracle.logits_after(reference, prompt, ids, len(ids)), -1)
    lead = len(ids) - len(table)  # a deep prefix has no logits
    places = [at for at, token in enumerate(ids) if token >= 0][1:]
    found = []
    for at in places:
        row = table[at - 1 - lead]
        best, which = row.topk(BEST)
        found.append((ids[at], float(row[ids[at]]), tuple(zip(which.tolist(), best.tolist(), strict=True))))
    return found


def agree(found: Told, wanted: Told) -> bool:
    if [token for token, _, _ in found] != [token for token, _, _ in wanted]:
        return False
    pairs = [(f[1], w[1]) for f, w in zip(found, wanted, strict=True)]
    pairs += [(a[1], b[1]) for f, w in zip(found, wanted, strict=True) for a, b in zip(f[2], w[2], strict=True)]
    return all(math.isclose(mine, theirs, abs_tol=1e-4) for mine, theirs in pairs)


@pytest.mark.parametrize("new", [0, 3])
def test_every_text_id_is_told_as_the_base_alone_would(engine: Engine, reference: PreTrainedModel, new: int) -> None:
    """Of all kinds at once and in chunks, whatever is shared with others; with nothing generated behind it too."""
    shape = engine.base.shape
    asked = [(kind, of_kind(kind, shape, seed)) for kind in KINDS for seed in (1, 2)]
    texts = [text(40 + number, 20) for number in range(len(asked))]
    requests = [
        Request(
            f"{new}/{number}",
            ids_of(kind, prompt, own),
            Sampling(max_new_tokens=new, ignore_eos=True),
            prompt,
            prompt_logprobs=BEST,
        )
        for number, ((kind, prompt), own) in enumerate(zip(asked, texts, strict=True))
    ]
    for _ in range(2):  # the second time all heads are in memory
        found = oracle.ask_all(engine, requests)
        for request, events in zip(requests, found, strict=True):
            assert isinstance(events[-1], Finished)
            assert agree(told_of(events), expected(reference, request.prompt, request.ids)), request.id
            assert sum(isinstance(event, TokenEvent) for event in events) == new
            first = [isinstance(event, PromptEvent) for event in events]
            assert first == sorted(first, reverse=True), "the prompt comes before what is generated"


def test_a_prompt_that_others_begin_with_too_is_told_whole(engine: Engine, reference: PreTrainedModel) -> None:
    """Keys and values that are there already say nothing of what the text's own ids were worth."""
    ids = (BOS, *text(7, 100))
    plain = [Request(f"plain/{number}", (*ids, *text(number, 4)), Sampling(max_new_tokens=1)) for number in range(3)]
    oracle.ask_all(engine, plain)
    told = oracle.ask(engine, Request("told", ids, Sampling(max_new_tokens=1), prompt_logprobs=BEST))
    assert agree(told_of(told), expected(reference, None, ids))


def test_the_first_text_id_is_never_told_whoever_read_the_rows(engine: Engine, reference: PreTrainedModel) -> None:
    """Rows that no head shares are fed with the text."""
    prompt = replace(front(engine.base.shape.hidden, 4, 6), digest="alone", head=())
    ids = (*ids_of("embeddings", front(engine.base.shape.hidden, 4, 6), text(9, 6)),)
    found = oracle.ask(engine, Request("rows", ids, Sampling(max_new_tokens=0), prompt, prompt_logprobs=BEST))
    assert agree(told_of(found), expected(reference, prompt, ids))


def test_nothing_is_told_of_what_nobody_asked_for(engine: Engine) -> None:
    """Nor of a single id, before which nothing stands."""
    ids = (BOS, *text(1, 5))
    assert told_of(oracle.ask(engine, Request("a", ids, Sampling(max_new_tokens=1)))) == []
    alone = oracle.ask(engine, Request("b", (5,), Sampling(max_new_tokens=0), prompt_logprobs=0))
    assert told_of(alone) == []
    assert isinstance(alone[-1], Finished)
    bare = oracle.ask(engine, Request("c", ids, Sampling(max_new_tokens=0), prompt_logprobs=0))
    assert [top for _, _, top in told_of(bare)] == [()] * 5


def test_a_prompt_that_gives_no_numbers_fails_alone(engine: Engine, reference: PreTrainedModel) -> None:
    """Its neighbours are told as ever."""
    broken = front(engine.base.shape.hidden, 2, 5)
    assert broken.rows is not None
    broken.rows[:] = float("nan")
    ids, whole = (*broken.head, *text(3, 8)), (BOS, *text(4, 30))
    bad, good = oracle.ask_all(
        engine,
        [
            Request("bad", ids, Sampling(max_new_tokens=0), broken, prompt_logprobs=1),
            Request("good", whole, Sampling(max_new_tokens=0), prompt_logprobs=BEST),
        ],
    )
    assert oracle.failure_of(bad) == "non_finite"
    assert agree(told_of(good), expected(reference, None, whole))
