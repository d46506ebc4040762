"""Templates: in a request, at a publish, the base's own, and what looks like one in a text. T01 to T04."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.asking import OURS, question, with_fields, with_parameters
from tests.attacks.attack import Attack
from tests.attacks.victim import Lines, Victim, inside
from tests.models import save

FIELDS: dict[str, Any] = {
    "template": "{{ 7 * 7 }}",
    "chat_template": "{{ 9**(9**8) }}",
    "chat_template_kwargs": {"tools": "x"},
    "template_kwargs": {"x": "y"},
    "prompt_template": "{text}",
    "target_delimiter": " ",
}
SYNTAX: dict[str, tuple[str, int]] = {
    "an opening brace alone": ("play {", 5),
    "a closing brace alone": ("play } it", 5),
    "an empty field": ("play {}", 5),
    "a field with blanks": ("play { text }", 5),
    "a field with a format": ("{text:>1000000000}", 0),
    "a field with a conversion": ("{text!r}", 0),
    "an attribute": ("{text.__class__}", 0),
    "an index": ("{text[0]}", 0),
    "a number": ("{0}", 0),
    "Jinja": ("{% for x in y %}", 0),
    "Unicode": ("ab {naïve}", 3),
    "an unknown directive": ("{soft:20}{hard:3} {text}", 9),
    "soft of nothing": ("{soft:} {text}", 0),
    "soft of none": ("{soft:0} {text}", 0),
    "soft below none": ("{soft:-1} {text}", 0),
    "soft with a leading zero": ("{soft:01} {text}", 0),
    "soft of a million": ("{soft:1000000} {text}", 0),
    "a field of two meanings": ("{soft:4} {text} {soft}", 16),
    "the same the other way round": ("{soft} {soft:4}", 0),
}
EXPLODING: dict[str, str] = {
    "power": "{{ 9**(9**8) }}",
    "text": "{{ 'a' * 10**9 }}",
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "width": "{{ '%01000000000d' % 1 }}",
}
ON_DEMAND = (
    "{% set n = messages | length + 8 %}{% if messages[0]['content'] == 'power' %}{{ n**(n**8) }}"
    "{% elif messages[0]['content'] == 'text' %}"
    "{{ 'a' * (n - 8) * 10**9 }}{% elif messages[0]['content'] == 'width' %}{{ '%01000000000d' % n }}"
    "{% elif messages[0]['content'] == 'loops' %}{% for a in range(99999) %}"
    "{% for b in range(99999) %}x{% endfor %}{% endfor %}{% else %}{{ messages[0]['content'] }}:{% endif %}"
)
LITERAL = (
    "{{7*7}}", "{% raw %}", "{{ config }}", "{# x #}", "{text}", "{soft:4}", "{{text}}", "${7*7}",
    "<%= 7*7 %>", "#{7*7}",
    "{input}", "%s%n", "{0.__class__}", "{{''.__class__}}", "\\u007b7\\u007d", "{%% endfor %%}",
)  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_T01_a_template_in_a_request(attack: Attack, name: str) -> None:
    """Templates belong to versions of tasks and to the base; no request brings one, by any name."""
    cases = [with_fields(route, **{name: FIELDS[name]}) for route in OURS]
    cases += [with_parameters("/generate", **{name: FIELDS[name]})]
    if name.startswith("chat_template"):  # the other names are nobody's there, and passed over
        cases += [with_fields("/v1/chat/completions", **{name: FIELDS[name]})]
    attack.all_refused(400, "unknown_field", cases)


@pytest.mark.parametrize("name", SYNTAX)
def test_T02_a_template_that_is_none(attack: Attack, name: str) -> None:
    """Refused when it is published, with the place of the first fault; in a patch too."""
    template, position = SYNTAX[name]
    for method, body in (("PUT", {"kind": "text", "template": template}), ("PATCH", {"template": template})):
        (error,) = attack.all_refused(422, "bad_template", [("/tasks/target", body)], method=method)
        assert f"at character {position}" in error["message"]


def spoken(folder: Path, template: str) -> Path:
    """A base with this chat template."""
    found = save(folder)
    config = json.loads((found / "tokenizer_config.json").read_text())
    (found / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    return found


def said(text: str) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", question("/v1/chat/completions", text)


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory, lines: Lines) -> Iterator[Victim]:
    """A server whose base's template explodes on some conversations."""
    base = spoken(tmp_path_factory.mktemp("talking"), ON_DEMAND)
    with inside(base, tmp_path_factory.mktemp("store"), lines) as found:
        yield found


@pytest.mark.parametrize("name", EXPLODING)
def test_T03_a_chat_template_that_explodes(
    attack: Attack, talking: Victim, name: str, tmp_path: Path, lines: Lines
) -> None:
    """The server starts, says where it takes no conversations for that, and serves the rest.

    Where the template explodes on some conversation alone, that one is refused and the next one is answered.
    """
    before = len(lines)
    with inside(spoken(tmp_path / "base", EXPLODING[name]), tmp_path / "store", lines) as victim:
        off = [line for line in lines[before:] if line["event"] == "conversations are refused"]
        assert [line["level"] for line in off] == ["warning"] * (name in {"power", "loops"})
        tokenize = ("/tokenize", {"messages": [{"role": "user", "content": "x"}]})
        attack.on(victim).all_refused(400, "invalid_request", [said("x"), tokenize])
        attack.right(attack.on(victim).ask("/generate", question("/generate")))
    attack.on(talking).all_refused(400, "invalid_request", [said(name)])
    path, body = said("hello")
    attack.right(attack.on(talking).ask(path, {**body, "max_tokens": 2}))


@pytest.mark.parametrize("text", LITERAL)
def test_T04_what_looks_like_a_template(attack: Attack, text: str) -> None:
    """In a text it is characters, in a field of a task's template too."""
    for task, front in (("base", ""), ("target", "play ")):
        assert attack.right(attack.ask("/render", {"task": task, "inputs": text})).json()["text"] == front + text
    for route in ("/generate", "/classify", "/v1/completions"):
        attack.right(attack.ask(route, question(route, text)))
