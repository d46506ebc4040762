"""Questions to tasks that are not there, not yet or no longer, and one bad question among many: G32 to G37, G44."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.asking import OPENAI, OURS, question, with_fields
from tests.attacks.attack import Attack
from tests.attacks.victim import NEIGHBOUR, TARGET, Lines, Victim, inside
from tests.server.site import until

NAMES = ("no-such-task", "TARGET", "target ", "..", "../target", "a/b", "%2e%2e", "\0", "é", "x" * 129, "x" * 1000, "*")
GARBAGE: tuple[Any, ...] = ("1", "latest", "", 0, -1, 1.5, 10**8, 2**63, 1e30, True, [], {}, [1])
MOST_PATIENCE = 5.0
"""Seconds for an answer that waits for at most one."""


@pytest.mark.parametrize("task", NAMES)
def test_G32_no_such_task(attack: Attack, task: str) -> None:
    """Of any shape: what cannot be a task's name is not there either."""
    attack.all_refused(404, "task_not_found", [(route, question(route, task=task)) for route in OURS])
    models = [(route, question(route, task=name)) for route in OPENAI[:1] for name in (task, f"base:{task}")]
    attack.all_refused(404, "model_not_found", models)


@pytest.fixture
def unreachable(base_folder: Path, tmp_path: Path, lines: Lines) -> Iterator[Victim]:
    """A server whose store has been taken away, and which has found out."""
    store = tmp_path / "store"
    with inside(base_folder, store, lines, freshness_seconds=0.0) as victim:
        store.rename(tmp_path / "away")
        asked = {"task": "unknown", "inputs": "x"}
        until(lambda: victim.http.post("/generate", json=asked).status_code == 503, "it is known to be away")
        yield victim
        (tmp_path / "away").rename(store)


def test_G33_an_unknown_task_of_a_store_that_is_away(attack: Attack, unreachable: Victim) -> None:
    """Nobody can say that it is not there: 503, and never 404; what is known is served."""
    attack = attack.on(unreachable)
    cases = [(route, question(route, task="unknown")) for route in (*OURS, "/v1/completions")]
    for _ in range(2):
        attack.all_refused(503, "store_unavailable", cases)
    answer = attack.ask("/generate", question("/generate", task="unknown"))
    assert int(answer.headers["retry-after"]) > 0
    known = attack.ask("/generate", question("/generate", task=NEIGHBOUR))
    assert known.status_code == 200


def test_G34_a_task_deleted_a_moment_ago(attack: Attack) -> None:
    """What runs ends as it would have; whoever asks from then on is told that there is no such task."""
    http = attack.victim.http
    http.put("/tasks/leaving", json={"template": "play {text}"}).raise_for_status()
    body = {"task": "leaving", "inputs": "x", "parameters": {"max_new_tokens": 200, "ignore_eos": True}}
    whole = attack.right(attack.ask("/generate", body)).json()["generated_text"]
    with http.stream("POST", "/generate_stream", json=body) as stream:
        events = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
        next(events)
        http.delete("/tasks/leaving").raise_for_status()
        attack.all_refused(404, "task_not_found", [(route, question(route, task="leaving")) for route in OURS])
        last = list(events)[-1]
    assert (last["generated_text"], last["details"]["version"]) == (whole, 1)
    gone = [with_fields(route, task="leaving", version=version) for route in OURS for version in (1, 2)]
    attack.all_refused(404, "task_not_found", gone)


def test_G36_a_version_that_is_not_there(attack: Attack) -> None:
    """404 for a number that nobody has published; 400 for what is no number of a version."""
    unknown = [with_fields(route, version=version) for route in OURS for version in (2, 99, 99_999_999)]
    attack.all_refused(404, "version_not_found", unknown)
    cases = [
        with_fields(route, **{name: one}) for route in OURS for name in ("version", "min_version") for one in GARBAGE
    ]
    nulls = [with_fields(route, **{name: None}) for route in OURS for name in ("version", "min_version")]
    bare = [(route, {**question(route, task="base"), "version": 1}) for route in OURS]
    attack.all_refused(400, "invalid_request", [*cases, *nulls, *bare])


@pytest.mark.parametrize("route", OURS)
def test_G37_a_version_from_the_future(attack: Attack, route: str) -> None:
    """Waited for, and not for long; then 503 with a time to ask again, and never an older version's answer."""
    began = time.monotonic()
    path, body = with_fields(route, min_version=2)
    with attack.unharmed(503) as request_id:
        answer = attack.ask(path, body, request_id=request_id)
    attack.check(answer, 503, "version_not_visible", json.dumps(body).encode())
    assert int(answer.headers["retry-after"]) > 0
    assert time.monotonic() - began < MOST_PATIENCE


BAD_ITEMS: dict[str, tuple[dict[str, Any], str | None]] = {
    "no such task": ({"task": "no-such-task", "inputs": "x"}, "task_not_found"),
    "no such version": ({"task": TARGET, "inputs": "x", "version": 9}, "version_not_found"),
    "too long": ({"task": TARGET, "inputs": "word " * 400}, "context_length_exceeded"),
    "other fields": ({"task": TARGET, "inputs": {"nobody": "x"}}, "invalid_request"),
    "not there yet": ({"task": TARGET, "inputs": "x", "min_version": 9}, "version_not_visible"),
    "no text": ({"task": TARGET, "inputs": 3}, None),
    "no parameter": ({"task": TARGET, "inputs": "x", "parameters": {"seed": -1}}, None),
    "no object": ([], None),  # type: ignore[dict-item]  # wrong on purpose
}


@pytest.mark.parametrize("place", [0, 40, 63])
@pytest.mark.parametrize("name", BAD_ITEMS)
def test_G44_one_bad_of_sixty_four(attack: Attack, name: str, place: int) -> None:
    """A wrong shape is told of the whole, with its place; the rest in the item, and every other has its own text."""
    bad, code = BAD_ITEMS[name]
    items = [{"task": TARGET, "inputs": f"song {number}", "parameters": {"max_new_tokens": 4}} for number in range(64)]
    alone = [attack.ask("/generate", items[number]).json()["generated_text"] for number in (1, 41, 62)]
    items[place] = bad
    if code is None:
        (error,) = attack.all_refused(400, "invalid_request", [("/generate", {"requests": items})])
        assert error["param"].startswith(f"requests[{place}]")
        return
    found = attack.right(attack.ask("/generate", {"requests": items})).json()["responses"]
    assert [number for number, item in enumerate(found) if "error" in item] == [place]
    assert found[place]["error"]["code"] == code
    assert [found[number]["generated_text"] for number in (1, 41, 62)] == alone
