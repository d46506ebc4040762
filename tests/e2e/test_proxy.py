"""A server behind a real nginx with docker/nginx.conf: what reaches it, what comes back, and when."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.process import Process, serving
from tests.e2e.proxy import NAME, AsyncNamed, Named, Proxy, proxied
from tests.server.site import connect, until

API_KEY, BUSY_KEY, ADMIN_KEY = "generate-0123456789", "generate-9876543210", "admin-0123456789abc"
LONG = {"inputs": "play", "parameters": {"max_new_tokens": 3000, "ignore_eos": True}}
LARGEST = 64 * 2**20
STREAMS = 100


@pytest.fixture(scope="module")
def server(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, httpx.Client]]:
    """With a base that has room for answers of many seconds, and a client that does not go through the proxy."""
    folder = tmp_path_factory.mktemp("long")
    for path in base_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}), encoding="utf-8")
    settings = {
        "SOFTPROMPT_ALLOWED_HOSTS": f"{NAME},127.0.0.1",
        "SOFTPROMPT_API_KEY": f"{API_KEY},{BUSY_KEY}",
        "SOFTPROMPT_ADMIN_KEY": ADMIN_KEY,
    }
    with serving("--model", str(folder), "--store", "memory://", **settings) as (process, client):
        client.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        yield process, client


@pytest.fixture(scope="module")
def proxy(server: tuple[Process, httpx.Client], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with proxied(server[0].url, tmp_path_factory.mktemp("nginx")) as found:
        yield found


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    """Through the proxy, with the admin key."""
    headers = {"Host": NAME, "Authorization": f"Bearer {ADMIN_KEY}"}
    transport = Named(verify=proxy.trust)
    with httpx.Client(base_url=proxy.url, headers=headers, transport=transport, timeout=60, trust_env=False) as found:
        yield found


def engine(direct: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = direct.get("/info").json()["engine"]
    return found


def test_a_stream_comes_token_by_token_and_ends_with_its_client(
    server: tuple[Process, httpx.Client], client: httpx.Client
) -> None:
    """Events are read while the engine still runs; when the reader leaves, the generation ends long before its end."""
    _, direct = server
    with client.stream("POST", "/generate_stream", json=LONG) as stream:
        lines = (line for line in stream.iter_lines() if line)
        for index in range(3):
            assert json.loads(next(lines).removeprefix("data: "))["index"] == index
        assert engine(direct)["running"] == 1
    until(lambda: engine(direct)["running"] == 0, "it has been cancelled")
    assert engine(direct)["counters"]["generated"] < 2500


def test_a_piece_is_passed_on_before_there_is_another(tmp_path: Path) -> None:
    """The server behind says one event and then nothing until the reader has it; it does not ask for that itself."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    event = b"data: {}\n\n"
    read = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as behind:

        def serve() -> None:
            accepted, _ = behind.accept()
            with accepted:
                accepted.recv(65536)
                accepted.sendall(head + b"a\r\n" + event + b"\r\n")
                read.wait(60)
                accepted.sendall(b"0\r\n\r\n")

        with proxied(f"http://127.0.0.1:{behind.getsockname()[1]}", tmp_path) as proxy:
            thread = threading.Thread(target=serve)
            thread.start()
            transport = Named(verify=proxy.trust)
            try:
                with (
                    httpx.Client(base_url=proxy.url, headers={"Host": NAME}, transport=transport, timeout=20) as client,
                    client.stream("POST", "/generate_stream", json={}) as stream,
                ):
                    assert next(stream.iter_raw()) == event
                    assert not read.is_set()
            finally:
                read.set()
                thread.join()


def test_a_client_that_leaves_before_the_first_byte_is_noticed(
    server: tuple[Process, httpx.Client], client: httpx.Client
) -> None:
    """A plain answer takes its whole time; nobody waits for it any more."""
    _, direct = server
    before = engine(direct)["counters"]["generated"]
    with pytest.raises(httpx.ReadTimeout):
        client.post("/generate", json=LONG, timeout=0.5)
    until(lambda: engine(direct)["running"] == 0, "it has been cancelled")
    assert engine(direct)["counters"]["generated"] - before < 2500


def test_an_upload_of_the_allowed_size_passes_and_a_larger_one_does_not(client: httpx.Client) -> None:
    """The largest body reaches the server, which finds no prompt file in it; one byte more is refused in its shape."""
    headers = {"Content-Type": "application/octet-stream"}
    allowed = client.put("/tasks/large", content=bytes(LARGEST), headers=headers)
    assert allowed.status_code == 422, allowed.text
    refused = client.put("/tasks/large", content=bytes(LARGEST + 1), headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
    assert refused.headers["x-should-retry"] == "false"
    assert refused.headers["content-type"] == "application/json"
    assert client.put("/tasks/small", json={"template": "{text}"}).status_code == 201


def test_a_body_is_not_taken_from_strangers(proxy: Proxy) -> None:
    """The key is looked at while the body is still to come."""
    head = f"PUT /tasks/t HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {LARGEST}\r\n\r\nx"
    with connect(proxy.url) as plain, proxy.trust.wrap_socket(plain, server_hostname=NAME) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")


def test_ids_agree(server: tuple[Process, httpx.Client], proxy: Proxy, client: httpx.Client) -> None:
    """In the answer, in the server's log and in the proxy's: the client's where it is plain, else one drawn."""
    process, _ = server
    given = {"x-request-id": "mine-1"}
    answers = [
        client.get("/version", headers=given),
        client.get("/version"),
        client.get("/version", headers={"x-request-id": "not plain"}),
    ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert ids[0] == "mine-1"
    assert len(set(ids)) == 3
    until(lambda: set(ids) <= {entry.get("request_id") for entry in [*process.log]}, "the server has logged them")
    until(lambda: all(one in proxy.log.read_text(encoding="utf-8") for one in ids), "nginx has logged them")
    assert "/version" not in proxy.log.read_text(encoding="utf-8")


def test_other_names_are_refused(server: tuple[Process, httpx.Client], proxy: Proxy, client: httpx.Client) -> None:
    """In the handshake, in the header, and by the server itself if the proxy let one pass."""
    assert client.get("/livez", headers={"Host": "evil.example"}).status_code == 421
    with httpx.Client(verify=proxy.trust, trust_env=False) as stranger, pytest.raises(httpx.ConnectError):
        stranger.get(f"{proxy.url}/livez")
    assert server[1].get("/livez", headers={"Host": "evil.example"}).status_code == 400


def test_metrics_stay_inside(server: tuple[Process, httpx.Client], proxy: Proxy, client: httpx.Client) -> None:
    """Whoever asks from outside is told that there is no such route, however it is spelt."""
    for path in ("/metrics", "//metrics", "/x/../metrics", "/%6detrics", "/metrics/"):
        answer = client.get(proxy.url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path
        assert answer.headers["x-request-id"]
    assert server[1].get("/metrics").status_code == 200


def test_what_the_server_says_comes_through(client: httpx.Client) -> None:
    """Paths as they were sent, the server's own errors and headers, and HSTS on top."""
    assert client.put("/tasks/a%2fb", json={"template": "{text}"}).json()["error"]["code"] == "invalid_task_id"
    answer = client.get("/tasks/absent")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "task_not_found")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/tasks", headers={"Authorization": "Bearer no-key-of-ours-at-all"}).status_code == 401


async def test_a_hundred_streams_at_once_are_whole(proxy: Proxy) -> None:
    """Each is what it is alone."""
    headers = {"Host": NAME, "Authorization": f"Bearer {API_KEY}"}
    body = {"inputs": "play", "parameters": {"max_new_tokens": 20, "ignore_eos": True}}
    limits = httpx.Limits(max_connections=STREAMS)
    transport = AsyncNamed(verify=proxy.trust, limits=limits)
    async with httpx.AsyncClient(base_url=proxy.url, headers=headers, transport=transport, timeout=120) as client:

        async def stream() -> list[Any]:
            async with client.stream("POST", "/generate_stream", json=body) as answer:
                assert answer.status_code == 200
                return [json.loads(line.removeprefix("data: ")) async for line in answer.aiter_lines() if line]

        alone = (await client.post("/generate", json=body)).json()["generated_text"]
        found = await asyncio.gather(*(stream() for _ in range(STREAMS)))
    assert all(len(events) == 20 for events in found)
    assert {events[-1]["generated_text"] for events in found} == {alone}


def test_a_key_that_asks_too_often_waits(client: httpx.Client) -> None:
    """429 in the server's shape for that key, and for no other."""
    busy = {"Authorization": f"Bearer {BUSY_KEY}"}
    refused = next(answer for _ in range(5000) if (answer := client.get("/version", headers=busy)).status_code != 200)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    assert refused.headers["x-should-retry"] == "true"
    assert client.get("/version").status_code == 200


def test_a_server_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    """502 in the one error shape, with an id."""
    with proxied("http://127.0.0.1:9", tmp_path) as away:
        transport = Named(verify=away.trust)
        with httpx.Client(base_url=away.url, headers={"Host": NAME}, transport=transport, trust_env=False) as client:
            answer = client.get("/livez")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "unreachable")
    assert answer.headers["x-request-id"]
