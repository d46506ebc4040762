"""One of several clients that ask, publish, delete and roll back on the same tasks at once, and note what is told.

Judges nothing that the others' notes are needed for.
"""

import json
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.fuzz.findings import Findings
from tests.fuzz.ledger import Change, Ledger, Told
from tests.fuzz.makings import LABELS, inputs, made, parameters

TASKS = ("one", "two", "three")
PLACE = ("one", "two", "three", "base")
EVENTS = (
    "plain",
    "stream",
    "many",
    "classify",
    "completion",
    "cancel",
    "late",
    "publish",
    "delete",
    "rollback",
    "batch",
)
WEIGHTS = (8, 5, 3, 3, 2, 2, 1, 4, 2, 1, 1)
NOT_NOW = {"queue_full", "queue_timeout", "bodies_full", "too_many_requests"}
"""Codes of 429 and 503: so many ask that some are told to come later."""
SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Note:
    """A finished answer of one request: what was asked where, and what came when."""

    route: str
    task: str
    body: dict[str, Any]
    answer: dict[str, Any]
    told: Told | None


@dataclass(slots=True)
class Client:
    """`deterministic` servers are asked in ways that only they answer to the last bit."""

    http: httpx.Client
    name: str
    ledger: Ledger
    findings: Findings
    deterministic: bool
    notes: list[Note] = field(default_factory=list)

    def run(self, actions: int) -> None:
        draw = Random(self.name)
        for _ in range(actions):
            event = draw.choices(EVENTS, WEIGHTS)[0]
            task = draw.choice(TASKS if event in {"publish", "delete", "rollback"} else PLACE)
            self.findings.count(f"action: {event}")
            getattr(self, f"_{event}")(draw, task)

    def publish(self, draw: Random, task: str) -> None:
        one = made(draw.randrange(10**6))
        began = time.monotonic()
        answer = self.http.put(f"/tasks/{task}", content=one.file.data)
        if self._expected(answer, {200, 201}, f"publish {task}"):
            told = answer.json()
            self._changed(task, began, told)
            self.claim(told["digest"] == one.file.digest, "a publish answers with another digest")

    def _publish(self, draw: Random, task: str) -> None:
        self.publish(draw, task)

    def _delete(self, draw: Random, task: str) -> None:
        began = time.monotonic()
        answer = self.http.delete(f"/tasks/{task}")
        if self._expected(answer, {204, 404}, f"delete {task}") and answer.status_code == 204:
            self.ledger.changed(task, Change(began, time.monotonic(), None, None))

    def _rollback(self, draw: Random, task: str) -> None:
        versions = self.ledger.versions(task)
        version = draw.choice(versions) if versions else 1
        began = time.monotonic()
        answer = self.http.post(f"/tasks/{task}/rollback", json={"version": version})
        if self._expected(answer, {200, 201, 404, 409}, f"rollback {task}") and answer.is_success:
            self._changed(task, began, answer.json())

    def _changed(self, task: str, began: float, told: dict[str, Any]) -> None:
        self.ledger.changed(task, Change(began, time.monotonic(), told["version"], told["digest"]))

    def _body(self, draw: Random, task: str) -> dict[str, Any]:
        """The fields are guessed from one of the versions: a wrong guess is a 400."""
        fields = draw.choice((("input",), ("input",), ("a", "b"))) if task != "base" else ("input",)
        body = {"task": task, "inputs": inputs(draw, fields), "parameters": parameters(draw)}
        if task == "base":
            body["inputs"] = "play" if isinstance(body["inputs"], dict) else body["inputs"]
        if draw.random() < 0.1:
            body["truncate"] = draw.choice((1, 3, 10))
        versions = self.ledger.versions(task)
        if versions and draw.random() < 0.15:
            body["version"] = draw.choice(versions)
        return body

    def _plain(self, draw: Random, task: str) -> None:
        self._noted("/generate", task, self._body(draw, task), {200})

    def _late(self, draw: Random, task: str) -> None:
        body = self._body(draw, task)
        body["parameters"]["timeout_ms"] = draw.choice((1, 3, 10, 40))
        self._noted("/generate", task, body, {200, 408})

    def _classify(self, draw: Random, task: str) -> None:
        body = {key: value for key, value in self._body(draw, task).items() if key in {"task", "inputs", "version"}}
        self._noted("/classify", task, {**body, "labels": [*LABELS]}, {200})

    def _completion(self, draw: Random, task: str) -> None:
        body = self._body(draw, task)
        if not self.deterministic:
            self._noted("/generate", task, body, {200})
            return
        given = body["parameters"]
        asked = {"model": task, "inputs": body["inputs"], "temperature": 0, "logprobs": 1}
        asked |= {name: given[name] for name in ("temperature", "seed", "ignore_eos", "n") if name in given}
        self._noted("/v1/completions", task, {**asked, "max_tokens": given["max_new_tokens"]}, {200})

    def _noted(self, route: str, task: str, body: dict[str, Any], right: set[int]) -> None:
        began = time.monotonic()
        answer = self.http.post(route, json=body)
        if not self._expected(answer, right | {400, 404, 409}, f"{route} {task}"):
            return
        if answer.status_code in {200, 404}:
            self._note(route, task, body, answer.json(), began)

    def _note(self, route: str, task: str, body: dict[str, Any], answer: dict[str, Any], began: float) -> None:
        told = None
        if task != "base" and not route.startswith("/v1"):
            pinned = body.get("version")
            told = Told(began, time.monotonic(), answer.get("version"), answer.get("digest"), pinned)
        self.notes.append(Note(route, task, body, answer, told))

    def _many(self, draw: Random, task: str) -> None:
        names = [draw.choice(PLACE) for _ in range(draw.randint(2, 6))]
        bodies = [self._body(draw, name) for name in names]
        began = time.monotonic()
        answer = self.http.post("/generate", json={"requests": bodies})
        if not self._expected(answer, {200}, "many"):
            return
        for name, body, item in zip(names, bodies, answer.json()["responses"], strict=True):
            code = item.get("error", {}).get("code")
            self.claim(code != "internal", "an item is an internal error")
            if code in {None, "task_not_found"}:
                self._note("/generate", name, body, item, began)

    def _batch(self, draw: Random, task: str) -> None:
        """The same request several times in one: alike to the last choice."""
        body = self._body(draw, "base")
        answer = self.http.post("/generate", json={"requests": [body] * 4})
        if self._expected(answer, {200}, "batch"):
            for item in answer.json()["responses"]:
                if "error" not in item:
                    self._note("/generate", "base", body, item, 0.0)

    def _stream(self, draw: Random, task: str) -> None:
        body = self._body(draw, task)
        body["parameters"].pop("n", None)
        began, last = time.monotonic(), None
        with self.http.stream("POST", "/generate_stream", json=body) as answer:
            if answer.status_code != 200:
                answer.read()
                if self._expected(answer, {200, 400, 404, 409}, "stream") and answer.status_code == 404:
                    self._note("/generate", task, body, answer.json(), began)
                return
            events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
        last = events[-1]
        if self.claim("error" not in last and last.get("details") is not None, f"a stream ends with {str(last)[:300]}"):
            text = "".join(event["token"]["text"] for event in events)
            self.claim(
                text == last["generated_text"], f"a stream's pieces are {text!r}, not {last['generated_text']!r}"
            )
            plain = {**last["details"], "generated_text": last["generated_text"]}
            self._note("/generate", task, body, plain, began)

    def _cancel(self, draw: Random, task: str) -> None:
        """After some events of a stream, or before there is an answer."""
        body = self._body(draw, task)
        body["parameters"] |= {"max_new_tokens": 60, "ignore_eos": True}
        body["parameters"].pop("n", None)
        if draw.random() < 0.5:
            with self.http.stream("POST", "/generate_stream", json=body) as answer:
                lines = answer.iter_lines()
                for _ in range(draw.randint(0, 20)):
                    next(lines, None)
            return
        try:
            self.http.post("/generate", json=body, timeout=draw.choice((0.001, 0.01, 0.03)))
        except httpx.TimeoutException:
            return

    def _expected(self, answer: httpx.Response, statuses: set[int], what: str) -> bool:
        """Whether it says something; that a queue is full, or a version is not there yet, says nothing."""
        self.findings.count(f"status {answer.status_code}")
        if answer.status_code in {429, 503}:
            code = answer.json()["error"]["code"]
            self.claim(code in NOT_NOW, f"{what}: {answer.status_code} {code}")
            return False
        return self.claim(answer.status_code in statuses, f"{what}: {answer.status_code} {answer.text[:300]}")

    def claim(self, holds: bool, what: str) -> bool:
        return self.findings.claim(holds, self.name.partition("/")[0], what)
