"""Raw bytes at a real server: good requests, changed ones, two readings of one body, other protocols; some let go.

A case is one connection. Every answer must be HTTP and one of ours, every good request answered as it should be, and
every connection must end.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from random import Random

from tests.fuzz.cases import some
from tests.fuzz.findings import Findings
from tests.fuzz.grammar import ANY, Request, exact
from tests.fuzz.mutations import mutated, smuggled, split, stranger
from tests.fuzz.speech import Answer, CutError, Line, NotHttpError, answers_in, faults
from tests.fuzz.subject import RECEIVE_SECONDS, Subject, published

PART = "wire"
AT_ONCE = 6
ENDS_SECONDS = 10.0
"""From our half-close to the server's end of a connection."""
ANSWER_SECONDS = 30.0
"""For a good answer, on a busy machine."""
LATE_SECONDS = RECEIVE_SECONDS + 9.0
"""For a connection on which we say no more to be answered or closed."""
KEPT_SECONDS = 30.0
"""That uvicorn keeps a connection after an answer."""
MOST_KEPT = 40
STRAGGLERS = (b"", b"\r\n", b"x", b"GET /")
"""What still comes on a connection that is then left open."""
KINDS, WEIGHTS = ("exact", "mutated", "smuggled", "stranger"), (5, 6, 1, 2)
ENDINGS = ("half", "half", "half", "wait", "abort", "close", "keep")
DELETES = b"DELETE /tasks/canary HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


class Wire:
    """Of one server. `kept` are connections left open on purpose: the case, the moment it fell silent, what it said."""

    def __init__(self, subject: Subject, findings: Findings) -> None:
        self._subject = subject
        self._findings = findings
        self._kept: list[tuple[Line, str, float, bytes]] = []

    def prepare(self) -> None:
        for name in ("t", "canary"):
            published(self._subject.http, name, template="{text}" if name == "canary" else "{input}")

    def case(self, name: str) -> None:
        draw = Random(name)
        kind = draw.choices(KINDS, WEIGHTS)[0]
        asked = [exact(draw, last=False) for _ in range(draw.choice((0, 0, 0, 1, 2)))] + [exact(draw, last=True)]
        if kind != "exact":  # nobody can tell which of several answers to changed bytes is the one to HEAD
            asked = [replace(one, method="OPTIONS") if one.method == "HEAD" else one for one in asked]
        data = b"".join(request.encoded() for request in asked)
        if kind == "mutated":
            data = mutated(data, draw)
        elif kind == "smuggled":
            data = smuggled(draw, DELETES)
        elif kind == "stranger":
            data = stranger(draw)
        pieces = split(data, draw)
        pauses = [draw.choice((0.0, 0.0, 0.001, 0.02)) for _ in pieces]
        ending = "read" if kind == "exact" and draw.random() < 0.8 else draw.choice(ENDINGS)
        self._findings.count("connections", f"kind: {kind}", f"ending: {ending}")
        try:
            line = Line(self._subject.url, ANSWER_SECONDS)
        except OSError as error:
            self._findings.claim(False, name, f"no connection: {type(error).__name__}")
            return
        line.send(pieces, pauses)
        methods = [request.method for request in asked] if kind == "exact" else []
        self._end(line, name, ending, methods, data)
        if ending not in {"abort", "keep"}:
            self._judge(line, name, data, asked if kind == "exact" else [], whole=ending == "read")
        if kind == "smuggled" and ending in {"half", "wait"}:
            self._judge_smuggled(line, name, data)

    def _end(self, line: Line, name: str, ending: str, methods: list[str], data: bytes) -> None:
        if ending == "abort":
            line.abort()
            return
        if ending == "keep" and len(self._kept) < MOST_KEPT and self._subject.pace.lingers:
            line.read_until(1, methods, LATE_SECONDS)
            straggler = Random(name).choice(STRAGGLERS)
            line.send([straggler], [0.0])
            self._kept.append((line, name, time.monotonic(), data + straggler))
            return
        if ending == "close":
            line.close()
            return
        if ending == "read":
            line.read_until(len(methods), methods, ANSWER_SECONDS)
        elif ending == "wait":
            line.read_until(1, methods, LATE_SECONDS)
            said = bool(line.received) or line.ended
            self._findings.claim(said, name, "neither answered nor closed at the deadline", data)
        line.half_close()
        line.read_until(0, methods, ENDS_SECONDS)
        self._findings.claim(line.ended, name, "the connection does not end after ours has", data)
        line.close()

    def _judge(self, line: Line, name: str, data: bytes, asked: list[Request], *, whole: bool) -> None:
        """`whole`: nothing of ours kept the server from saying everything."""
        methods = [request.method for request in asked]
        answers: list[Answer] = []
        try:
            answers = answers_in(line.received, methods)
        except CutError as error:
            self._findings.count("cut answers")
            self._findings.claim(not whole, name, f"{error.args[0]}: {line.received[-200:]!r}", data)
        except NotHttpError as error:
            self._findings.claim(False, name, str(error), data)
        for number, answer in enumerate(answers):
            self._findings.count("answers", f"status {answer.status}")
            is_head = number < len(methods) and methods[number] == "HEAD"
            for fault in faults(answer, is_head=is_head):
                self._findings.claim(False, name, fault, data)
            expected = asked[number].expects | {408} if number < len(asked) else ANY
            self._findings.claim(answer.status in expected, name, f"status {answer.status}", data)
            if number < len(asked) and asked[number].version == "1.0":
                self._findings.count(*(["chunks for HTTP/1.0"] if b"transfer-encoding" in answer.headers else []))
        if whole:
            due = 1 + next((at for at, answer in enumerate(answers) if answer.closes), len(asked) - 1)
            self._findings.claim(len(answers) == due, name, f"{len(answers)} answers to {due} requests", data)

    def _judge_smuggled(self, line: Line, name: str, data: bytes) -> None:
        """Whichever reading the server takes, it refuses, once, and hears nothing of what follows."""
        with suppress(NotHttpError):
            answers = answers_in(line.received, [])
            told = [answer.status for answer in answers]
            self._findings.claim(told in ([400], [408], []), name, f"an ambiguous body is answered {told}", data)

    def kept(self, seconds: float) -> None:
        """Connections that were left open for so long end by themselves; younger ones are asked later."""
        for entry in [*self._kept]:
            line, name, since, data = entry
            if time.monotonic() - since < seconds:
                continue
            line.read_until(0, [], max(0.1, since + KEPT_SECONDS + LATE_SECONDS - time.monotonic()))
            self._findings.count("connections left open")
            self._findings.claim(
                line.ended, name, f"left open, it is so after {time.monotonic() - since:.0f} seconds", data
            )
            line.close()
            self._kept.remove(entry)

    def canary(self, case: str) -> None:
        answer = self._subject.http.get("/tasks/canary")
        self._findings.claim(answer.status_code == 200, case, "a request inside of a body was obeyed")


def fuzz(subject: Subject, findings: Findings, names: Iterator[str]) -> None:
    """Some connections at a time."""
    wire = Wire(subject, findings)
    wire.prepare()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(wire.case, [f"warm-{number}" for number in range(60)]))
        subject.warmed()
        for batch in some(names, 10 * AT_ONCE):
            list(pool.map(wire.case, batch))
            wire.kept(KEPT_SECONDS + LATE_SECONDS)
            wire.canary(batch[-1])
            subject.look(batch[-1])
    wire.kept(0.0)
