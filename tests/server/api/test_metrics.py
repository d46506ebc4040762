"""/metrics as Prometheus reads it, after requests whose counts are known."""

import re
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.engine.settings import Counters, Snapshot
from server.heap import TIDY_SECONDS
from server.metrics import OTHER, Meter
from tests.checkout import text
from tests.server.site import Site, until
from tests.server.site import site as running

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(http: httpx.Client) -> Samples:
    answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float:
    return found.get((f"softprompt_{name}", tuple(sorted(labels.items()))), 0.0)


def test_what_was_asked_is_counted_by_task(base_folder: Path) -> None:
    """Tokens as the answers' usage says, choices by why they ended, times once for each request."""
    with running(base_folder, "memory://") as site:
        site.publish("counted", "{input}", soft=4)
        site.http.get("/metrics")
        usages = [site.generate("play some jazz", "counted", max_new_tokens=5, n=2, ignore_eos=True)["usage"]]
        body = {"model": "base:counted", "prompt": "a", "max_tokens": 3, "stream": True, "ignore_eos": True}
        site.http.post("/v1/completions", json=body)
        site.http.post("/generate_stream", json={"inputs": "bare", "parameters": {"max_new_tokens": 1}})
        site.http.post("/classify", json={"inputs": "x", "labels": ["a", "b"]})
        site.http.post("/generate", json={"inputs": "x", "task": "nobody"})
        site.http.get("/a/path/of/a/client")
        found = scraped(site.http)
    assert of(found, "generation_tokens_total", task="counted") == usages[0]["completion_tokens"] + 3 == 13
    assert of(found, "soft_tokens_total", task="counted") == 8
    assert of(found, "prompt_tokens_total", task="counted") == usages[0]["prompt_tokens"] + 2
    assert of(found, "request_success_total", task="counted", finished_reason="length") == 3
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time", "time_per_output_token"):
        assert of(found, f"{name}_seconds_count", task="counted") == 2
        assert 0 <= of(found, f"{name}_seconds_sum", task="counted") < 60
    assert of(found, "time_per_output_token_seconds_count", task="base") == 0, "one token has nothing between"
    assert of(found, "time_to_first_token_seconds_count", task="base") == 1
    assert of(found, "request_classified_total", task="base") == 1
    assert of(found, "request_failed_total", code="task_not_found") == 1
    assert of(found, "prompt_load_seconds_count") <= 1
    assert of(found, "http_requests_total", method="POST", route="/generate", status="200") == 1
    assert of(found, "http_requests_total", method="POST", route="/generate", status="404") == 1
    assert of(found, "http_requests_total", method="GET", route="none", status="404") == 1
    assert of(found, "num_requests_running") == of(found, "num_requests_waiting") == 0
    assert of(found, "resident_prompts") == 1
    assert of(found, "cache_bytes", cache="prompts") > 0
    assert "client" not in str(found)


def test_who_leaves_is_counted_with_what_was_made_for_it(base_folder: Path) -> None:
    """As cancelled, its tokens as everybody's: what the engine made is what is counted."""
    with running(base_folder, "memory://") as site:
        site.publish("left", "{input}", soft=4)
        body = {"task": "left", "inputs": "x", "parameters": {"max_new_tokens": 200, "ignore_eos": True}}
        with site.http.stream("POST", "/generate_stream", json=body) as answer:
            next(answer.iter_lines())
        cancelled = ("request_cancelled_total", "left")
        until(lambda: of(scraped(site.http), cancelled[0], task=cancelled[1]) == 1, "it was noticed")
        found = scraped(site.http)
        made = site.snapshot().counters.generated
    assert 1 <= of(found, "generation_tokens_total", task="left") <= made < 200
    assert of(found, "soft_tokens_total", task="left") == 4
    assert of(found, "prompt_tokens_total", task="left") > 0
    assert of(found, "request_success_total", task="left", finished_reason="length") == 0


def test_the_loop_keeps_no_task_of_what_is_over(site: Site) -> None:
    """Of answers that were heard and of those that were left."""
    before = of(scraped(site.http), "event_loop_tasks")
    assert before >= 1
    for _ in range(5):
        site.generate("x", max_new_tokens=2)
        with site.http.stream("POST", "/generate_stream", json={"inputs": "x"}) as answer:
            next(answer.iter_lines())
    until(lambda: of(scraped(site.http), "event_loop_tasks") <= before, "they have ended")


def test_memory_goes_back_soon_after_the_last_work(base_folder: Path) -> None:
    """Long before the minute is over after which it goes back anyway."""
    with running(base_folder, "memory://") as site:
        site.generate("play some jazz", max_new_tokens=4)
        until(lambda: of(scraped(site.http), "memory_given_back_total") > 0, "it went back", TIDY_SECONDS / 2)


def test_tasks_beyond_a_bound_share_a_label(base_folder: Path) -> None:
    """However many there are."""
    with running(base_folder, "memory://", metrics_tasks=2) as site:
        for number in range(4):
            site.publish(f"many{number}", "{input}")
            site.generate("x", f"many{number}", max_new_tokens=1)
        found = scraped(site.http)
    named = {dict(labels)["task"] for name, labels in found if name == "softprompt_e2e_request_latency_seconds_count"}
    assert named == {"many0", "many1", OTHER}
    assert of(found, "generation_tokens_total", task=OTHER) == 2


def test_every_metric_is_named_as_prometheus_wants(site: Site) -> None:
    """One prefix, units at the end, help for each."""
    families = list(text_string_to_metric_families(site.http.get("/metrics").text))
    assert len(families) > 15
    for family in families:
        assert re.fullmatch(r"(softprompt|process)(_[a-z0-9]+)*", family.name)
        assert family.documentation
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


@pytest.mark.parametrize("most", [0, 1])
def test_a_scrape_asks_the_engine_and_nothing_before(most: int) -> None:
    """Its state is as it is at that moment."""
    asked: list[int] = []

    def snapshot() -> Snapshot:
        asked.append(1)
        return Snapshot(len(asked), 0, 0, 4, 0, 0, 0, 0, Counters())

    meter = Meter(snapshot, {"version": "1"}, most)
    assert asked == []
    meter.first_token("a", 0.1)
    assert f'task="{"a" if most else OTHER}"'.encode() in meter.text()
    assert b"softprompt_num_requests_running 2.0" in meter.text()


@pytest.mark.skipif(sys.platform != "linux", reason="the metrics of a process are read from /proc")
def test_every_metric_is_documented(base_folder: Path, tmp_path: Path) -> None:
    """docs/metrics.md has a row for each, with its labels."""
    found = {}
    with running(base_folder, "memory://", jobs=str(tmp_path)) as site:
        site.generate("x", max_new_tokens=2)
        site.http.post("/classify", json={"inputs": "x", "labels": ["a", "b"]})
        told = site.http.get("/metrics").text
    for family in text_string_to_metric_families(told):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name.replace("_info_info", "_info")] = family
    lines = re.findall(
        r"^\| `((?:softprompt|process)_[a-z0-9_]+)` \| ([a-z_, ]*)\|", text(Path("docs/metrics.md")), re.MULTILINE
    )
    assert [name for name, _ in lines if name not in found] == []
    assert {name for name, _ in lines} == set(found)
    for name, labels in lines:
        seen = {label for sample in found[name].samples for label in sample.labels} - {"le"}
        assert not seen or seen == {label.strip() for label in labels.split(",") if label.strip()}, name


def test_jobs_are_counted_by_status(base_folder: Path, tmp_path: Path) -> None:
    """Each status has its number, zero too; a server that learns nothing has none."""
    with running(base_folder, "memory://", jobs=str(tmp_path)) as site:
        found = scraped(site.http)
    counts = {dict(labels)["status"]: value for (name, labels), value in found.items() if name == "softprompt_jobs"}
    assert counts == dict.fromkeys(["validating_files", "queued", "running", "succeeded", "failed", "cancelled"], 0.0)
    with running(base_folder, "memory://") as site:
        assert "softprompt_jobs" not in site.http.get("/metrics").text
