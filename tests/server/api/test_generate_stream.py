"""/generate_stream over a real socket: the same answer, told token by token."""

import json
from typing import Any

from server.api.answers import StreamEvent
from tests.server.site import Site


def events(site: Site, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream, each a `data:` line and an empty one, LF only."""
    answer = site.http.post("/generate_stream", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "\r" not in answer.text.replace("\\r", "")
    blocks = answer.text.split("\n\n")
    assert blocks.pop() == ""
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def test_a_stream_says_the_same_as_a_plain_answer(site: Site) -> None:
    """One event a token; the joined texts are the text; the last event is the plain answer."""
    site.publish("streamed", "play {text}", soft=3, seed=2)
    parameters = {"max_new_tokens": 20, "temperature": 0.8, "seed": 11}
    body = {"task": "streamed", "inputs": "jazz", "parameters": parameters}
    found = events(site, body)
    for event in found:
        StreamEvent.model_validate(event)
    plain = site.generate("jazz", "streamed", **parameters)
    last = found[-1]
    assert [event["index"] for event in found] == list(range(plain["usage"]["completion_tokens"]))
    assert "".join(event["token"]["text"] for event in found) == plain["generated_text"] == last["generated_text"]
    assert all(event["generated_text"] is None and event["details"] is None for event in found[:-1])
    details = {**last["details"], "usage": {**last["details"]["usage"], "cached_tokens": 0}}
    text = plain.pop("generated_text")
    assert text == last["generated_text"]
    assert details == {**plain, "usage": {**plain["usage"], "cached_tokens": 0}}


def test_a_streamed_end_is_an_event_of_its_own(site: Site) -> None:
    """EOS is told as a special token without text."""
    items = [{"inputs": "play", "parameters": {"max_new_tokens": 30, "temperature": 3.0, "seed": s}} for s in range(64)]
    answers = site.http.post("/generate", json={"requests": items}).json()["responses"]
    seed = next(answer["seed"] for answer in answers if answer["finish_reason"] == "eos_token")
    parameters = {"max_new_tokens": 30, "temperature": 3.0, "seed": seed}
    last = events(site, {"inputs": "play", "parameters": parameters})[-1]
    assert last["token"] == {**last["token"], "id": 1, "special": True}
    assert last["details"]["finish_reason"] == "eos_token"
    ignored = site.generate("play", **parameters, ignore_eos=True)
    assert ignored["usage"]["completion_tokens"] == 30


def test_held_back_text_is_streamed_later_or_never(site: Site) -> None:
    """With a stop string the joined pieces are the cut text: no piece shows what was taken back."""
    whole = site.generate("play some jazz", max_new_tokens=24, ignore_eos=True)["generated_text"]
    stop = whole[6:9]
    parameters = {"max_new_tokens": 24, "ignore_eos": True, "stop": [stop]}
    found = events(site, {"inputs": "play some jazz", "parameters": parameters})
    assert "".join(event["token"]["text"] for event in found) == whole[: whole.index(stop)]
    assert found[-1]["details"]["finish_reason"] == "stop_sequence"


def test_an_error_after_the_first_byte_is_an_event(site: Site) -> None:
    """A stream that runs out of time ends with its error."""
    parameters = {"max_new_tokens": 250, "ignore_eos": True, "timeout_ms": 150}
    found = events(site, {"inputs": "play", "parameters": parameters})
    assert len(found) > 1
    assert found[-1]["error"]["code"] == "timeout"
