"""Traces from a real process: what a collector receives over OTLP, and that one which is not there costs nothing."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.collector import Collector, collecting
from tests.e2e.process import Process, serving
from tests.server.site import embeddings

SERVER_KIND = 2
CANARY = "Xq7ZcanaryQ"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
def server(base_folder: Path, collector: Collector) -> Iterator[tuple[Process, httpx.Client]]:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with serving("--model", str(base_folder), "--store", "memory://", **variables) as (process, client):
        client.put("/tasks/traced", content=embeddings(None, f"{CANARY} play {{text}}", 4).data).raise_for_status()
        yield process, client


def test_a_generation_is_a_span_with_what_it_was(server: tuple[Process, httpx.Client], collector: Collector) -> None:
    """Name, kind and attributes of the conventions; the answer's own counts; events of its first and last token."""
    _, client = server
    body = {"task": "traced", "inputs": CANARY, "parameters": {"max_new_tokens": 6, "ignore_eos": True}}
    answer = client.post("/generate", json=body, headers={"x-request-id": "one"})
    usage = answer.json()["usage"]
    span = collector.of("one")
    assert (span.name, span.kind, span.parent, span.error) == ("text_completion traced", SERVER_KIND, "", False)
    wanted = {
        "http.request.method": "POST",
        "http.route": "/generate",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": client.base_url.port,
        "softprompt.request_id": "one",
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "softprompt",
        "gen_ai.request.model": "traced",
        "gen_ai.response.model": client.get("/info").json()["model"],
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.prompt.name": "traced",
        "gen_ai.prompt.version": "1",
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.cache_read.input_tokens": usage["cached_tokens"],
        "gen_ai.usage.output_tokens": 6,
        "softprompt.soft_tokens": 4,
    }
    assert span.attributes.pop("softprompt.queue_seconds") >= 0
    assert span.attributes == wanted
    assert span.start <= span.events["first token"] < span.events["last token"] <= span.end
    assert span.resource["service.name"] == "softprompt"
    assert span.resource["service.version"] == client.get("/version").json()["version"]


def test_a_trace_of_the_client_goes_on(server: tuple[Process, httpx.Client], collector: Collector) -> None:
    """The span is a child of the client's, whose trace id stands in the log line too; one not sampled is not sent."""
    process, client = server
    for request_id, flags in (("unsampled", "00"), ("sampled", "01")):
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}", "x-request-id": request_id}
        client.post("/generate", json={"inputs": "x", "parameters": {"max_new_tokens": 1}}, headers=headers)
    span = collector.of("sampled")
    assert (span.trace_id, span.parent) == (TRACE, PARENT)
    lines = {entry.get("request_id"): entry for entry in process.log if entry["event"] == "request"}
    assert lines["sampled"]["trace_id"] == TRACE
    client.get("/info", headers={"x-request-id": "after", "traceparent": "nonsense"})
    after = collector.of("after")
    assert after.parent == ""
    assert after.name == "GET /info"
    assert "gen_ai.operation.name" not in after.attributes
    assert b"unsampled" not in b"".join(collector.raw)


def test_streams_batches_and_failures_are_told_apart(
    server: tuple[Process, httpx.Client], collector: Collector
) -> None:
    """A stream has its first chunk's time, a batch its sums, a classification no reasons, an error its code."""
    _, client = server

    def span(request_id: str, path: str, body: dict[str, Any]) -> Any:
        client.post(path, json=body, headers={"x-request-id": request_id})
        return collector.of(request_id)

    few = {"max_new_tokens": 3, "ignore_eos": True}
    stream = span("stream", "/generate_stream", {"task": "traced", "inputs": CANARY, "parameters": few})
    assert stream.attributes["gen_ai.request.stream"] is True
    assert 0 < stream.attributes["gen_ai.response.time_to_first_chunk"] < 60
    many = [{"inputs": CANARY, "parameters": few}, {"task": "traced", "inputs": CANARY, "parameters": few}]
    batch = span("batch", "/generate", {"requests": many})
    assert batch.attributes["gen_ai.usage.output_tokens"] == 6
    assert batch.attributes["gen_ai.response.finish_reasons"] == ["length", "length"]
    assert batch.attributes["gen_ai.request.model"] == "mixed"
    assert batch.attributes["softprompt.items"] == 2
    scored = span("scored", "/classify", {"task": "traced", "inputs": CANARY, "labels": ["a", "b"]})
    assert scored.name == "classify traced"
    assert scored.attributes["gen_ai.usage.input_tokens"] > 0
    theirs = span("theirs", "/v1/completions", {"model": "base", "prompt": CANARY, "max_tokens": 2, "stream": True})
    assert theirs.attributes["gen_ai.request.model"] == "base"
    assert "gen_ai.prompt.name" not in theirs.attributes
    refused = span("refused", "/generate", {"task": CANARY, "inputs": CANARY})
    assert refused.name == "POST /generate"
    assert (refused.attributes["error.type"], refused.error) == ("task_not_found", False)
    assert "gen_ai.request.model" not in refused.attributes
    client.get(f"/tasks/{CANARY}?search={CANARY}", headers={"x-request-id": "elsewhere"})
    client.get(f"/{CANARY}", headers={"x-request-id": "nowhere"})
    assert collector.of("elsewhere").name == "GET /tasks/{task}"
    assert collector.of("nowhere").attributes["http.route"] == "none"
    told = b"".join(collector.raw)
    assert CANARY.encode() not in told
    assert b"livez" not in told


def test_a_collector_that_is_not_there_costs_requests_nothing(base_folder: Path) -> None:
    """Refused or silent: requests are answered as ever, and the end waits a few seconds at most."""
    with silent() as mute:
        for endpoint in ("http://127.0.0.1:9", mute):
            variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
            with serving("--model", str(base_folder), "--store", "memory://", **variables) as (process, client):
                for _ in range(50):
                    answer = client.post("/generate", json={"inputs": "x", "parameters": {"max_new_tokens": 1}})
                    assert answer.status_code == 200
                times = sorted(entry["ms"] for entry in process.log if entry["event"] == "request")
                assert times[len(times) // 2] < 1000, "nobody waits for a collector"
                began = time.monotonic()
            assert time.monotonic() - began < 15


@contextmanager
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as taken:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


LOADED = """
import json, sys
import cli.main, server.serve
print(json.dumps([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]))
"""


def test_without_an_endpoint_nothing_of_it_is_loaded() -> None:
    """Neither the SDK nor an exporter: who does not trace does not wait for them at the start."""
    found = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == []


def test_another_protocol_is_refused_in_words(base_folder: Path) -> None:
    """A collector that is named for gRPC is not sent HTTP; the server says so and serves."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with serving("--model", str(base_folder), "--store", "memory://", **variables) as (process, client):
        assert client.get("/info").status_code == 200
    assert [entry["level"] for entry in process.log if "http/protobuf" in entry["event"]] == ["warning"]
