"""Soft prompts that are not numbers, past every check of an upload: their own requests fail, all others are right."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prompt_store.metadata import Kind
from tests.server import poison
from tests.server.site import Site
from tests.server.site import site as running

FEW = {"max_new_tokens": 12, "logprobs": 0, "ignore_eos": True}
LONG = "what is the weather in Paris tomorrow? book a table for two at seven. the food was great and slow. " * 2
HEALTHY: list[dict[str, Any]] = [
    {"inputs": text, "parameters": FEW} | ({"task": name} if name else {})
    for text in ("play some jazz", "who wrote the book?")
    for name in ("sound-embeddings", None, "sound-prefix", "sound-adapter", "literals")
]


def publish_sound(site: Site) -> None:
    """A task of every kind for the neighbours, and as many that are to be poisoned."""
    for kind in poison.KINDS:
        for name, template in ((f"sound-{kind}", "{text}"), (f"sick-{kind}", "play: {text}")):
            data = poison.file_of(kind, poison.tensors(kind), template)
            assert site.http.put(f"/tasks/{name}", content=data).status_code == 201
    site.publish("literals", "play {text} now", target_delimiter="")


@pytest.fixture(scope="module")
def site(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(base_folder, tmp_path_factory.mktemp("store"), quarantine_seconds=0) as found:
        publish_sound(found)
        yield found


@pytest.fixture(scope="module")
def lenient(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server whose operator has lifted the bound of a row's norm."""
    with running(base_folder, tmp_path_factory.mktemp("store"), max_norm=1e300, quarantine_seconds=0) as found:
        publish_sound(found)
        yield found


def put_into_files(site: Site, kind: Kind, name: str) -> str:
    """The task's name: a sound soft prompt of that kind, poisoned, straight in the store's files."""
    values = poison.tensors(kind)
    for array in values.values():
        poison.POISONS[name](array)
    task = f"files-{kind}-{name}".replace(" ", "-")
    poison.put_into_files(Path(site.desk.settings.store), task, kind, poison.file_of(kind, values))
    return task


def ask(site: Site, requests: list[dict[str, Any]]) -> list[Any]:
    """All in one batch."""
    found: list[Any] = site.http.post("/generate", json={"requests": requests}).json()["responses"]
    return found


def said(answers: list[Any]) -> list[list[tuple[int, Any]]]:
    """Ids exactly, their logprobs to rounding; an error is none of them."""
    return [
        [(token["id"], pytest.approx(token["logprob"], abs=1e-4)) for token in answer["logprobs"]] for answer in answers
    ]


@pytest.mark.parametrize("kind", poison.KINDS)
@pytest.mark.parametrize("name", poison.POISONS)
def test_a_poisoned_file_in_the_store_is_not_served(site: Site, kind: Kind, name: str) -> None:
    """Its digests are right, and still its numbers are looked at: in a batch only its own items are errors."""
    sick = {"task": put_into_files(site, kind, name), "inputs": LONG, "parameters": FEW}
    wanted = said(ask(site, HEALTHY))
    answers = ask(site, [*HEALTHY[:5], sick, *HEALTHY[5:], sick])
    code = "wrong_base" if name == "1e38" else "corrupt"
    assert [answers[at]["error"]["code"] for at in (5, 11)] == [code, code]
    assert said(answers[:5] + answers[6:11]) == wanted
    assert site.http.get("/readyz").status_code == 200


@pytest.mark.parametrize("kind", ["prefix", "adapter"])
def test_a_file_that_overflows_in_the_pass_fails_alone(lenient: Site, kind: Kind) -> None:
    """1e38, finite in the file: the head's own pass fails, with it all who wait for it, and nobody else."""
    sick = {"task": put_into_files(lenient, kind, "1e38"), "inputs": LONG, "parameters": FEW}
    wanted = said(ask(lenient, HEALTHY))
    answers = ask(lenient, [*HEALTHY[:5], sick, sick, *HEALTHY[5:], sick])
    assert {answers[at]["error"]["code"] for at in (5, 6, 12)} == {"non_finite_output"}
    assert said(answers[:5] + answers[7:12]) == wanted
    assert said(ask(lenient, HEALTHY)) == wanted, "nothing is left in the slots"


def test_rows_of_1e38_are_why_norms_are_bounded(lenient: Site) -> None:
    """Their logits are finite, so nothing later would notice: without the bound they answer, and still only alone."""
    sick = {"task": put_into_files(lenient, "embeddings", "1e38"), "inputs": LONG, "parameters": FEW}
    wanted = said(ask(lenient, HEALTHY))
    answers = ask(lenient, [sick, *HEALTHY])
    assert "error" not in answers[0]
    assert said(answers[1:]) == wanted


@pytest.mark.parametrize("kind", poison.KINDS)
@pytest.mark.parametrize("name", [name for name in poison.POISONS if name != "1e38"])
def test_a_poisoned_resident_fails_alone_and_leaves_nothing(site: Site, kind: Kind, name: str) -> None:
    """Gone bad in memory, behind every check: others' batch and others in its slots are right, and it is read anew."""
    sick = {"task": f"sick-{kind}", "inputs": LONG, "parameters": FEW}
    wanted, own = said(ask(site, HEALTHY)), said(ask(site, [sick]))
    poison.poison(site, f"sick-{kind}", poison.POISONS[name])
    answers = ask(site, [*HEALTHY[:5], sick, sick, sick, *HEALTHY[5:], sick])
    assert {answers[at]["error"]["code"] for at in (5, 6, 7, 13)} == {"non_finite_output"}
    assert {answers[at]["error"]["type"] for at in (5, 6, 7, 13)} == {"unavailable_error"}
    assert said(answers[:5] + answers[8:13]) == wanted
    assert said(ask(site, HEALTHY)) == wanted, "nothing is left in the slots"
    assert said(ask(site, [sick])) == own, "what had gone bad has left the memory"
    poison.poison(site, f"sick-{kind}", poison.POISONS[name])
    question = {"task": f"sick-{kind}", "inputs": LONG, "labels": ["jazz", "rock"]}
    scored = site.http.post("/classify", json=question)
    assert (scored.status_code, scored.json()["error"]["code"]) == (503, "non_finite_output")
    assert site.http.post("/classify", json=question).status_code == 200


def test_sequences_that_grow_into_where_a_poisoned_one_lay_are_right(site: Site) -> None:
    """The cache is laid out for the longest: later answers get longer while they run, over what long failures left."""
    sick = {"task": "sick-prefix", "inputs": LONG, "parameters": FEW}
    growing = [{**request, "parameters": {**FEW, "max_new_tokens": 120}} for request in HEALTHY]
    wanted = said(ask(site, growing))
    poison.poison(site, "sick-prefix", poison.POISONS["NaN"])
    assert {answer["error"]["code"] for answer in ask(site, [sick] * 12)} == {"non_finite_output"}
    assert said(ask(site, growing)) == wanted
    digest = site.http.get("/tasks/sick-prefix").json()["digest"]
    site.desk.room.running.engine.drop(digest)
