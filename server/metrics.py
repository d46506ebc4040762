"""What Prometheus is told, with the meanings of vLLM's metrics under names of our own.

Knows numbers and their labels, and asks the engine for a snapshot when it is scraped; no requests, no HTTP.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.engine.settings import Snapshot

disable_created_metrics()  # type: ignore[no-untyped-call]  # when a series began is no news, and would double them

OTHER = "other"
"""The label of all tasks beyond the first `most`: a series for each of thousands would be thousands of series."""
TOKEN = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
WAIT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
WHOLE = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds: a token, what people wait for, and a whole answer, which may be long."""


class Meter:
    """All of one server. `most`: tasks with a label of their own, first come."""

    def __init__(self, snapshot: Callable[[], Snapshot], about: dict[str, str], most: int) -> None:
        self._registry = registry = CollectorRegistry()
        self._named: set[str] = set()
        self._most = most
        registry.register(_Engine(snapshot))
        ProcessCollector(registry=registry)  # Linux alone has what it reads; its names are those of every process
        Info("softprompt", "What is served", registry=registry).info(about)
        task = ("task",)
        self._first = _histogram("time_to_first_token", "From the request to its first token", WAIT, task, registry)
        self._between = _histogram("time_per_output_token", "Between tokens, mean of a request", TOKEN, task, registry)
        self._whole = _histogram("e2e_request_latency", "From the request to its last token", WHOLE, task, registry)
        self._queue = _histogram("request_queue_time", "From the queue to the batch", WAIT, task, registry)
        self._load = _histogram("prompt_load", "Reading a version's soft prompt from the store", WAIT, (), registry)
        self._prompt = _counter("prompt_tokens", "Text ids of prompts, BOS included", task, registry)
        self._soft = _counter("soft_tokens", "Pseudo-tokens in front of or among them", task, registry)
        self._cached = _counter("cached_tokens", "Text ids whose keys and values were there already", task, registry)
        self._generated = _counter("generation_tokens", "Ids generated", task, registry)
        self._success = _counter("request_success", "Choices by why they ended", ("task", "finished_reason"), registry)
        self._cancelled = _counter("request_cancelled", "Generations whose client left", task, registry)
        self._scored = _counter("request_classified", "Classifications", task, registry)
        self._failed = _counter("request_failed", "Questions by the error's code", ("code",), registry)
        self._unloaded = _counter("prompt_load_failed", "Soft prompts that could not be read", ("code",), registry)
        self._quarantined = _counter(
            "prompt_quarantined", "Versions refused because they give no numbers", (), registry
        )
        self._back = _counter("store_went_back", "Answers of the store that are older than one before", (), registry)
        self._tidied = _counter("memory_given_back", "Times that free memory went back to the system", (), registry)
        self._http = _counter("http_requests", "By route, not by path", ("method", "route", "status"), registry)

    def watch_jobs(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """`counts`, asked at each scrape, says how many jobs there are of each status."""
        self._registry.register(_Jobs(counts))

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def _label(self, task: str) -> str:
        if task not in self._named and len(self._named) < self._most:
            self._named.add(task)
        return task if task in self._named else OTHER

    def first_token(self, task: str, seconds: float) -> None:
        self._first.labels(self._label(task)).observe(seconds)

    def ended(self, task: str, seconds: float, queued: float, between: float | None, reasons: Iterator[str]) -> None:
        """A generation. `between`: seconds between two tokens of its first choice, None where there are not two."""
        label = self._label(task)
        self._whole.labels(label).observe(seconds)
        self._queue.labels(label).observe(queued)
        if between is not None:
            self._between.labels(label).observe(between)
        for reason in reasons:
            self._success.labels(label, reason).inc()

    def tokens(self, task: str, prompt: int, soft: int, cached: int, generated: int) -> None:
        label = self._label(task)
        for counter, count in (
            (self._prompt, prompt),
            (self._soft, soft),
            (self._cached, cached),
            (self._generated, generated),
        ):
            counter.labels(label).inc(count)

    def classified(self, task: str) -> None:
        self._scored.labels(self._label(task)).inc()

    def cancelled(self, task: str) -> None:
        self._cancelled.labels(self._label(task)).inc()

    def failed(self, code: str) -> None:
        self._failed.labels(code).inc()

    def loaded(self, seconds: float) -> None:
        self._load.observe(seconds)

    def not_loaded(self, code: str) -> None:
        self._unloaded.labels(code).inc()

    def quarantined(self) -> None:
        self._quarantined.inc()

    def went_back(self) -> None:
        self._back.inc()

    def gave_back(self) -> None:
        self._tidied.inc()

    def watch_loop(self, tasks: Callable[[], int]) -> None:
        """`tasks`, asked at each scrape, says how many the event loop has: none of a request that is over."""
        told = "Tasks of the event loop that have not ended"
        Gauge("softprompt_event_loop_tasks", told, registry=self._registry).set_function(tasks)

    def watch_store(self, down: Callable[[], bool]) -> None:
        """`down`, asked at each scrape."""
        told = "1 where the store can be reached, else 0"
        Gauge("softprompt_store_up", told, registry=self._registry).set_function(lambda: float(not down()))

    def watch_engine(self, silent: Callable[[], float]) -> None:
        """`silent`, asked at each scrape."""
        told = "How long the pass takes that the engine is in; 0 where it has nothing to do"
        Gauge("softprompt_engine_silent_seconds", told, registry=self._registry).set_function(silent)

    def answered(self, method: str, route: str, status: int) -> None:
        self._http.labels(method, route, str(status)).inc()


def _histogram(
    name: str, told: str, buckets: tuple[float, ...], labels: tuple[str, ...], into: CollectorRegistry
) -> Histogram:
    return Histogram(f"softprompt_{name}_seconds", told, labels, buckets=buckets, registry=into)


def _counter(name: str, told: str, labels: tuple[str, ...], into: CollectorRegistry) -> Counter:
    return Counter(f"softprompt_{name}", told, labels, registry=into)


class _Engine(Collector):
    """What the engine holds and has done, asked at each scrape."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked before a scrape."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        now = self._snapshot()
        for name, told, value in (
            ("num_requests_running", "Requests in the batch", now.running),
            ("num_requests_waiting", "Requests in the queue", now.waiting),
            ("waiting_tokens", "Ids that the requests in the queue may come to cost", now.waiting_tokens),
            ("num_slots", "Requests that fit the batch", now.slots),
            ("resident_prompts", "Soft prompts in memory", now.resident_prompts),
        ):
            yield GaugeMetricFamily(f"softprompt_{name}", told, value)
        held = GaugeMetricFamily("softprompt_cache_bytes", "Memory by what it holds", labels=("cache",))
        for cache, size in (("kv", now.kv_bytes), ("prompts", now.resident_bytes), ("texts", now.text_bytes)):
            held.add_metric((cache,), size)
        yield held
        passes = CounterMetricFamily("softprompt_forward_passes", "Of the base", labels=("phase",))
        passes.add_metric(("prefill",), now.counters.prefill_forwards)
        passes.add_metric(("decode",), now.counters.decode_forwards)
        yield passes


class _Jobs(Collector):
    """How many tuning jobs the server remembers, by status."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked before a scrape."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("softprompt_jobs", "Tuning jobs by status", labels=("status",))
        for status, number in self._counts().items():
            jobs.add_metric((status,), number)
        yield jobs
