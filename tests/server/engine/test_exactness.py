"""Every answer equals transformers' own, alone, token for token, in float32: the promise of design/40."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from server.engine import adapters
from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Prompt, Request, Sampling
from server.engine.settings import EngineSettings
from tests import models
from tests.server.engine import oracle, prompts
from tests.server.engine.prompts import text

NEW = 12


class Bench:
    """A running engine, and the same base in transformers' hands."""

    def __init__(self, folder: Path) -> None:
        self.reference: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        base = BaseModel.load(folder, device="cpu", dtype="float32")
        self.engine = Engine(base, EngineSettings(max_batch=64, max_batch_tokens=96, threads=1))
        self.engine.start()
        self.hidden = base.shape.hidden
        self.serial = itertools.count()

    def prompt(self, length: int, seed: int, head: tuple[int, ...] = ()) -> Prompt:
        return prompts.front(self.hidden, length, seed, head)

    def prefix(self, length: int, seed: int, text: tuple[int, ...] = ()) -> Prompt:
        return prompts.prefix(self.engine.base.shape, length, seed, text)

    def adapter(self, layers: int, length: int, gates: int, seed: int, text: tuple[int, ...] = ()) -> Prompt:
        return prompts.adapter(self.hidden, layers, length, gates, seed, text)

    @property
    def adapts(self) -> bool:
        return self.engine.base.no_adapters is None

    def request(self, ids: tuple[int, ...], prompt: Prompt | None, new: int = NEW) -> Request:
        return Request(next(self.serial), ids, Sampling(max_new_tokens=new, ignore_eos=True), prompt)

    def alone(self, request: Request) -> list[int]:
        if request.prompt is not None and request.prompt.adapter is not None:
            with oracle.adapted(self.reference, *map(torch.tensor, request.prompt.adapter)):
                return oracle.generate(self.reference, request.ids, None, request.sampling.max_new_tokens)
        if request.prompt is not None and request.prompt.prefix is not None:
            prefix = torch.tensor(request.prompt.prefix)
            text = request.ids[prefix.shape[3] :]
            return oracle.generate_behind(self.reference, prefix, text, request.sampling.max_new_tokens)
        rows = None if request.prompt is None or request.prompt.rows is None else torch.tensor(request.prompt.rows)
        return oracle.generate(self.reference, request.ids, rows, request.sampling.max_new_tokens)


@pytest.fixture(scope="module", params=models.WIDE)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    found = Bench(models.save(tmp_path_factory.mktemp("base"), request.param))
    yield found
    found.engine.close()


def mixed(bench: Bench, count: int) -> list[Request]:
    """Ten tasks: rows in front (3), rows behind text, text alone, the bare model, deep prefixes (2), adapters (2).

    A family that runs no adapters gets the bare model in their place.
    """
    front, other = bench.prompt(5, 1), bench.prompt(20, 2)
    with_text = bench.prompt(3, 3, text(99, 7))
    behind = bench.prompt(4, 4)
    behind = Prompt(behind.digest, behind.rows, (0, *text(98, 3)))
    literal = Prompt("literal", None, (0, *text(97, 9)))
    deep, deep_with_text = bench.prefix(6, 11), bench.prefix(9, 12, text(95, 4))
    sides = [bench.adapter(2, 5, 1, 13), bench.adapter(3, 9, 4, 14, text(94, 3))] if bench.adapts else [None, None]
    found = []
    for i in range(count):
        own = text(i, 4 + i % 13)
        found.append(
            [
                bench.request((*front.head, *own), front),
                bench.request((*other.head, *own), other),
                bench.request((*with_text.head, *own), with_text),
                bench.request((*behind.head, *own, ~0, ~1, *own[:2], ~2, ~3), behind),
                bench.request((*literal.head, *own), literal),
                bench.request((0, *own), None),
                bench.request((*deep.head, *own), deep),
                bench.request((*deep_with_text.head, *own), deep_with_text),
                *(bench.request((*(side.head if side else (0,)), *own), side) for side in sides),
            ][i % 10]
        )
    return found


def test_mixed_requests_answer_as_alone(bench: Bench) -> None:
    """64 requests of 10 tasks in flight give exactly the ids that transformers gives to each alone."""
    requests = mixed(bench, 64)
    wanted = [bench.alone(request) for request in requests]
    assert len({tuple(ids) for ids in wanted}) > 48, "the references must differ, or every engine would pass"
    got = [oracle.ids_of(found) for found in oracle.ask_all(bench.engine, requests)]
    assert got == wanted


def test_a_second_round_over_cached_heads_answers_the_same(bench: Bench) -> None:
    """Requests that find their task's head in memory get the same ids as those that had it computed."""
    first = [oracle.ids_of(found) for found in oracle.ask_all(bench.engine, mixed(bench, 12))]
    second = [oracle.ids_of(found) for found in oracle.ask_all(bench.engine, mixed(bench, 12))]
    assert first == second


def test_another_soft_prompt_is_another_answer(bench: Bench) -> None:
    """The same text under two soft prompts of one length differs, so swapping prompts could not go unnoticed."""
    one, two = bench.prompt(5, 1), bench.prompt(5, 7)
    own = text(5, 8)
    answers = [oracle.ids_of(oracle.ask(bench.engine, bench.request((*p.head, *own), p))) for p in (one, two)]
    assert answers[0] != answers[1]


def test_an_adapter_is_heard(bench: Bench) -> None:
    """It answers otherwise than the bare model, and than its half without the lower layer."""
    if not bench.adapts:
        assert bench.engine.base.config.model_type not in adapters.ADAPTED_FAMILIES
        return
    own = text(5, 8)
    side = bench.adapter(2, 5, 4, 13)
    assert side.adapter is not None
    upper = Prompt("upper", None, side.head, adapter=(side.adapter[0][1:], side.adapter[1][1:]))
    answers = [oracle.ids_of(oracle.ask(bench.engine, bench.request((0, *own), p))) for p in (side, upper, None)]
    assert len({tuple(ids) for ids in answers}) == 3


def test_a_long_input_is_fed_in_chunks_exactly(bench: Bench) -> None:
    """An input longer than a pass's token budget, chunked among others, answers as alone."""
    prompt = bench.prompt(5, 1)
    requests = [bench.request((*prompt.head, *text(i, 190)), prompt, 12) for i in range(3)] + mixed(bench, 6)
    wanted = [bench.alone(request) for request in requests]
    assert [oracle.ids_of(found) for found in oracle.ask_all(bench.engine, requests)] == wanted


def test_a_request_that_leaves_the_head_early_shares_only_what_it_has_in_common(bench: Bench) -> None:
    """The head is a hint: other ids in its middle are fed, not taken from the cache."""
    prompt = bench.prompt(6, 8, text(96, 6))
    requests = [
        bench.request((*prompt.head[:cut], *text(40 + cut, 5)), prompt) for cut in range(7, len(prompt.head) + 1)
    ]
    wanted = [bench.alone(request) for request in requests]
    assert [oracle.ids_of(found) for found in oracle.ask_all(bench.engine, requests)] == wanted


def test_long_adapters_answer_as_alone_too(bench: Bench) -> None:
    """Where a copy for every token would be too large, one adapter is attended to after the other."""
    if not bench.adapts:
        assert bench.engine.base.config.model_type not in adapters.ADAPTED_FAMILIES
        return
    sides = [bench.adapter(2, 500, 4, 16), bench.adapter(3, 7, 1, 17)]
    requests = [bench.request((0, *text(70 + i, 60)), sides[i % 2]) for i in range(6)]
    wanted = [bench.alone(request) for request in requests]
    assert adapters.LAID_OUT < 60 * 500 * 3
    assert [oracle.ids_of(found) for found in oracle.ask_all(bench.engine, requests)] == wanted


def test_continuations_score_behind_an_adapter(bench: Bench) -> None:
    """Every label's ids are adapted, as the prompt's are."""
    if not bench.adapts:
        assert "adapters run on" in str(bench.engine.base.no_adapters)
        return
    side = bench.adapter(2, 5, 4, 15)
    ids, labels = (0, *text(12, 9)), (text(20, 1), text(21, 3), text(23, 5))
    assert side.adapter is not None
    with oracle.adapted(bench.reference, *map(torch.tensor, side.adapter)):
        wanted = [oracle.score(bench.reference, ids, None, label) for label in labels]
    plain = [oracle.score(bench.reference, ids, None, label) for label in labels]
    found = oracle.scores_of(oracle.ask(bench.engine, Request("side", ids, prompt=side, continuations=labels)))
    assert found == pytest.approx(wanted, abs=1e-3)
    assert found != pytest.approx(plain, abs=0.1)


def test_continuations_score_as_brute_force(bench: Bench) -> None:
    """Labels of one and of several ids get the sum of logs that a forward pass over prompt and label gives."""
    prompt = bench.prompt(5, 1)
    ids = (*prompt.head, *text(11, 9))
    labels = (text(20, 1), text(21, 3), text(22, 1), text(23, 5), text(24, 2), *(text(50 + i, 12) for i in range(12)))
    request = Request("score", ids, prompt=prompt, continuations=labels)
    rows = torch.tensor(prompt.rows)
    wanted = [oracle.score(bench.reference, ids, rows, label) for label in labels]
    others = mixed(bench, 12)
    found = oracle.ask_all(bench.engine, [*others, request])
    assert oracle.scores_of(found[-1]) == pytest.approx(wanted, abs=1e-3)
    assert [oracle.ids_of(f) for f in found[:-1]] == [bench.alone(r) for r in others]
