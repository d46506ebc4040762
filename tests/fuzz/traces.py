"""Random mixes of requests of every kind, publishes, deletes and cancels, from several clients at once, over HTTP.

A case is one round. Every finished answer names a version that it may have come from, and is what a second, quiet
server answers to the same request of the same file.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, cycle, islice
from pathlib import Path
from random import Random

import torch
from transformers.utils.logging import disable_progress_bar

from tests import models
from tests.e2e.process import serving
from tests.faults.outcome import MEMORY
from tests.fuzz.crowd import TASKS, Client, Note
from tests.fuzz.findings import Findings
from tests.fuzz.ledger import Ledger
from tests.fuzz.makings import Made, made
from tests.fuzz.solo import Solo
from tests.fuzz.subject import Pace, Subject, deaf_to_interrupts, subject

PART = "traces"
CLIENTS, ACTIONS = 4, 12
ROUNDS = 120
"""Before both servers are started anew, the other way: deterministic or not."""
IDLE_SECONDS = 60.0
ROOM = {"SOFTPROMPT_KV_BUDGET": "2M", "SOFTPROMPT_PROMPT_BUDGET": "80K", "SOFTPROMPT_TEXT_BUDGET": "300K"}
"""For a few sequences and soft prompts at a time: others wait, and are pushed out."""
DETERMINISTIC = {"SOFTPROMPT_DETERMINISTIC": "true"}
WARM = 8


class Stage:
    """Both servers, and every soft prompt that was published, by its digest."""

    def __init__(self, crowd: Subject, solo: Solo, findings: Findings, *, deterministic: bool) -> None:
        self._crowd = crowd
        self._solo = solo
        self._findings = findings
        self._deterministic = deterministic
        self._files: dict[str, Made] = {}
        """Of this round."""

    def round(self, name: str) -> None:
        ledger, draw = Ledger(), Random(name)
        clients = [
            Client(self._crowd.http, f"{name}/{number}", ledger, self._findings, self._deterministic)
            for number in range(CLIENTS)
        ]
        for task in TASKS:
            clients[0].publish(draw, task)
        with ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(client.run, ACTIONS) for client in clients]:
                done.result()
        self._idle(name)
        self._learn(name, ledger)
        for client in clients:
            for note in client.notes:
                self._judge(name, note, ledger)

    def _learn(self, name: str, ledger: Ledger) -> None:
        """What was published under which digest: a file says with which seed it was made."""
        self._files.clear()
        for task in TASKS:
            for version in ledger.versions(task):
                told = self._crowd.http.get(f"/tasks/{task}/versions/{version}").json()
                found = told.get("task")
                if self._findings.claim(found is not None, name, f"version {version} of {task} has gone"):
                    one = made(int(found["description"]))
                    self._findings.claim(one.file.digest == found["digest"], name, "a version says that it is another")
                    self._files[found["digest"]] = one

    def _judge(self, name: str, note: Note, ledger: Ledger) -> None:
        if note.told is not None:
            for fault in ledger.faults(note.task, note.told):
                self._findings.claim(False, name, f"{note.route} {note.task}: {fault}")
        if "error" in note.answer:
            self._findings.count("not found")
            return
        digest = note.answer.get("digest")
        if note.route == "/v1/completions":
            self._judge_completion(name, note)
            return
        one = None if digest is None else self._files.get(digest)
        if not self._findings.claim((one is None) == (note.task == "base"), name, f"{note.task}: digest {digest}"):
            return
        alone = self._solo.ask(note.route, note.body, one)
        what = f"{note.route} {note.task}: {note.body}: "
        if not self._findings.claim(
            alone.status_code == 200, name, f"{what}alone {alone.status_code} {alone.text[:300]}"
        ):
            return
        self._findings.count("compared")
        for fault in (
            self._solo.score_faults(note.answer, alone.json())
            if note.route == "/classify"
            else self._solo.faults(note.body, one, note.answer, alone.json())
        ):
            if fault == "tie":
                self._findings.count("ties")
            else:
                self._findings.claim(False, name, what + fault)

    def _judge_completion(self, name: str, note: Note) -> None:
        """It names no version: it must be the answer of one that the task had."""
        candidates = [None] if note.task == "base" else [*self._files.values()]
        got = [(choice["text"], choice["finish_reason"]) for choice in note.answer["choices"]]
        for one in reversed(candidates):
            alone = self._solo.ask(note.route, note.body, one)
            if alone.status_code != 200:
                continue
            if got == [(choice["text"], choice["finish_reason"]) for choice in alone.json()["choices"]]:
                self._findings.count("compared")
                return
        self._findings.claim(False, name, f"{note.route} {note.task}: {note.body}: {got} is nobody's answer")

    def _idle(self, name: str) -> None:
        until = time.monotonic() + IDLE_SECONDS
        while True:
            engine = self._crowd.http.get("/info").json()["engine"]
            if not engine["running"] and not engine["waiting"]:
                return
            if time.monotonic() > until:
                self._findings.claim(False, name, f"still running {engine['running']}, waiting {engine['waiting']}")
                return


def run(findings: Findings, variables: Mapping[str, str], names: Iterator[str], pace: Pace) -> None:
    """Deterministic servers and others in turn."""
    torch.set_num_threads(1)
    disable_progress_bar()
    for deterministic in cycle((True, False)):
        first = next(names, None)
        if first is None:
            return
        with ExitStack() as stack:
            own = {**variables, **(DETERMINISTIC if deterministic else {})}
            crowd = stack.enter_context(subject(findings, {**ROOM, **own}, pace))
            base, store = (Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY))) for _ in range(2))
            with deaf_to_interrupts():
                options = ("--model", str(models.save(base)), "--store", str(store))
                _, quiet = stack.enter_context(serving(*options, **own))
            solo = Solo(quiet, models.random_model(), exact=deterministic)
            stage = Stage(crowd, solo, findings, deterministic=deterministic)
            for number, name in enumerate(chain([first], islice(names, ROUNDS - 1))):
                stage.round(name)
                findings.count("rounds")
                if number == WARM:
                    crowd.warmed()
                crowd.look(name)
            crowd.settle("end")
