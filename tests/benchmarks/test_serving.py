"""The parts that ask a real server over HTTP, tiny: nothing dropped, nothing stale, all tokens that were asked for."""

from typing import Any

import pytest

from benchmarks import serving
from benchmarks.__main__ import arguments
from benchmarks.measure import PARTS, measure
from benchmarks.order import Order
from benchmarks.workload import TINY
from prompt_store.metadata import KINDS
from tests.checkout import ROOT
from tests.forked import Forked, Start


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is ready sooner than one made anew; one of these tests starts it as `make bench` does."""
    monkeypatch.setattr(
        serving, "begun", lambda arguments, environment: Forked(Start(arguments, environment, folder=ROOT))
    )


def measured(part: str, *words: str) -> list[dict[str, Any]]:
    launches = PARTS[part].launches(arguments([part, "--tiny", "--threads", "1", *words]), 0)
    return [{"label": launch.label, **measure(Order.from_json(launch.argument))} for launch in launches]


def test_swaps_under_load_drop_nothing() -> None:
    """Every answer comes whole and of a version no older than the one acknowledged before it was asked for."""
    runs = measured("freshness")
    (run,) = runs
    assert {kind: len(seconds) for kind, seconds in run["publish_to_first_token"].items()} == dict.fromkeys(KINDS, 3)
    assert 0 < run["start_to_ready"] < run["start_to_first_answer"]
    for name in ("calm", "swapping"):
        load = run[name]
        assert (load["answers"], load["dropped"], load["stale"]) == (64, 0, 0)
        assert load["tokens"] == 64 * TINY.new_tokens
    assert run["calm"]["swaps"] == 0 < run["swapping"]["swaps"]
    assert PARTS["freshness"].notes(runs)["under swaps: dropped"] == 0
    start, published, _ = PARTS["freshness"].charts(runs)
    assert start.columns == ("ready", "first answer")
    assert tuple(published.rows) == KINDS


def test_http_is_compared_with_the_library() -> None:
    """Both sides answer the same requests, and either way over HTTP has a share of the library's rate."""
    runs = measured("http", "--concurrency", "2")
    chart, client = PARTS["http"].charts(runs)
    assert [line["2"].ratio is None for line in chart.rows.values()] == [True, False, False]
    assert chart.columns == client.columns == ("2",)
    assert all(0 < line["2"].best < 1 for line in client.rows.values())


def test_a_job_is_measured_beside_those_who_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are answered with and without it, it moves, and memory is seen."""
    monkeypatch.undo()
    runs = measured("jobs")
    latencies, memory, steps = PARTS["jobs"].charts(runs)
    assert len(runs[0]["calm"]) == len(runs[0]["learning"]) == 8
    assert all(cell.best > 0 for chart in (latencies, memory) for line in chart.rows.values() for cell in line.values())
    assert steps.rows["learning alone"]["steps"].best > 0


def test_a_store_is_asked_as_a_large_one_would_be() -> None:
    """Every call has its figure, those that remember something a second one, and gc finds what it was left."""
    runs = measured("store")
    calls, seconds = PARTS["store"].charts(runs)
    assert all(cell.best > 0 for line in calls.rows.values() for cell in line.values())
    assert {name for name, line in calls.rows.items() if "again" in line} == {
        name for name in calls.rows if name.startswith(("100 tasks", "one task"))
    }
    assert "gc, 2 files out of it" in seconds.rows
    assert seconds.columns == ("200",)


def test_an_overload_is_refused_and_the_quiet_key_answered() -> None:
    """More comes than is answered, every refusal says when to come back, and the third key is never refused."""
    runs = measured("overload", "--times", "2")
    (run,) = runs
    for one in run["floods"]:
        assert set(one["flood"]["statuses"]) <= {"200", "429", "503"}
        assert one["flood"]["without_patience"] == 0
        assert set(one["quiet"]["statuses"]) == {"200"}
    goodput, kept, _, quiet, _, cores = PARTS["overload"].charts(runs)
    assert list(goodput.rows) == ["at the busiest", "flooded by one key", "flooded by two keys"]
    assert [one["by"] for one in run["floods"]] == ["one key", "two keys"]
    assert len(run["peaks"]) == 3
    assert kept.rows["flooded by one key"]["goodput"].least > 0
    assert "alone" in quiet.rows
    assert all(line["the engine's"].best > line["the clients'"].best > 0 for line in cores.rows.values())


def test_slow_clients_are_beside_good_ones_over_either_parser() -> None:
    """All good ones and all probes are answered, with the crowd there and without."""
    runs = measured("slow")
    assert [run["parser"] for run in runs] == ["httptools", "h11"]
    assert all(set(run[phase]["statuses"]) == {"200"} for run in runs for phase in ("alone", "beside"))
    for chart in PARTS["slow"].charts(runs):
        assert chart.columns == ("p50", "p99", "max")
        ratios = [line["p99"].ratio for line in chart.rows.values()]
        assert [ratio is None for ratio in ratios] == [True, False, True, False]
