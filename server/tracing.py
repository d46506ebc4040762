"""Traces: one OpenTelemetry span a request, sent by OTLP over HTTP. The only importer of OpenTelemetry's SDK.

Knows accounts, headers and OpenTelemetry; no routes. Attributes are those of the semantic conventions for HTTP servers
and generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/), content left out always. The provider is our
own and not the process's: a library that finds one there would tell it paths and queries, which are input.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from server.account import Account, Headers

LAST_SPANS_SECONDS = 5.0
"""For what is not sent yet when the server ends; a collector that does not answer gets no more."""
CONTEXT = (b"traceparent", b"tracestate")
OPERATIONS: Mapping[str, str] = {
    "/generate": "text_completion",
    "/generate_stream": "text_completion",
    "/v1/completions": "text_completion",
    "/v1/chat/completions": "chat",
    "/classify": "classify",
}
PROVIDER = "softprompt"
MOST_REASONS = 16


class Traces:
    """Where OTEL_EXPORTER_OTLP_ENDPOINT says; sampler, batches, headers and limits by OpenTelemetry's variables too."""

    def __init__(self, version: str, base: str) -> None:
        self._provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("softprompt", version)
        self._parents = TraceContextTextMapPropagator()
        self._base = base

    @contextmanager
    def __call__(self, account: Account, headers: Headers, /) -> Iterator[None]:
        """A span around one request; its trace id stands in every log line inside."""
        carried = {name.decode(): value.decode("latin-1") for name, value in headers if name in CONTEXT}
        began, now = time.monotonic(), time.time_ns()
        span = self._tracer.start_span(account.method, self._parents.extract(carried), SpanKind.SERVER, start_time=now)
        trace_id = format_trace_id(span.get_span_context().trace_id)
        try:
            with structlog.contextvars.bound_contextvars(trace_id=trace_id):
                yield
        finally:
            if span.is_recording():
                self._tell(span, account)
                for event, moment in (("first token", account.first), ("last token", account.last)):
                    if moment is not None:
                        span.add_event(event, timestamp=now + round((moment - began) * 1e9))
            span.end()

    def _tell(self, span: Span, account: Account) -> None:
        operation, task, code = OPERATIONS.get(account.route), account.task, account.code
        span.update_name(f"{operation} {task}" if operation and task else f"{account.method} {account.route}")
        span.set_attributes(_present(_http(account)))
        if operation is not None:
            span.set_attributes(_present(_generative(account, operation, self._base)))
        if account.status >= 500 or (code is not None and account.status < 400):
            span.set_status(StatusCode.ERROR)

    def close(self) -> None:
        """Sends what is left, for a few seconds at most; OpenTelemetry itself would wait for half a minute."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(LAST_SPANS_SECONDS)


def _resource(version: str) -> Resource:
    """What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, and our name where they say none."""
    found = Resource.create()
    unnamed = str(found.attributes["service.name"]).startswith("unknown_service")
    return found.merge(Resource({"service.version": version} | ({"service.name": PROVIDER} if unnamed else {})))


def _present(attributes: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if value is not None}


def _http(account: Account) -> dict[str, AttributeValue | None]:
    address, port = account.server or (None, None)
    return {
        "http.request.method": account.method,
        "http.route": account.route,
        "http.response.status_code": account.status or None,
        "url.scheme": account.scheme,
        "server.address": address,
        "server.port": port,
        "error.type": account.code or (str(account.status) if account.status >= 500 else None),
        "softprompt.request_id": account.request_id,
    }


def _generative(account: Account, operation: str, base: str) -> dict[str, AttributeValue | None]:
    first = None if account.first is None else account.first - account.began
    read, told = account.items > 0, account.completion_tokens
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": account.task,
        "gen_ai.request.stream": account.streamed or None,
        "gen_ai.response.model": base,
        "gen_ai.response.finish_reasons": sorted(account.reasons.elements())[:MOST_REASONS] or None,
        "gen_ai.response.time_to_first_chunk": first if account.streamed else None,
        "gen_ai.prompt.name": account.task if account.version is not None else None,
        "gen_ai.prompt.version": None if account.version is None else str(account.version),
        "gen_ai.usage.input_tokens": account.prompt_tokens if read else None,
        "gen_ai.usage.cache_read.input_tokens": account.cached_tokens if read else None,
        "gen_ai.usage.output_tokens": told if read or told else None,
        "softprompt.soft_tokens": account.soft_tokens if read else None,
        "softprompt.items": account.items if account.items > 1 else None,
        "softprompt.queue_seconds": account.queued,
    }
