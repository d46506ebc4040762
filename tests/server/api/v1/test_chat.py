"""/v1/chat/completions and the tokenizer over HTTP: the base's own template, as transformers renders it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from transformers import AutoTokenizer

from tests.models import save
from tests.server.jobs.conftest import client_of
from tests.server.site import Site
from tests.server.site import site as running

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('no such role') }}{% endif %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
SAID: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "play some jazz"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = save(tmp_path_factory.mktemp("chat"))
    config = json.loads((found / "tokenizer_config.json").read_text())
    (found / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": TEMPLATE}))
    return found


@pytest.fixture(scope="module")
def talking(folder: Path) -> Iterator[Site]:
    with running(folder, "memory://") as found:
        found.publish("v1soft", "{input}", soft=4, seed=3, target_delimiter="")
        yield found


@pytest.fixture(scope="module")
def client(talking: Site) -> Iterator[openai.OpenAI]:
    with client_of(talking.url) as found:
        yield found


@pytest.fixture(scope="module")
def ids(folder: Path) -> list[int]:
    """Of the conversation."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(SAID, tokenize=False, add_generation_prompt=True)
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def test_a_conversation_is_continued_as_its_template_writes_it(client: openai.OpenAI, ids: list[int]) -> None:
    """Special tokens of the template count as such, and none is added; behind the task's soft prompt too."""
    for model in ("base", "v1soft"):
        same = client.completions.create(model=model, prompt=ids, max_tokens=8, temperature=0, logprobs=2)
        found = client.chat.completions.create(
            model=model,
            messages=SAID,
            max_tokens=8,
            temperature=0,
            logprobs=True,
            top_logprobs=2,
        )
        assert found.object == "chat.completion"
        choice = found.choices[0]
        assert (choice.message.role, choice.message.content) == ("assistant", same.choices[0].text)
        assert choice.logprobs is not None
        assert same.choices[0].logprobs is not None
        told = choice.logprobs.content or []
        assert [one.token for one in told] == same.choices[0].logprobs.tokens
        assert [one.logprob for one in told] == pytest.approx(same.choices[0].logprobs.token_logprobs, abs=1e-4)
        assert [len(one.top_logprobs) for one in told] == [2] * len(told)
        assert found.usage is not None
        assert found.usage.prompt_tokens == len(ids)


def test_a_template_without_a_bos_gets_none(tmp_path: Path) -> None:
    """It says itself what stands in front."""
    folder = save(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    with running(folder, "memory://") as site, client_of(site.url) as client:
        plain = site.http.post("/tokenize", json={"prompt": "play some jazz", "add_special_tokens": False}).json()
        said = [{"role": "user", "content": "play some jazz"}]
        found = client.chat.completions.create(model="base", messages=said, max_tokens=1)  # type: ignore[arg-type]
        assert found.usage is not None
        assert found.usage.prompt_tokens == plain["count"]


def test_a_streamed_turn_is_the_whole_turn(client: openai.OpenAI) -> None:
    """Its first chunk names the role, its last why it ended."""
    asked = {"model": "v1soft", "messages": SAID, "max_completion_tokens": 6, "seed": 3, "n": 2}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    texts, reasons = ["", ""], ["", ""]
    roles: list[tuple[int, str]] = []
    for chunk in client.chat.completions.create(**asked, stream=True):  # type: ignore[call-overload]
        assert chunk.object == "chat.completion.chunk"
        for choice in chunk.choices:
            if choice.delta.role:
                roles.append((choice.index, choice.delta.role))
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert sorted(roles) == [(0, "assistant"), (1, "assistant")]
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]


def test_parts_of_text_are_one_text(client: openai.OpenAI) -> None:
    """What nobody defines in one is passed over; other parts are refused."""
    parts = [{"type": "text", "text": "play some ", "nobody": 1}, {"type": "text", "text": "jazz"}]
    asked = {"model": "base", "max_tokens": 4, "temperature": 0}
    one = client.chat.completions.create(messages=[{"role": "user", "content": parts}], **asked)  # type: ignore[call-overload]
    two = client.chat.completions.create(messages=[SAID[1]], **asked)  # type: ignore[call-overload]
    assert one.choices[0].message.content == two.choices[0].message.content
    picture = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(messages=[{"role": "user", "content": picture}], **asked)  # type: ignore[call-overload]


def test_what_the_template_does_not_take_is_refused(client: openai.OpenAI, site: Site) -> None:
    """And all of it where there is no template; tools are not here."""
    with pytest.raises(openai.BadRequestError, match="takes no such conversation") as refused:
        client.chat.completions.create(model="base", messages=[{"role": "tool", "content": "x", "tool_call_id": "1"}])
    assert refused.value.param == "messages"
    with client_of(site.url) as plain, pytest.raises(openai.BadRequestError, match="has no chat template"):
        plain.chat.completions.create(model="base", messages=SAID)
    with pytest.raises(openai.BadRequestError, match="there are no tools"):
        client.chat.completions.create(
            model="base",
            messages=SAID,
            tools=[{"type": "function", "function": {"name": "f"}}],
        )


def test_models_are_the_base_and_its_tasks(client: openai.OpenAI) -> None:
    """Each by its name, and with base: in front."""
    assert [one.id for one in client.models.list()] == ["base", "v1soft"]
    for name in ("base", "v1soft", "base:v1soft"):
        assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("v1nobody")
    assert missing.value.code == "model_not_found"


def test_text_becomes_ids_and_ids_text(talking: Site, folder: Path, ids: list[int]) -> None:
    """As vLLM has these routes: BOS unless told otherwise, special tokens by name on the way back."""
    tokenizer, http = AutoTokenizer.from_pretrained(folder), talking.http
    for text in ("play some jazz", "a</s>b", "", "naïve 日本"):
        for added in (True, False):
            found = http.post("/tokenize", json={"model": "v1soft", "prompt": text, "add_special_tokens": added}).json()
            plain = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert found["tokens"] == ([0, *plain] if added else plain)
            assert found["count"] == len(found["tokens"])
            back = http.post("/detokenize", json={"tokens": found["tokens"]}).json()["prompt"]
            assert back == ("<s>" if added else "") + text
    talk = http.post("/tokenize", json={"messages": SAID, "return_token_strs": True}).json()
    assert talk["tokens"] == ids
    assert talk["token_strs"] == tokenizer.convert_ids_to_tokens(ids)
    info = http.get("/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"], info["pad_token"]) == ("<s>", "</s>", "<pad>")
    assert info["chat_template"] == TEMPLATE
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [5]})):
        missing = http.post(path, json={"model": "v1nobody", **body})
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    assert http.post("/detokenize", json={"tokens": [10**6]}).status_code == 400
    assert http.post("/tokenize", json={"prompt": "a", "messages": SAID}).status_code == 400
