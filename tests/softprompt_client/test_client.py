"""Both clients against a real server: every method, and what an answer says."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from prompt_store.peft import KINDS, to_peft
from prompt_store.prompt import parse
from softprompt_client import AsyncClient, Client, SoftpromptError
from softprompt_client import peft as client_peft
from softprompt_client.async_client import AsyncTasks
from softprompt_client.client import Tasks
from tests.server.site import Site, embeddings
from tests.softprompt_client.conftest import Asking, Waiting

TEXT = {"kind": "text", "template": "Say {input}:", "labels": ["yes", "no"], "defaults": {"max_new_tokens": 4}}


def public(kind: type) -> dict[str, inspect.Signature]:
    methods = inspect.getmembers(kind, inspect.isfunction)
    return {name: inspect.signature(method) for name, method in methods if not name.startswith("_")}


@pytest.fixture
def client(client_of: Asking, site: Site) -> Waiting:
    return client_of(site.url)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A task of this test alone."""
    return f"t-{abs(hash(request.node.name))}"


def test_both_clients_have_the_same_names_and_arguments() -> None:
    """`await` is the difference; closing is called as Python calls it."""
    ends = {"close", "aclose"}
    for waits, awaits in ((Client, AsyncClient), (Tasks, AsyncTasks)):
        one, other = public(waits), public(awaits)
        assert one.keys() - ends == other.keys() - ends
        assert len(one) > 8
        assert not [
            name for name in one.keys() - ends - {"stream", "send"} if one[name].parameters != other[name].parameters
        ]


def test_a_task_is_asked_whole_many_at_once_and_token_by_token(client: Waiting, name: str) -> None:
    """The stream's tokens are the answer's text, and its last event the plain answer."""
    client.tasks.publish(name, TEXT)
    whole = client.generate(name, "hello")
    assert (whole["task"], whole["version"], whole["usage"]["completion_tokens"]) == (name, 1, 4)
    longer = client.generate("base", "hello", max_new_tokens=9, ignore_eos=True)
    assert longer["usage"]["completion_tokens"] == 9
    events = client.generate_stream(name, "hello")
    assert "".join(event["token"]["text"] for event in events) == whole["generated_text"]
    assert events[-1]["generated_text"] == whole["generated_text"]
    assert {**events[-1]["details"], "seed": 0, "usage": 0} == {
        name: value for name, value in {**whole, "seed": 0, "usage": 0}.items() if name != "generated_text"
    }
    good, bad = client.generate_many([{"task": name, "inputs": "hello"}, {"task": "none", "inputs": "x"}])
    assert good["generated_text"] == whole["generated_text"]
    assert bad["error"]["code"] == "task_not_found"
    request = {"task": name, "inputs": "hello"}
    assert client.generate_request(request)["generated_text"] == whole["generated_text"]
    assert client.stream_request(request)[-1]["generated_text"] == whole["generated_text"]


def test_labels_are_scored_and_a_prompt_is_shown(client: Waiting, name: str) -> None:
    """The task's own labels or the request's; what would be sent holds the text."""
    client.tasks.publish(name, TEXT)
    assert {score["label"] for score in client.classify(name, "hello")["scores"]} == {"yes", "no"}
    many = client.classify_many([{"task": name, "inputs": "hello", "labels": ["a", "b", "c"]}])
    assert len(many[0]["scores"]) == len(client.classify(name, "hello", ["a", "b", "c"])["scores"]) == 3
    assert client.render(name, "hello")["text"] == "Say hello:"
    assert client.render_request({"task": name, "inputs": "hello", "parameters": {"n": 2}})["text"] == "Say hello:"


def test_a_task_changes_comes_back_and_goes(client: Waiting, name: str) -> None:
    """Publish, patch, roll back, delete, with their conditions; the history says it all."""
    first = client.tasks.publish(name, TEXT, create_only=True)
    assert (first.task["version"], first.created, bool(first.operation_id)) == (1, True, True)
    assert not client.tasks.publish(name, TEXT).created
    with pytest.raises(SoftpromptError, match="precondition_failed"):
        client.tasks.publish(name, TEXT, create_only=True)
    patched = client.tasks.patch(name, {"description": "a test"}, if_match=first.task["digest"])
    assert patched.task["description"] == "a test"
    with pytest.raises(SoftpromptError) as caught:
        client.tasks.patch(name, {"description": "late"}, if_match=first.task["digest"])
    assert (caught.value.status, caught.value.code) == (412, "precondition_failed")
    assert client.tasks.rollback(name, 1).task["description"] is None
    again = client.tasks.rollback(name, 2, idempotency_key="once-" + name)
    assert client.tasks.rollback(name, 2, idempotency_key="once-" + name).task["version"] == again.task["version"]
    assert client.tasks.delete(name) is None
    assert [line["event"] for line in client.tasks.versions(name)][:2] == ["delete", "rollback"]
    assert client.tasks.version(name, 2)["task"]["description"] == "a test"


def test_a_file_and_a_peft_directory_are_published_and_come_back(
    client: Waiting, site: Site, name: str, tmp_path: Path
) -> None:
    """Byte for byte; the directory's type settles the kind."""
    file = embeddings(site.base, "{input}", 3)
    published = client.tasks.publish(name, file.data).task
    found = client.tasks.prompt(name, published["version"])
    assert (found.data, found.digest) == (file.data, published["digest"])
    (tmp_path / "file.safetensors").write_bytes(file.data)
    assert not client.tasks.publish(name, tmp_path / "file.safetensors").created
    to_peft(parse(file.data), tmp_path / "peft")
    of_peft = client.tasks.publish(name, str(tmp_path / "peft"), template="Q: {input}", labels=["a", "b"]).task
    assert (of_peft["kind"], of_peft["labels"], of_peft["template"]) == ("embeddings", ["a", "b"], "Q: {input}")
    rows = client.tasks.nearest(name, 2)
    assert [len(row["tokens"]) for row in rows] == [2, 2, 2]
    (tmp_path / "text.json").write_text(json.dumps(TEXT))
    assert client.tasks.publish(name, tmp_path / "text.json").task["kind"] == "text"


def test_tasks_are_listed_page_by_page(client: Waiting, name: str) -> None:
    """All of them, however small a page; narrowed by kind and by how ids begin."""
    for number in range(5):
        client.tasks.publish(f"{name}-{number}", TEXT)
    wanted = [f"{name}-{number}" for number in range(5)]
    assert [task["id"] for task in client.tasks.list(search=f"{name}-", page=2)] == wanted
    assert [task["id"] for task in client.tasks.list(search=f"{name}-", order="desc")] == wanted[::-1]
    assert client.tasks.list(search=f"{name}-", kind="adapter") == []


def test_the_server_is_asked_about_itself(client: Waiting) -> None:
    """What is served, with every bound; whether it is ready."""
    assert client.info()["limits"]["max_requests"] == 256
    assert client.ready() == {"status": "ok"}


def test_an_error_says_everything_that_the_server_says(client: Waiting) -> None:
    """Status, code, the field at fault, whether the same again may help, and the request's id."""
    with pytest.raises(SoftpromptError) as caught:
        client.generate("base", "x", max_new_tokens=0)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "invalid_request", "parameters.max_new_tokens")
    assert (error.retryable, bool(error.request_id)) == (False, True)
    assert str(error).startswith("400 invalid_request: ")


@pytest.mark.parametrize("task", ["..", ".", "a/b", "", "é", "a?b", "a b"])
def test_a_name_that_is_none_never_leads_elsewhere(client: Waiting, task: str) -> None:
    """Whatever stands in it, the path stays below /tasks."""
    with pytest.raises(SoftpromptError) as caught:
        client.tasks.publish(task, TEXT)
    assert caught.value.code == "invalid_task_id"
    with pytest.raises(SoftpromptError) as caught:
        client.tasks.get(task)
    assert caught.value.code in {"task_not_found", "not_found"}


def test_a_label_with_a_comma_is_not_cut_in_two(client: Waiting) -> None:
    """The query has no way to say it."""
    with pytest.raises(ValueError, match="comma"):
        client.tasks.publish("t", b"", labels=["a, b"])


@pytest.mark.parametrize(
    ("config", "said"),
    [(None, "holds"), ("[", "not JSON"), ('{"peft_type": "LORA"}', "the types"), ("[]", "the types")],
)
def test_a_directory_that_is_none_of_pefts_is_told(client: Waiting, tmp_path: Path, config: Any, said: str) -> None:
    """Before anything is sent."""
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    if config is not None:
        (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(ValueError, match=said):
        client.tasks.publish("t", tmp_path)


def test_the_clients_types_of_peft_are_the_stores() -> None:
    """It may not import them."""
    assert client_peft.KINDS == KINDS
