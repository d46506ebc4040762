"""Templates and metadata of every shape: published or refused as the rules say, and rendered as they say.

The rules are those of `reference.py`, which shares nothing with the server.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from prompt_store.metadata import Base
from tests import models
from tests.fuzz.cases import some
from tests.fuzz.findings import Findings
from tests.fuzz.reference import MOST_CHARACTERS, BadTemplateError, Part, fields, parse, render
from tests.fuzz.speech import error_faults
from tests.fuzz.subject import Subject
from tests.server.site import embeddings

PART = "templates"
ROWS = 6
"""Of the task of kind embeddings whose template is changed."""
NAMES = ("a", "b", "text", "_", "A1", "soft_", "Soft", "softly", "x" * 64)
LITERALS = (
    "", " ", "\n", "say ", ": ", "{{", "}}", "{{}}", "{{a}}", "{{soft:2}}", "é", "e\u0301", "\U0001f600", "\0",
    "\u202e",
    "<s>", "</s>", "<pad>", "<s", ">", "</", "the food", "{{% raw %}}", "${{x}}", "%s", "\\", "<|eot|>",
)  # fmt: skip
JUNK = (
    "{", "}", "{}", "{ a}", "{a }", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{0}", "{é}", "{a-b}", "{soft}", "{soft:}",
    "{soft:0}", "{soft:01}", "{soft:-1}", "{soft: 2}", "{soft:1e1}", "{soft:1000000}", "{soft:٣}", "{%",
    "{" + "y" * 65 + "}", "{a\n}", "{{a}", "{a}}", "}{", "{soft:2", "{SOFT:2}", "{{{a}}}", "{{{{a}}}}", "{\u0430}",
)  # fmt: skip
VALUES = (
    "", " ", "jazz", "{a}", "{{a}}", "{{7*7}}", "{% raw %}", "{soft:3}", "{", "}}", "<s>", "</s>x", "<pad>", "s>", "é",
    "\0", "\U0001f600\U0001f600", "a\nb", "\ufeff", "\u2028", "play " * 30, "x" * 300,
)  # fmt: skip
DELIMITERS: tuple[Any, ...] = ("", " ", "\n", "{a}", "x" * 64)


@dataclass(frozen=True, slots=True)
class Drawn:
    """`rows` 0: a text task of its own."""

    template: str
    rows: int
    more: dict[str, Any]


class Templates:
    """Of one server."""

    def __init__(self, subject: Subject, findings: Findings) -> None:
        self._http = subject.http
        self._findings = findings
        self._tokenizer = models.tokenizer()
        info = self._http.get("/info").json()
        base = Base(info["fingerprint"], info["model"], hidden=64, layers=3, kv_heads=2, head_dim=16)
        self._context: int = info["max_total_tokens"]
        file = embeddings(base, "{input}", ROWS)
        self._http.put("/tasks/rows", content=file.data).raise_for_status()

    def case(self, name: str) -> None:
        draw = Random(name)
        drawn = _drawn(draw)
        try:
            parts = parse(drawn.template, drawn.rows)
        except BadTemplateError:
            parts = None
        sent = {"template": drawn.template, **drawn.more}
        if drawn.rows:
            task, answer = "rows", self._http.patch("/tasks/rows", json=sent)
        else:
            task, answer = "text", self._http.put("/tasks/text", json=sent)
        self._findings.count("published" if answer.is_success else "refused", f"status {answer.status_code}")
        if answer.status_code == 422 and answer.json()["error"]["code"] == "prompt_too_long":
            return  # right or wrong, the base has no room for it
        wanted = {422} if parts is None else {200, 201}
        right = self._claim(
            answer.status_code in wanted, name, f"publish: {answer.status_code} {answer.text[:200]}", sent
        )
        if parts is None or not right:
            long = len(drawn.template) > MOST_CHARACTERS  # a bound of metadata, with their code
            self._error(name, answer, sent, "bad_template" if parts is None and not long else None)
            return
        told = answer.json()
        for field, value in sent.items():
            self._claim(told[field] == value, name, f"{field} became another: {told[field]!r}", sent)
        for _ in range(draw.choice((1, 1, 3))):
            self._render(name, draw, task, drawn, parts)

    def _render(self, name: str, draw: Random, task: str, drawn: Drawn, parts: list[Part]) -> None:
        names = fields(parts)
        values = {one: draw.choice(VALUES) for one in names}
        truncate = draw.choice((None, None, None, 1, 2, 5, 40))
        asked: dict[str, Any] = {"task": task, "inputs": dict(values)}
        if truncate is not None:
            asked["truncate"] = truncate
        wrong = draw.random() < 0.1
        if wrong:
            self._spoil(asked["inputs"], draw, names)
        elif len(names) == 1 and draw.random() < 0.5:
            asked["inputs"] = values[names[0]]
        answer = self._http.post("/render", json=asked)
        self._findings.count("rendered" if answer.is_success else "not rendered", f"status {answer.status_code}")
        due = render(parts, drawn.rows, values, self._tokenizer, truncate)
        seen = {"template": drawn.template, **asked}
        if wrong or len(due.ids) + due.rows > self._context:
            self._claim(answer.status_code == 400, name, f"render: {answer.status_code} {answer.text[:200]}", seen)
            code = None if wrong else "context_length_exceeded"
            self._error(name, answer, seen, code)
        elif self._claim(answer.status_code == 200, name, f"render: {answer.status_code} {answer.text[:200]}", seen):
            told = answer.json()
            slots = [(slot["position"], slot["row"], slot["length"]) for slot in told["slots"]]
            for got, wanted in ((told["text"], due.text), (told["ids"], due.ids), (slots, due.slots)):
                self._claim(got == wanted, name, f"rendered {got!r}"[:400] + f", not {wanted!r}"[:400], seen)

    def _spoil(self, inputs: dict[str, str], draw: Random, names: list[str]) -> None:
        """A field too many, or one too few."""
        if names and draw.random() < 0.5:
            del inputs[draw.choice(names)]
        else:
            inputs["other"] = "x"

    def _error(self, name: str, answer: httpx.Response, sent: Any, code: str | None) -> None:
        if answer.status_code < 400:
            return
        for fault in error_faults(answer.status_code, answer.content):
            self._claim(False, name, fault, sent)
        told = answer.json()["error"]["code"]
        self._claim(code in {None, told}, name, f"code {told}, not {code}", sent)

    def _claim(self, holds: bool, name: str, what: str, sent: Any) -> bool:
        return self._findings.claim(holds, name, what, json.dumps(sent).encode())


def _drawn(draw: Random) -> Drawn:
    rows = draw.choice((0, 0, ROWS))
    pieces = [
        draw.choice(LITERALS) if draw.random() < 0.5 else f"{{{draw.choice(NAMES)}}}" for _ in range(draw.randint(0, 8))
    ]
    if rows and draw.random() < 0.7:
        for slot in draw.choice(((6,), (2, 4), (1, 2, 3), (1, 1, 1, 3), (5,), (3, 4))):
            pieces.insert(draw.randint(0, len(pieces)), f"{{soft:{slot}}}")
    if draw.random() < 0.3:
        pieces.insert(draw.randint(0, len(pieces)), draw.choice(JUNK))
    if draw.random() < 0.03:
        pieces += [f"{{f{number}}}" for number in range(draw.choice((60, 64, 65, 70)))]
    template = "".join(pieces)
    if draw.random() < 0.02:
        template += "y" * draw.choice((32_768 - len(template), 32_769 - len(template), 40_000))
    elif draw.random() < 0.2 and template:
        at = draw.randrange(len(template))
        template = template[:at] + draw.choice(("", "{", "}", "{{", "soft:1")) + template[at + 1 :]
    return Drawn(template, rows, _more(draw))


def _more(draw: Random) -> dict[str, Any]:
    """Metadata that are in order, of which nothing may come back changed."""
    found: dict[str, Any] = {
        "target_delimiter": draw.choice(DELIMITERS),
        "labels": draw.choice((None, ["a"], ["{a}", "<s>", "é", "\0"], [f"l{number}" for number in range(512)])),
        "description": draw.choice((None, "", "{a}", "\u202e<b>", "d" * 4096)),
    }
    return {name: value for name, value in found.items() if draw.random() < 0.3}


def fuzz(subject: Subject, findings: Findings, names: Iterator[str]) -> None:
    """One after the other: a template is asked about before the next one takes its place."""
    templates = Templates(subject, findings)
    for number in range(40):
        templates.case(f"warm-{number}")
    subject.warmed()
    for batch in some(names, 100):
        for name in batch:
            templates.case(name)
        subject.look(batch[-1])
