"""/v1/completions as OpenAI's own client asks it, against transformers alone and against our own routes."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.server.jobs.conftest import client_of
from tests.server.site import Site

TEXT = "play some jazz"


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[openai.OpenAI]:
    site.publish("v1soft", "Say: {input}", soft=4, seed=3, target_delimiter=" ")
    site.publish("v1words", "Say: {input} now")
    site.publish("v1behind", "{input}{soft:3}", soft=3)
    with client_of(site.url) as found:
        yield found


@pytest.fixture(scope="module")
def reference(base_folder: Path) -> PreTrainedModel:
    found: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32).eval()
    return found


def ids_of(site: Site, text: str, **fields: object) -> list[int]:
    found: list[int] = site.http.post("/tokenize", json={"prompt": text, **fields}).json()["tokens"]
    return found


def test_a_prompt_is_continued_as_it_stands(client: openai.OpenAI, site: Site) -> None:
    """Of the base: as our own route has it. A task's template is not around it, nor its delimiter cut."""
    own = site.generate(TEXT, max_new_tokens=9)
    found = client.completions.create(model="base", prompt=TEXT, max_tokens=9, temperature=0)
    assert found.choices[0].text == own["generated_text"]
    assert found.object == "text_completion"
    words = client.completions.create(model="v1words", prompt=TEXT, max_tokens=9, temperature=0)
    assert words.choices[0].text == own["generated_text"]
    soft = client.completions.create(model="base:v1soft", prompt=TEXT, max_tokens=9, temperature=0)
    site.publish("v1bare", "{input}", soft=4, seed=3, target_delimiter="")
    assert soft.choices[0].text == site.generate(TEXT, task="v1bare", max_new_tokens=9)["generated_text"]
    assert soft.choices[0].text != own["generated_text"]


def test_what_stands_behind_a_prompt_is_told_as_it_is(client: openai.OpenAI, site: Site) -> None:
    """A delimiter at its beginning too, which is cut only behind a template that is filled."""
    own = site.generate(TEXT, max_new_tokens=9)["generated_text"]
    site.publish("v1lead", "{input}", target_delimiter=own[:1])
    assert site.generate(TEXT, task="v1lead", max_new_tokens=9)["generated_text"] == own[1:]
    asked = {"model": "v1lead", "max_tokens": 9, "temperature": 0}
    assert client.completions.create(prompt=TEXT, **asked).choices[0].text == own  # type: ignore[call-overload]
    filled = client.completions.create(prompt="", extra_body={"inputs": TEXT}, **asked)  # type: ignore[call-overload]
    assert filled.choices[0].text == own[1:]


def test_inputs_fill_the_template(client: openai.OpenAI, site: Site) -> None:
    """With prompt null, absent or empty; a task with rows behind its input takes nothing else."""
    for task in ("v1soft", "v1words", "v1behind"):
        own = site.generate(TEXT, task=task, max_new_tokens=6)["generated_text"]
        for prompt in (None, ""):
            found = client.completions.create(
                model=task, prompt=prompt, max_tokens=6, temperature=0, extra_body={"inputs": {"input": TEXT}}
            )
            assert found.choices[0].text == own
    with pytest.raises(openai.BadRequestError, match="stand behind its input") as refused:
        client.completions.create(model="v1behind", prompt=TEXT)
    assert refused.value.param == "prompt"
    with pytest.raises(openai.BadRequestError, match="either a prompt, or inputs"):
        client.completions.create(model="v1soft", prompt=TEXT, extra_body={"inputs": TEXT})
    with pytest.raises(openai.BadRequestError, match="a prompt is needed"):
        client.completions.create(model="v1soft", prompt=None)


def test_prompts_come_in_four_forms(client: openai.OpenAI, site: Site) -> None:
    """A text, several, ids, several lists of ids: ids are taken as given, and choices come in the prompts' order."""
    ids = ids_of(site, TEXT)
    others = ids_of(site, "what is the weather")
    alone = [
        client.completions.create(model="base", prompt=prompt, max_tokens=5, temperature=0).choices[0].text
        for prompt in (TEXT, "what is the weather")
    ]
    assert ids[0] == 0, "a text gets the BOS"
    for several in ([TEXT, "what is the weather"], [ids, others], [TEXT, others]):
        found = client.completions.create(model="base", prompt=several, max_tokens=5, temperature=0)  # type: ignore[arg-type]
        assert [(choice.index, choice.text) for choice in found.choices] == list(enumerate(alone))
        assert found.usage is not None
        assert found.usage.prompt_tokens == len(ids) + len(others)
    one = client.completions.create(model="base", prompt=ids, max_tokens=5, temperature=0)
    assert one.choices[0].text == alone[0]
    bare = client.completions.create(model="base", prompt=ids[1:], max_tokens=5, temperature=0, echo=True, logprobs=0)
    assert bare.choices[0].logprobs is not None
    assert len(bare.choices[0].logprobs.tokens or []) == len(ids) - 1 + 5, "no BOS is added to ids"


def test_a_whole_number_is_an_id(client: openai.OpenAI, site: Site) -> None:
    """5.0 is 5, alone and in a list of lists; 5.5 and true are none, and none is negative."""
    ids = ids_of(site, TEXT)
    whole = [float(index) for index in ids]
    asked = {"model": "base", "max_tokens": 5, "temperature": 0}
    expected = client.completions.create(prompt=ids, **asked).choices[0].text  # type: ignore[call-overload]
    for prompt in (whole, [whole], [[*ids[:2], *whole[2:]]]):
        assert client.completions.create(prompt=prompt, **asked).choices[0].text == expected  # type: ignore[call-overload]
    none: list[list[object]] = [[5.5], [True], [-1.0], [[5, 5.5]], [[]], [1e400]]
    for wrong in none:
        body = json.dumps({"model": "base", "prompt": wrong})
        answer = site.http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, wrong
    texts = [site.http.post("/detokenize", json={"tokens": found}).json()["prompt"] for found in (ids, whole)]
    assert texts[0] == texts[1]


def test_echo_with_logprobs_is_what_the_base_alone_says(
    client: openai.OpenAI, site: Site, reference: PreTrainedModel
) -> None:
    """Of every id of the prompt but the first, and of the generated; the same float among the best."""
    ids = ids_of(site, TEXT)
    found = client.completions.create(model="base", prompt=TEXT, max_tokens=1, temperature=0, echo=True, logprobs=3)
    assert found.choices[0].logprobs is not None
    told = found.choices[0].logprobs.model_dump()
    with torch.no_grad():
        table = torch.log_softmax(reference(torch.tensor([ids])).logits[0], -1)
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    for place, token in enumerate(ids[1:], 1):
        assert told["token_logprobs"][place] == pytest.approx(float(table[place - 1, token]), abs=1e-4)
        best = told["top_logprobs"][place]
        assert best[told["tokens"][place]] == told["token_logprobs"][place]
        assert max(best.values()) == pytest.approx(float(table[place - 1].max()), abs=1e-4)
        assert len(best) in {3, 4}
    assert len(told["tokens"]) == len(ids) + 1
    assert told["token_logprobs"][-1] == pytest.approx(float(table[-1].max()), abs=1e-4)
    assert found.choices[0].text.startswith(TEXT)
    text = found.choices[0].text
    spelled = [text[a:b] for a, b in zip(told["text_offset"], [*told["text_offset"][1:], len(text)], strict=True)]
    assert "".join(spelled) == text
    assert spelled[1:-1] == told["tokens"][1:-1]


@pytest.mark.parametrize("prompt", ["<s>a</s> b<pad>", "a</s></s>b", "</s>", "a <s> \ufffd b"])
def test_offsets_point_into_the_text_of_special_tokens_too(client: openai.OpenAI, prompt: str) -> None:
    """Spelled out in a prompt they are characters of the echo; one that was put in front is none."""
    found = client.completions.create(model="base", prompt=prompt, max_tokens=1, temperature=0, echo=True, logprobs=0)
    told, text = found.choices[0].logprobs, found.choices[0].text
    assert told is not None
    assert told.text_offset is not None
    assert told.tokens is not None
    assert told.text_offset[-1] == len(prompt)
    ends = [*told.text_offset[1:], len(text)]
    spelled = [text[a:b] for a, b in zip(told.text_offset, ends, strict=True)]
    assert "".join(spelled) == text
    for piece, token in zip(spelled, told.tokens, strict=True):
        assert piece in {token, ""} or "\ufffd" in piece + token


def test_nothing_may_be_generated_behind_an_echo(client: openai.OpenAI, site: Site) -> None:
    """`max_tokens` 0 tells the prompt and ends; without echo it asks for nothing."""
    ids = ids_of(site, TEXT)
    found = client.completions.create(model="v1soft", prompt=TEXT, max_tokens=0, echo=True, logprobs=1)
    choice = found.choices[0]
    assert (choice.text, choice.finish_reason) == (TEXT, "length")
    assert choice.logprobs is not None
    assert len(choice.logprobs.token_logprobs or []) == len(ids), "no pseudo-tokens"
    assert found.usage is not None
    assert (found.usage.completion_tokens, found.usage.prompt_tokens) == (0, len(ids))
    with pytest.raises(openai.BadRequestError, match="without echo"):
        client.completions.create(model="base", prompt=TEXT, max_tokens=0)


@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, echo: bool) -> None:
    """Texts, logprobs, reasons and counts of every choice of every prompt."""
    asked = {
        "model": "v1soft", "prompt": [TEXT, "what is"], "max_tokens": 6, "n": 3, "seed": 7, "logprobs": 2, "echo": echo,
        "temperature": 0.9, "stop": ["zz"],
    }  # fmt: skip
    whole = client.completions.create(**asked)  # type: ignore[call-overload]
    texts: dict[int, str] = {}
    tokens: dict[int, list[str]] = {}
    logprobs: dict[int, list[float | None]] = {}
    offsets: dict[int, list[int]] = {}
    reasons: dict[int, str] = {}
    usage = None
    for chunk in client.completions.create(**asked, stream=True, stream_options={"include_usage": True}):  # type: ignore[call-overload]
        usage = chunk.usage
        for choice in chunk.choices:
            assert choice.index not in reasons
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            tokens.setdefault(choice.index, []).extend(choice.logprobs.tokens)
            logprobs.setdefault(choice.index, []).extend(choice.logprobs.token_logprobs)
            offsets.setdefault(choice.index, []).extend(choice.logprobs.text_offset)
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert len(texts) == 6
    for choice in whole.choices:
        assert texts[choice.index] == choice.text
        assert tokens[choice.index] == choice.logprobs.tokens
        assert offsets[choice.index] == choice.logprobs.text_offset
        assert reasons[choice.index] == choice.finish_reason
        pairs = zip(logprobs[choice.index], choice.logprobs.token_logprobs, strict=True)
        assert all(a is b or math.isclose(a or 0, b or 0, abs_tol=1e-4) for a, b in pairs)
    assert usage is not None
    assert usage.model_dump(exclude={"prompt_tokens_details"}) == whole.usage.model_dump(
        exclude={"prompt_tokens_details"}
    )


def test_a_stream_ends_with_done_and_lines_end_with_lf(site: Site) -> None:
    """Usage counts as it goes where that is asked for."""
    body = {
        "model": "base", "prompt": TEXT, "max_tokens": 3, "stream": True, "ignore_eos": True,
        "stream_options": {"continuous_usage_stats": True, "include_usage": True},
    }  # fmt: skip
    answer = site.http.post("/v1/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.split("\n\n")
    assert "\r" not in answer.text
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [httpx.Response(200, text=line.removeprefix("data: ")).json() for line in lines[:-2]]
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 3, 3]
    assert chunks[-1]["choices"] == []


def test_what_openai_sets_is_set_where_nobody_says(client: openai.OpenAI, site: Site) -> None:
    """16 ids at temperature 1; a task's own come first."""
    found = client.completions.create(model="base", prompt=TEXT, extra_body={"ignore_eos": True})
    assert found.usage is not None
    assert found.usage.completion_tokens == 16
    drawn = {found.choices[0].text}
    for _ in range(20):  # with this base two draws in some hundreds are the same
        drawn.add(client.completions.create(model="base", prompt=TEXT, extra_body={"ignore_eos": True}).choices[0].text)
    assert len(drawn) > 1, "drawn anew"
    site.publish("v1short", "{input}", defaults={"max_new_tokens": 3, "temperature": 0.0})
    short = [client.completions.create(model="v1short", prompt=TEXT, extra_body={"ignore_eos": True}) for _ in range(2)]
    assert short[0].choices[0].text == short[1].choices[0].text
    assert short[0].usage is not None
    assert short[0].usage.completion_tokens == 3


def test_what_is_not_here_is_refused_by_name_unless_it_asks_for_nothing(client: openai.OpenAI) -> None:
    """Null, empty and OpenAI's own defaults ask for nothing; what nobody defines is passed over."""
    client.completions.create(
        model="base", prompt=TEXT, max_tokens=1, best_of=1, frequency_penalty=0, presence_penalty=0, logit_bias={},
        suffix=None, user="me", extra_body={"top_k": -1, "min_tokens": 0, "skip_special_tokens": True, "nobody": 1},
    )  # fmt: skip
    client.completions.create(model="base", prompt=TEXT, max_tokens=1, extra_body={"top_k": 0})
    for name, value in [("suffix", "x"), ("frequency_penalty", 0.5), ("logit_bias", {"1": 2})]:
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model="base", prompt=TEXT, **{name: value})  # type: ignore[call-overload]
        assert (refused.value.code, refused.value.param) == ("unknown_field", name)
    with pytest.raises(openai.BadRequestError, match="may be 1024 with echo"):
        client.completions.create(model="base", prompt=[TEXT] * 100, echo=True, logprobs=20)
    with pytest.raises(openai.BadRequestError, match="best_of must equal n") as several:
        client.completions.create(model="base", prompt=TEXT, best_of=2)
    assert several.value.param == "best_of", "what does not fit together is told by name"
    options = {"include_usage": True, "nobody": 1}
    list(client.completions.create(model="base", prompt=TEXT, max_tokens=1, stream=True, stream_options=options))  # type: ignore[call-overload]


def test_a_fault_speaks_of_openais_fields(client: openai.OpenAI) -> None:
    """And a model that is none is not found."""
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="v1nobody", prompt=TEXT)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="base", prompt=TEXT, max_tokens=5000)
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "prompt")
    with pytest.raises(openai.BadRequestError) as wide:
        client.completions.create(model="base", prompt=TEXT, extra_body={"top_k": 5000})
    assert wide.value.param == "top_k"
    with pytest.raises(openai.BadRequestError) as other:
        client.completions.create(model="base", prompt=[384])
    assert other.value.param == "prompt"
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="v1nobody", prompt=[TEXT, TEXT], stream=stream)
