"""Steps of the engine that fail under a server's requests: rows L5 to L8."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from prompt_store.metadata import Kind
from server.engine.engine import Engine
from server.engine.runner import Outcome
from server.engine.sequence import Sequence
from server.engine.step import Step
from server.quarantine import FAILURES
from tests.server import poison
from tests.server.site import Site, embeddings, until
from tests.server.site import site as running

LONG = 150
"""Ids of an answer that is still under way when others come."""
PLACES = ("play some jazz", "who wrote the book?")
SLOW, A_PASS = threading.Event(), 0.02
"""Nobody sets it: a pass then takes at least so many seconds, and others come while an answer is under way."""
LOST = torch.AcceleratorError("CUDA error: device-side assert triggered")


def engine_of(site: Site) -> Engine:
    return site.desk.room.running.engine


def failing(engine: Engine, wrong: Callable[[Step], Exception | None]) -> list[int]:
    """Passes that raise where `wrong` says so; how many sequences each pass had."""
    run, sizes = engine._runner.run, []

    def failed(step: Step) -> list[Outcome]:
        sizes.append(len(step.sequences()))
        error = wrong(step)
        if error is not None:
            raise error
        return run(step)

    engine._runner.run = failed  # type: ignore[method-assign]
    return sizes


def ask(url: str, inputs: str, new_tokens: int, task: str = "sound") -> httpx.Response:
    body = {"task": task, "inputs": inputs, "parameters": {"max_new_tokens": new_tokens, "ignore_eos": True}}
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as own:
        return own.post("/generate", json=body)


@contextmanager
def under_way(site: Site, new_tokens: int = LONG) -> Iterator[list["Future[httpx.Response]"]]:
    """Two long answers, of which the first ids are there."""
    before = site.snapshot().counters.generated
    with ThreadPoolExecutor(len(PLACES)) as pool:
        found = [pool.submit(ask, site.url, inputs, new_tokens) for inputs in PLACES]
        until(
            lambda: site.snapshot().running == len(PLACES) and site.snapshot().counters.generated > before + 2,
            "both are under way",
        )
        yield found


def test_l5_out_of_memory_the_youngest_request_fails(base_folder: Path) -> None:
    """It is 503 and may come again; what was under way says what it says alone, and nothing is held afterwards."""
    with running(base_folder, "memory://") as site:
        site.publish("sound", "{text}", soft=4)
        wanted = [ask(site.url, inputs, LONG).json()["generated_text"] for inputs in PLACES]

        def wrong(step: Step) -> Exception | None:
            SLOW.wait(0 if len(step.sequences()) > len(PLACES) else A_PASS)
            return torch.OutOfMemoryError("CUDA out of memory") if len(step.sequences()) > len(PLACES) else None

        sizes = failing(engine_of(site), wrong)
        with under_way(site) as answers:
            late = ask(site.url, "too much", 5)
        assert (late.status_code, late.json()["error"]["code"]) == (503, "out_of_memory")
        assert (late.headers["x-should-retry"], late.headers["Retry-After"]) == ("true", "1")
        assert [answer.result().json()["generated_text"] for answer in answers] == wanted
        assert max(sizes) == len(PLACES) + 1
        assert ask(site.url, "too much", 5).status_code == 200
        assert site.http.get("/readyz").status_code == 200
        assert site.idle()


def test_l6_a_lost_device_ends_every_request_and_nothing_is_answered_any_more(base_folder: Path) -> None:
    """Under way, streamed, waiting: each is told; the server says that it is dead, and no pass is tried again."""
    with running(base_folder, "memory://", max_batch=3) as site:
        site.publish("sound", "{text}", soft=4)
        go = threading.Event()
        sizes = failing(engine_of(site), lambda _: LOST if go.wait(A_PASS) else None)
        body = {"task": "sound", "inputs": "a stream", "parameters": {"max_new_tokens": LONG, "ignore_eos": True}}
        with ThreadPoolExecutor(8) as pool, site.http.stream("POST", "/generate_stream", json=body) as stream:
            lines = stream.iter_lines()
            next(lines)
            answers = [pool.submit(ask, site.url, "a", LONG) for _ in range(6)]
            until(lambda: site.snapshot().waiting > 0, "some wait")
            go.set()
            found = [answer.result() for answer in answers]
            last = [line for line in lines if line.startswith("data:")][-1]
        assert {(one.status_code, one.json()["error"]["code"]) for one in found} == {(503, "engine_failed")}
        assert "engine_failed" in last
        tried = len(sizes)
        assert [ask(site.url, "b", 3).status_code for _ in range(3)] == [503] * 3
        assert [site.http.get(path).status_code for path in ("/livez", "/readyz", "/health")] == [503] * 3
        assert len(sizes) == tried


def asked(site: Site, requests: list[dict[str, Any]]) -> list[Any]:
    """All in one body; of each what is told of its ids, every bit, or the code of its error."""
    answers = site.http.post("/generate", json={"requests": requests}).json()["responses"]
    return [answer["error"]["code"] if "error" in answer else answer["logprobs"] for answer in answers]


def request(task: str, inputs: str, new_tokens: int = 12) -> dict[str, Any]:
    parameters = {"max_new_tokens": new_tokens, "logprobs": 5, "ignore_eos": True}
    return {"task": task, "inputs": inputs, "parameters": parameters}


@pytest.fixture(scope="module")
def exact(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """In deterministic mode, and with no bound on a row's norm: then 1e38 overflows where only a pass sees it."""
    store = tmp_path_factory.mktemp("store")
    with running(base_folder, store, deterministic=True, max_norm=1e300, quarantine_seconds=0) as site:
        for kind in poison.KINDS:
            for name in ("sound", "sick"):
                data = poison.file_of(kind, poison.tensors(kind), f"{name}: {{text}}")
                assert site.http.put(f"/tasks/{name}-{kind}", content=data).status_code == 201
        yield site


NEIGHBOURS = [request(f"sound-{kind}", inputs) for kind in poison.KINDS for inputs in PLACES]


def test_l7_logits_of_one_row_that_are_no_numbers_fail_one_request(exact: Site) -> None:
    """Made NaN in the pass itself, at its fifth id: the others' logprobs are those of alone to the last bit."""
    wanted = [asked(exact, [one])[0] for one in NEIGHBOURS]
    engine = engine_of(exact)
    plain = engine._runner._outcomes

    def outcomes(step: Step, wanting: list[Sequence], logits: torch.Tensor) -> list[Outcome]:
        for row, sequence in enumerate(wanting):
            if sequence.request.sampling.max_new_tokens == 40 and sequence.generated == 4:
                logits[row] = torch.nan
        return plain(step, wanting, logits)

    engine._runner._outcomes = outcomes  # type: ignore[method-assign, assignment]
    try:
        answers = asked(exact, [*NEIGHBOURS[:3], request("sound-prefix", "sick", 40), *NEIGHBOURS[3:]])
    finally:
        engine._runner._outcomes = plain  # type: ignore[method-assign]
    assert answers == [*wanted[:3], "non_finite_output", *wanted[3:]]
    assert asked(exact, NEIGHBOURS) == wanted, "nothing is left in the slots"


@pytest.mark.parametrize("kind", poison.KINDS)
def test_l7_a_soft_prompt_gone_bad_in_memory_fails_its_own_requests(exact: Site, kind: Kind) -> None:
    """NaN behind every check, all over its keys and values: others are the same bits beside it and in its slots."""
    wanted = [asked(exact, [one])[0] for one in NEIGHBOURS]
    poison.poison(exact, f"sick-{kind}", poison.POISONS["NaN"])
    sick = request(f"sick-{kind}", "x " * 40)
    assert asked(exact, [sick, *NEIGHBOURS[:3], sick, *NEIGHBOURS[3:]]) == [
        "non_finite_output", *wanted[:3], "non_finite_output", *wanted[3:]
    ]  # fmt: skip
    grown = [{**one, "parameters": {**one["parameters"], "max_new_tokens": 90}} for one in NEIGHBOURS]
    assert [found[:12] for found in asked(exact, grown)] == wanted, "nor while slots grow over where it lay"


@pytest.mark.parametrize("kind", ["prefix", "adapter"])
def test_l7_a_poisoned_file_put_into_the_store_fails_its_own_requests(exact: Site, kind: Kind) -> None:
    """Past the upload's checks, finite as it is read, and no number in the pass."""
    wanted = [asked(exact, [one])[0] for one in NEIGHBOURS]
    sick = request(poison.bad_file(exact, kind, f"stored-{kind}"), "x " * 40)
    assert asked(exact, [sick, *NEIGHBOURS, sick]) == ["non_finite_output", *wanted, "non_finite_output"]
    assert asked(exact, NEIGHBOURS) == wanted


def test_l8_a_poisoned_task_that_is_hammered_is_refused_before_any_work(base_folder: Path, tmp_path: Path) -> None:
    """A hundred times beside others: three are run, the rest told when to come again; a new version is free at once."""
    with running(base_folder, tmp_path, max_norm=1e300, quarantine_seconds=3600) as site:
        site.publish("sound", "{text}", soft=4)
        poison.bad_file(site, "prefix", "sick")
        digest = site.http.get("/tasks/sick").json()["digest"]
        wanted = [ask(site.url, inputs, 12).json()["generated_text"] for inputs in PLACES]
        spent: list[bool] = []
        failing(engine_of(site), lambda step: spent.append(any(s.digest == digest for s in step.sequences())))
        answers, others = [], []
        for number in range(100):
            answers.append(ask(site.url, "again", 12, "sick"))
            others.append(ask(site.url, PLACES[number % 2], 12).json().get("generated_text"))
        codes = [answer.json()["error"]["code"] for answer in answers]
        assert codes == ["non_finite_output"] * FAILURES + ["quarantined"] * (100 - FAILURES)
        assert {answer.status_code for answer in answers} == {503}
        assert 3000 < int(answers[FAILURES].headers["Retry-After"]) <= 3600
        assert sum(spent) <= FAILURES + 2
        assert others == wanted * 50
        assert "softprompt_prompt_quarantined_total 1.0" in site.http.get("/metrics").text
        assert site.http.get("/tasks/sick").status_code == 200
        label = {"task": "sick", "inputs": "x", "labels": ["a", "b"]}
        assert site.http.post("/classify", json=label).json()["error"]["code"] == "quarantined"
        assert site.http.put("/tasks/sick", content=embeddings(site.base, "{text}", 4).data).status_code == 201
        assert ask(site.url, "at last", 3, "sick").status_code == 200
        assert sum(spent) <= FAILURES + 2, "and that one is not the same"


def test_l8_many_at_the_same_time_cost_no_more_than_themselves(base_folder: Path, tmp_path: Path) -> None:
    """A hundred at once are each in one pass at most; who comes then is refused, until one tries it again."""
    with running(base_folder, tmp_path, max_norm=1e300, quarantine_seconds=1.0) as site:
        poison.bad_file(site, "adapter", "sick")
        digest = site.http.get("/tasks/sick").json()["digest"]
        spent: list[bool] = []
        failing(engine_of(site), lambda step: spent.append(any(s.digest == digest for s in step.sequences())))
        bodies = {"requests": [request("sick", "again")] * 50}
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda _: site.http.post("/generate", json=bodies).json()["responses"], range(2)))
        codes = {answer["error"]["code"] for responses in found for answer in responses}
        assert codes <= {"non_finite_output", "quarantined"}
        assert FAILURES <= sum(spent) <= 100
        until(lambda: _code(site) == "non_finite_output", "one tries it again")
        assert _code(site) == "quarantined"


def _code(site: Site) -> str:
    return str(ask(site.url, "x", 3, "sick").json()["error"]["code"])
