"""OpenAI's own client at its own habits: asynchronous calls, errors as its classes, and what it asks again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import openai
import pytest

from tests.server.jobs.conftest import client_of
from tests.server.site import Site, until
from tests.server.site import site as running

TEXT = "play some jazz"
API_KEY = "generate-0123456789"
ADMIN_KEY = "admin-0123456789abc"
LONG = {"model": "base", "prompt": TEXT, "max_tokens": 200, "temperature": 0, "extra_body": {"ignore_eos": True}}
RETRIES = 4


@pytest.fixture
async def client(site: Site) -> AsyncIterator[openai.AsyncOpenAI]:
    site.publish("sdksoft", "Say: {input}", soft=4, seed=3)
    async with openai.AsyncOpenAI(base_url=f"{site.url}/v1", api_key="none", max_retries=0, timeout=60) as found:
        yield found


@pytest.fixture(scope="module")
def closed(base_folder: Path) -> Iterator[Site]:
    with running(base_folder, "memory://", api_key=API_KEY, admin_key=ADMIN_KEY) as found:
        yield found


@pytest.fixture
def narrow(base_folder: Path) -> Iterator[Site]:
    """One request runs, one waits; a third is 503 `queue_full`."""
    with running(base_folder, "memory://", max_batch=1, max_waiting=1) as found:
        yield found


def answered(site: Site, route: str, status: int) -> int:
    """How often the server has said `status` on `route`, as it counts itself."""
    lines = site.http.get("/metrics").text.splitlines()
    found = [line for line in lines if f'route="{route}"' in line and f'status="{status}"' in line]
    return sum(
        int(float(line.rpartition(" ")[2])) for line in found if line.startswith("softprompt_http_requests_total")
    )


async def seen(site: Site, route: str, status: int) -> None:
    await asyncio.to_thread(until, lambda: answered(site, route, status) > 0, f"a {status} on {route}")


async def test_the_asynchronous_client_hears_what_the_other_hears(client: openai.AsyncOpenAI, site: Site) -> None:
    """Many at once, whole and streamed, each the answer of our own route."""
    texts = [f"play song {number}" for number in range(8)]
    own = [site.generate(text, task="sdksoft", max_new_tokens=9) for text in texts]
    asked = {"model": "sdksoft", "max_tokens": 9, "temperature": 0, "prompt": ""}

    async def whole(text: str) -> str:
        found = await client.completions.create(**asked, extra_body={"inputs": text})  # type: ignore[call-overload]
        return str(found.choices[0].text)

    async def streamed(text: str) -> str:
        chunks = await client.completions.create(**asked, stream=True, extra_body={"inputs": text})  # type: ignore[call-overload]
        return "".join([choice.text async for chunk in chunks for choice in chunk.choices])

    expected = [answer["generated_text"] for answer in own]
    assert await asyncio.gather(*map(whole, texts)) == expected
    assert await asyncio.gather(*map(streamed, texts)) == expected


async def test_an_asynchronous_list_is_read_to_its_end(client: openai.AsyncOpenAI) -> None:
    """The base and every task."""
    names = [model.id async for model in client.models.list()]
    assert names[0] == "base"
    assert "sdksoft" in names


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stream_that_is_left_ends_here(client: openai.AsyncOpenAI, site: Site, stream: bool) -> None:
    """Whoever leaves in the middle takes its request along: nothing runs on for nobody."""
    task = asyncio.create_task(client.completions.create(**LONG, stream=stream))  # type: ignore[call-overload]
    if stream:
        await anext(aiter(chunks := await task))
        await chunks.close()
    else:
        await asyncio.to_thread(until, site.busy, "the request runs")
        task.cancel()
    await asyncio.to_thread(until, site.idle, "the engine is idle")


def test_keys_are_the_clients_own(closed: Site) -> None:
    """401 for none of ours, 403 for one without the right: asking again is no use, and the client does not."""
    with (
        client_of(closed.url, "nobody") as nobody,
        client_of(closed.url, API_KEY) as user,
        client_of(closed.url, ADMIN_KEY) as admin,
    ):
        with pytest.raises(openai.AuthenticationError) as unknown:
            nobody.models.list()
        assert (unknown.value.status_code, unknown.value.code) == (401, "invalid_api_key")
        with pytest.raises(openai.PermissionDeniedError) as weak:
            user.put(f"{closed.url}/tasks/mine", cast_to=object, body={"template": "{input}"})
        assert (weak.value.status_code, weak.value.code) == (403, "insufficient_scope")
        admin.put(f"{closed.url}/tasks/mine", cast_to=object, body={"template": "{input}"})
        assert [model.id for model in user.models.list()] == ["base", "mine"]
    for error in (unknown.value, weak.value):
        assert error.response.headers["x-should-retry"] == "false"
        assert error.request_id == error.response.headers["x-request-id"]


async def test_refusals_are_the_clients_classes(client: openai.AsyncOpenAI) -> None:
    """400, 404 and 422, whole and before a stream; each with its code, its field and its request id."""
    create = client.completions.create
    with pytest.raises(openai.BadRequestError) as bad:
        await create(model="base", prompt=TEXT, max_tokens=5000)
    assert (bad.value.code, bad.value.param, bad.value.type) == (
        "context_length_exceeded", "prompt", "invalid_request_error",
    )  # fmt: skip
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as missing:
            await create(model="sdknobody", prompt=TEXT, stream=stream)
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        assert missing.value.request_id
    with pytest.raises(openai.UnprocessableEntityError) as file:
        await client.put(str(client.base_url.join("/tasks/sdkbad")), cast_to=object, body={"template": "{"})
    assert file.value.code == "bad_template"


async def test_a_full_queue_is_asked_again_as_it_asks_for(narrow: Site) -> None:
    """503 `queue_full` says when, and the client comes back by itself until there is room."""
    async with openai.AsyncOpenAI(base_url=f"{narrow.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        held = [await client.completions.create(**LONG, stream=True)]  # type: ignore[call-overload]
        waiting = asyncio.create_task(client.completions.create(**LONG))  # type: ignore[call-overload]
        await asyncio.to_thread(until, lambda: narrow.snapshot().waiting == 1, "one waits")
        with pytest.raises(openai.InternalServerError) as full:
            await client.completions.create(**LONG)  # type: ignore[call-overload]
        assert (full.value.status_code, full.value.code) == (503, "queue_full")
        headers = full.value.response.headers
        assert (headers["x-should-retry"], headers["retry-after"]) == ("true", "1")
        patient = client.with_options(max_retries=RETRIES)
        before = answered(narrow, "/v1/completions", 503)
        asking = asyncio.create_task(patient.completions.with_raw_response.create(**LONG))  # type: ignore[call-overload]
        await asyncio.to_thread(until, lambda: answered(narrow, "/v1/completions", 503) > before, "a refusal")
        waiting.cancel()
        await held[0].close()
        raw = await asking
        assert 1 <= raw.retries_taken <= RETRIES
        assert raw.parse().usage.completion_tokens == 200
        assert answered(narrow, "/v1/completions", 503) == before + raw.retries_taken


async def test_a_draining_server_is_asked_again(narrow: Site) -> None:
    """503 `draining`: behind the same address another server may answer in a moment."""
    narrow.lifecycle.draining = True
    async with openai.AsyncOpenAI(base_url=f"{narrow.url}/v1", api_key="none", max_retries=RETRIES) as client:
        asking = asyncio.create_task(client.get(f"{narrow.url}/ping", cast_to=object))
        await seen(narrow, "/ping", 503)
        narrow.lifecycle.draining = False
        assert await asking == {"status": "ok"}
        assert answered(narrow, "/ping", 503) <= RETRIES


def test_a_conflict_is_asked_once(site: Site) -> None:
    """409 would be asked again by its status alone; `x-should-retry: false` says that it is no use."""
    site.publish("sdkgone", "Say: {input}")
    assert site.http.delete("/tasks/sdkgone").status_code == 204
    before = answered(site, "/tasks/{task}/rollback", 409)
    with client_of(site.url) as client, pytest.raises(openai.ConflictError) as refused:
        client.with_options(max_retries=RETRIES).post(
            f"{site.url}/tasks/sdkgone/rollback", cast_to=object, body={"version": 2}
        )
    assert (refused.value.code, refused.value.response.headers["x-should-retry"]) == ("version_deleted", "false")
    assert answered(site, "/tasks/{task}/rollback", 409) == before + 1
