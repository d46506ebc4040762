"""A collector of traces: real OTLP over HTTP, decoded with OpenTelemetry's own definition."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A span as it arrived; ids in hexadecimal, times in nanoseconds."""

    name: str
    kind: int
    trace_id: str
    parent: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    events: dict[str, int]
    start: int
    end: int
    error: bool


class Collector:
    """`raw` is all that came, byte for byte."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.raw: list[bytes] = []
        self._arrived: Queue[Seen] = Queue()
        self._found: list[Seen] = []

    def take(self, body: bytes) -> None:
        self.raw.append(body)
        message = ExportTraceServiceRequest.FromString(body)
        for group in message.resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                for span in scope.spans:
                    self._arrived.put(_seen(span, resource))

    def of(self, request_id: str) -> Seen:
        """The one span of a request, once it has come."""
        while True:
            found = [one for one in self._found if one.attributes.get("softprompt.request_id") == request_id]
            if found:
                (only,) = found
                return only
            self._found.append(self._arrived.get(timeout=PATIENCE))


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


def _seen(span: Any, resource: dict[str, Any]) -> Seen:
    return Seen(
        span.name, span.kind, span.trace_id.hex(), span.parent_span_id.hex(), _values(span.attributes), resource,
        {event.name: event.time_unix_nano for event in span.events},
        span.start_time_unix_nano, span.end_time_unix_nano, span.status.code == span.status.STATUS_CODE_ERROR,
    )  # fmt: skip


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of this machine."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            collector.take(body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, *_: object) -> None:
            """What came is looked at, not how."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
