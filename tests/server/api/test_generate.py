"""/generate over a real socket, against the real engine."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from server.api.answers import Generated, GeneratedMany
from tests.server.site import Site


def test_the_bare_base_answers_like_transformers(site: Site, base_folder: object) -> None:
    """Without a task the text continues as `generate` continues it, greedy by default."""
    answer = site.generate("play some jazz", max_new_tokens=12, logprobs=0)
    Generated.model_validate(answer)
    tokenizer = site.desk.room.tokenizer
    ids = torch.tensor([[tokenizer.bos, *tokenizer.encode("play some jazz", parse_special=False)]])
    model: Any = AutoModelForCausalLM.from_pretrained(str(base_folder), dtype=torch.float32)
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert [token["id"] for token in answer["logprobs"]] == expected[0, ids.shape[1] :].tolist()
    assert answer["task"] == "base"
    assert answer["version"] is None


def test_a_soft_prompt_changes_the_answer_and_is_counted_apart(site: Site) -> None:
    """`soft_tokens` are the rows, `prompt_tokens` the text with BOS, the total leaves the rows out."""
    task = site.publish("counted", "play {text}", soft=5, seed=1)
    with_rows = site.generate("some jazz", "counted", max_new_tokens=8)
    without = site.generate("play some jazz", max_new_tokens=8)
    assert with_rows["generated_text"] != without["generated_text"]
    usage = with_rows["usage"]
    assert usage["soft_tokens"] == 5
    assert usage["prompt_tokens"] == without["usage"]["prompt_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["cached_tokens"] <= usage["prompt_tokens"]
    assert (with_rows["version"], with_rows["digest"]) == (task["version"], task["digest"])


def test_fields_by_name_or_a_string_for_the_only_one(site: Site) -> None:
    """A template with two fields takes an object, one with a single field a string."""
    site.publish("two", "{a} and {b}")
    site.publish("one", "{a} and {a}")
    both = site.generate({"a": "jazz", "b": "jazz"}, "two", max_new_tokens=4)
    assert site.generate("jazz", "one", max_new_tokens=4)["generated_text"] == both["generated_text"]


@pytest.mark.parametrize("inputs", ["jazz", {"a": "x"}, {"a": "x", "b": "y", "c": "z"}, {}])
def test_missing_and_extra_fields_are_refused(site: Site, inputs: Any) -> None:
    """The inputs are the template's fields, no fewer and no more."""
    site.publish("two", "{a} and {b}")
    answer = site.http.post("/generate", json={"task": "two", "inputs": inputs})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "inputs")


def test_an_empty_input_runs_the_soft_prompt_alone(site: Site) -> None:
    """Nothing but rows is something to run."""
    site.publish("rows", "{text}", soft=3)
    assert site.generate("", "rows", max_new_tokens=3)["usage"]["completion_tokens"] == 3


def test_a_seed_repeats_an_answer_and_is_always_told(site: Site) -> None:
    """A drawn seed comes back, and gives the same answer again."""
    first = site.generate("play", temperature=1.0, max_new_tokens=16)
    again = site.generate("play", temperature=1.0, max_new_tokens=16, seed=first["seed"])
    assert again["generated_text"] == first["generated_text"]
    others = [site.generate("play", temperature=1.0, max_new_tokens=16, seed=first["seed"] ^ i) for i in range(1, 20)]
    assert any(other["generated_text"] != first["generated_text"] for other in others)


def test_several_choices_differ_and_the_first_is_the_only_one(site: Site) -> None:
    """Choice 0 of n is what n=1 gives; the others draw their own noise; there is no top-level text."""
    alone = site.generate("play", temperature=1.0, max_new_tokens=16, seed=5, ignore_eos=True)
    answer = site.generate("play", temperature=1.0, max_new_tokens=16, seed=5, ignore_eos=True, n=3)
    Generated.model_validate(answer)
    texts = [choice["generated_text"] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert texts[0] == alone["generated_text"]
    assert len(set(texts)) == 3
    assert "generated_text" not in answer
    assert answer["usage"]["completion_tokens"] == 3 * 16


def test_logprobs_come_with_the_likeliest_tokens(site: Site) -> None:
    """Greedy: the chosen token is the first of the top ones, with the same number."""
    answer = site.generate("play", max_new_tokens=4, logprobs=3)
    assert len(answer["logprobs"]) == 4
    for token in answer["logprobs"]:
        assert len(token["top"]) == 3
        assert (token["id"], token["logprob"]) == (token["top"][0]["id"], token["top"][0]["logprob"])
        assert token["logprob"] <= 0


def test_a_stop_string_ends_the_answer_and_is_not_in_it(site: Site) -> None:
    """The text ends before the stop string, wherever its tokens begin."""
    whole = site.generate("play some jazz", max_new_tokens=24, ignore_eos=True)["generated_text"]
    stop = whole[5:8]
    cut = site.generate("play some jazz", max_new_tokens=24, ignore_eos=True, stop=[stop])
    assert cut["generated_text"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop_sequence"
    assert cut["usage"]["completion_tokens"] < 24


def test_an_unset_length_is_cut_to_the_room_left_a_set_one_is_not(site: Site) -> None:
    """Nobody who asked for 300 tokens gets fewer in silence."""
    free = site.generate("play " * 40, ignore_eos=True)
    usage = free["usage"]
    assert usage["total_tokens"] == 256
    assert free["finish_reason"] == "length"
    refused = site.http.post("/generate", json={"inputs": "play", "parameters": {"max_new_tokens": 300}})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["message"] == "input 2 + soft prompt 0 + max_new_tokens 300 = 302 tokens > 256"


def test_truncate_keeps_the_last_tokens_and_says_how_many_went(site: Site) -> None:
    """Without it nothing is ever cut; with it the answer tells."""
    answer = site.generate("play " * 400, truncate=20, max_new_tokens=4)
    assert answer["usage"]["prompt_tokens"] == 20
    assert answer["usage"]["truncated_tokens"] > 300


def test_the_leading_delimiter_is_no_part_of_the_answer(site: Site) -> None:
    """One delimiter in front is removed, in whole or not at all."""
    site.publish("plain", "{text}", target_delimiter="")
    whole = site.generate("play some jazz", "plain", max_new_tokens=8)["generated_text"]
    site.publish("delimited", "{text}", target_delimiter=whole[:2])
    assert site.generate("play some jazz", "delimited", max_new_tokens=8)["generated_text"] == whole[2:]
    site.publish("otherwise", "{text}", target_delimiter=whole[0] + "\0")
    assert site.generate("play some jazz", "otherwise", max_new_tokens=8)["generated_text"] == whole


def test_a_task_speaks_where_the_request_is_silent(site: Site) -> None:
    """Defaults of the task, stop strings among them."""
    whole = site.generate("play some jazz", max_new_tokens=12)["generated_text"]
    site.publish("brief", "{text}", defaults={"max_new_tokens": 12, "stop": [whole[4]]}, target_delimiter="")
    assert site.generate("play some jazz", "brief")["generated_text"] == whole[: whole.index(whole[4])]
    assert site.generate("play some jazz", "brief", stop=[])["generated_text"] == whole


def test_a_version_can_be_pinned(site: Site) -> None:
    """The current version answers unless another is asked for; unknown ones are 404."""
    site.publish("pinned", "play {text}")
    site.publish("pinned", "stop {text}")
    assert site.generate("it", "pinned", max_new_tokens=2)["version"] == 2
    assert site.generate("it", "pinned", max_new_tokens=2, version=1)["version"] == 1
    answer = site.http.post("/generate", json={"task": "pinned", "inputs": "it", "version": 3})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "version_not_found")


def test_a_version_from_the_future_is_not_answered_with_an_old_one(site: Site) -> None:
    """`min_version` waits for a moment, then says so."""
    site.publish("late", "play {text}")
    answer = site.http.post("/generate", json={"task": "late", "inputs": "it", "min_version": 2})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "version_not_visible")
    assert answer.headers["retry-after"]


def test_time_that_is_up_is_told(site: Site) -> None:
    """`timeout_ms` ends a generation that takes longer."""
    body = {"inputs": "play", "parameters": {"timeout_ms": 1, "max_new_tokens": 200, "ignore_eos": True}}
    answer = site.http.post("/generate", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "timeout")


def test_time_that_is_up_while_a_version_is_awaited_is_told(site: Site) -> None:
    """The clock starts with the request, not with its forward pass."""
    site.publish("awaited", "play {text}")
    body = {"task": "awaited", "inputs": "it", "min_version": 2, "parameters": {"timeout_ms": 10}}
    answer = site.http.post("/generate", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "timeout")


@pytest.mark.parametrize("task", [None, "base"])
@pytest.mark.parametrize("field", ["version", "min_version"])
def test_the_bare_model_has_no_versions(site: Site, task: str | None, field: str) -> None:
    """A field that would not be honoured is refused, on every route that asks the model."""
    body = {"inputs": "it", field: 1, **({"task": task} if task else {})}
    for route in ("/generate", "/render", "/classify"):
        answer = site.http.post(route, json={**body, **({"labels": ["a"]} if route == "/classify" else {})})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_nothing_to_run_is_refused(site: Site) -> None:
    """A stream and a plain request both say what is wrong before anything runs."""
    for route in ("/generate", "/generate_stream"):
        answer = site.http.post(route, json={"task": "no-such-task", "inputs": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "task_not_found")


def test_a_mixed_batch_answers_in_order_and_fails_item_by_item(site: Site) -> None:
    """Tasks of different kinds, one unknown, one too long: each has its own answer, the others theirs."""
    site.publish("mix-text", "play {text}")
    site.publish("mix-soft", "{text}", soft=4, seed=3)
    few = {"max_new_tokens": 5}
    items: list[dict[str, Any]] = [
        {"task": "mix-text", "inputs": "jazz", "parameters": few},
        {"task": "unknown", "inputs": "jazz"},
        {"task": "mix-soft", "inputs": "jazz", "parameters": few},
        {"inputs": "word " * 400},
        {"task": "mix-text", "inputs": {"no": "field"}},
        {"inputs": "jazz", "parameters": few},
    ]
    answer = site.http.post("/generate", json={"requests": items})
    assert answer.status_code == 200
    GeneratedMany.model_validate(answer.json())
    found = answer.json()["responses"]
    codes = [item["error"]["code"] if "error" in item else None for item in found]
    assert codes == [None, "task_not_found", None, "context_length_exceeded", "invalid_request", None]
    alone = [site.generate("jazz", task, max_new_tokens=5) for task in ("mix-text", "mix-soft", None)]
    texts = [item["generated_text"] for item in found if "error" not in item]
    assert texts == [item["generated_text"] for item in alone]


def test_the_largest_batch_is_answered(site: Site) -> None:
    """256 requests in one body, answered in order; 257 are refused whole."""
    items = [{"inputs": f"play {index}", "parameters": {"max_new_tokens": 2}} for index in range(256)]
    answer = site.http.post("/generate", json={"requests": items}).json()["responses"]
    assert len(answer) == 256
    assert answer[77]["generated_text"] == site.generate("play 77", max_new_tokens=2)["generated_text"]
    assert site.http.post("/generate", json={"requests": [*items, items[0]]}).status_code == 400


def test_a_batch_of_many_choices_does_not_crowd_itself_out(site: Site) -> None:
    """256 requests of 16 choices are more than may wait at once: they take turns."""
    items = [{"inputs": "play", "parameters": {"max_new_tokens": 1, "n": 16}}] * 256
    answer = site.http.post("/generate", json={"requests": items}).json()["responses"]
    assert [len(item.get("choices", [])) for item in answer] == [16] * 256


@pytest.mark.parametrize("route", ["/generate", "/classify", "/render"])
def test_a_text_that_cannot_fit_is_refused_unread(site: Site, route: str) -> None:
    """Its characters alone say so; a template that repeats its field counts it as often."""
    site.publish("often", "{a}" * 100)
    for task, text in (("base", "word " * 700_000), ("often", "word " * 20_000)):
        body = {"task": task, "inputs": text, **({"labels": ["a"] * 1} if route == "/classify" else {})}
        answer = site.http.post(route, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert "characters" in answer.json()["error"]["message"]
    cut = site.http.post("/render", json={"inputs": "word " * 100_000, "truncate": 5})
    assert len(cut.json()["ids"]) == 5


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"requests": [{"inputs": "a"}, {"inputs": "b"}, {"inputs": "c"}, {"inputs": 3}]}, "requests[3].inputs"),
        ({"requests": [{"inputs": "a", "parameters": {"top_p": 2}}]}, "requests[0].parameters.top_p"),
        ({"requests": [{"inputs": "a"}], "stream": True}, None),
        ({"requests": [{"inputs": "a", "stream": True}]}, "requests[0]"),
        ({"requests": []}, "requests"),
        ({"inputs": "a", "stream": True, "parameters": {"n": 2}}, "parameters.n"),
        ({"inputs": "a", "stream": "yes"}, "stream"),
    ],
)
def test_shape_errors_refuse_the_whole(site: Site, body: dict[str, Any], param: str | None) -> None:
    """One item of a wrong shape: a 400 that says where."""
    answer = site.http.post("/generate", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
