"""Questions that want something else done with their text, and texts that end too early: G15, G27 to G29, G46."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.asking import GENERATE, OPENAI, OURS, question, with_fields, with_parameters
from tests.attacks.attack import Attack
from tests.attacks.victim import Victim, process

BROKEN = "\ufffd"
GRAMMARS: dict[str, Any] = {
    "regex": "(a+)+$",
    "json_schema": {"$ref": "#"},
    "grammar": "root ::= root root",
    "guided_json": {"type": "object"},
    "guided_regex": "(a|aa)+",
    "guided_grammar": "root ::= root",
    "guided_choice": ["a"] * 1000,
    "structured_outputs": {"regex": ".*"},
    "response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}},
    "logits_processors": ["os.system"],
}
TENSORS = ("AAAA" * 1000, "gASVAAAA", [[0.0] * 64] * 4, {"data": "AAAA"})
PLACES = (
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data/",
    "https://example.com/x.png",
    "//198.51.100.1/share",
    "\\\\198.51.100.1\\share",
    "gopher://127.0.0.1:6379/_INFO",
    "data:image/png;base64,AAAA",
    "![x](http://198.51.100.1/x.png)",
    "s3://bucket/key",
    "hf://org/model",
    "ldap://198.51.100.1/a",
    "${jndi:ldap://198.51.100.1/a}",
)
FETCHED = (
    "images",
    "image_url",
    "image",
    "urls",
    "url",
    "files",
    "file",
    "audio",
    "adapter_id",
    "lora_path",
    "model_path",
)
NETWORK = "trace=connect,sendto,sendmsg,sendmmsg,accept4"
ELSEWHERE = re.compile(r"(?:connect|sendto|sendmsg|sendmmsg)\(.*sin6?_(?:addr|port)")


@pytest.mark.parametrize("text", ["<s>", "</s>", "<pad>", "a</s>b", "</s></s><s>", "<|eot|>", "<|im_end|>", "[INST]"])
def test_G15_special_tokens(attack: Attack, text: str) -> None:
    """Of a user's text they are characters: no id that ends or begins anything. OpenAI's have them."""
    for task, front in (("target", "play "), ("base", "")):
        asked = {"inputs": text, "task": task}
        shown = attack.right(attack.ask("/render", asked)).json()
        assert shown["text"] == front + text
        ids = [index for index in shown["ids"] if index >= 0]
        assert ids[0] == 0
        assert not {0, 1, 2} & set(ids[1:])
        counted = attack.right(attack.ask("/generate", {**asked, "parameters": {"max_new_tokens": 1}})).json()["usage"]
        assert counted["prompt_tokens"] == len(ids)
    exact = attack.right(attack.ask("/v1/completions", {"model": "base", "prompt": text, "max_tokens": 1})).json()
    special = text in {"<s>", "</s>", "<pad>"}
    assert (exact["usage"]["prompt_tokens"] <= 2) == special


@pytest.mark.parametrize("name", GRAMMARS)
def test_G27_a_grammar(attack: Attack, name: str) -> None:
    """There is none here, under any of its names: nothing is compiled."""
    cases = [with_parameters(path, **{name: GRAMMARS[name]}) for path in GENERATE]
    cases += [with_fields(path, **{name: GRAMMARS[name]}) for path in OURS]
    if name not in {"regex", "json_schema", "grammar"}:  # nobody's on those routes: passed over
        cases += [with_fields(path, **{name: GRAMMARS[name]}) for path in OPENAI]
    attack.all_refused(400, "unknown_field", cases)


@pytest.mark.parametrize("value", TENSORS, ids=["base64", "a pickle", "numbers", "an object"])
def test_G28_a_tensor(attack: Attack, value: Any) -> None:
    """Nobody brings a soft prompt along with a question."""
    names = ("prompt_embeds", "inputs_embeds", "soft_prompt", "past_key_values", "adapter")
    attack.all_refused(400, "unknown_field", [with_fields(path, **{name: value}) for path in OURS for name in names])
    attack.all_refused(400, "unknown_field", [with_fields("/v1/completions", prompt_embeds=value)])


@pytest.fixture(scope="module")
def traced(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Victim, Path]]:
    """A server whose every word to the network is written down, and where."""
    told = tmp_path_factory.mktemp("told") / "calls"
    strace = ("strace", "-D", "-f", "--seccomp-bpf", "-o", str(told), "-e", NETWORK, "-e", "signal=none")
    with process(base_folder, tmp_path_factory.mktemp("traced"), under=strace) as found:
        yield found, told


@pytest.mark.parametrize("place", PLACES)
def test_G29_a_place_elsewhere(attack: Attack, traced: tuple[Victim, Path], place: str) -> None:
    """A text like others, and in a field of its own nobody's: whatever is asked, the server connects to nothing."""
    victim, told = traced
    attack = attack.on(victim)
    assert attack.right(attack.ask("/render", {"inputs": place})).json()["text"] == place
    for route in (*GENERATE, "/classify", "/v1/completions"):
        attack.right(attack.ask(route, question(route, place)))
    cases = [with_fields(route, **{name: [place]}) for route in OURS for name in FETCHED]
    attack.all_refused(400, "unknown_field", cases)
    parts = [{"type": "image_url", "image_url": {"url": place}}, {"type": "input_audio", "url": place}]
    asked = [with_fields("/v1/chat/completions", messages=[{"role": "user", "content": [part]}]) for part in parts]
    attack.all_refused(400, "invalid_request", asked)
    attack.all_refused(404, "task_not_found", [(route, question(route, task=place)) for route in OURS])
    attack.all_refused(404, "model_not_found", [("/v1/completions", question("/v1/completions", task=place))])
    calls = told.read_text()
    assert "accept4(" in calls, "it has seen those of the clients"
    assert ELSEWHERE.findall(calls) == []


def test_G46_a_character_in_pieces(attack: Attack) -> None:
    """Bytes drawn at random make one now and then: held back until it is whole, U+FFFD where the text ends before."""
    tried = 0
    for seed in range(24):
        tried += _in_pieces(attack, seed)
        if tried >= 3:
            return
    pytest.fail("hardly any character came in two pieces")


def _in_pieces(attack: Attack, seed: int) -> int:
    """How many characters of an answer came in two pieces; each is looked at, and the answer that ends inside of it."""
    asked: dict[str, Any] = {"temperature": 100, "seed": seed, "ignore_eos": True, "max_new_tokens": 220}
    body = {"task": "base", "inputs": "x", "parameters": asked}
    events = _events(attack, body)
    texts = ["".join(event["token"]["text"] for event in events[:end]) for end in range(len(events) + 1)]
    whole = events[-1]["generated_text"]
    assert texts[-1] == whole
    split = [
        number
        for number in range(1, len(texts))
        if texts[number] == texts[number - 1]
        and len(texts[number + 1 : number + 2]) == 1
        and (came := texts[number + 1][len(texts[number]) :])
        and ord(came[0]) > 127
        and came[0] != BROKEN
    ]
    for number in split:
        cut = {**body, "parameters": {**asked, "max_new_tokens": number}}
        said = attack.right(attack.ask("/generate", cut)).json()["generated_text"]
        assert said == texts[number] + BROKEN
        last = _events(attack, cut)[-1]
        assert (last["generated_text"], last["token"]["text"]) == (said, BROKEN)
    assert all(whole.startswith(text) for text in texts)
    return len(split)


def _events(attack: Attack, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = attack.right(attack.ask("/generate_stream", body))
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
