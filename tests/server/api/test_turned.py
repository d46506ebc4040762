"""What is counted and logged of whoever is turned away by the bytes of a request."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.telemetry import MOST
from tests.server.api.test_admission import ADMIN, ONE, Crowd, ask, held, waiting
from tests.server.api.test_turnstile import BODIES, KEY, given
from tests.server.site import Site, asking, connect, read_answer, status, until
from tests.server.site import site as running


def test_every_refusal_is_counted_and_logged_under_its_route(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """As the routes' own are."""
    site, _ = full
    with capture_logs() as lines, connect(site.url) as connection:
        connection.sendall(asking("/generate", BODIES["/generate"], KEY, "X-Request-Id: seen"))
        assert status(read_answer(connection)) == 429
    metrics = site.http.get("/metrics", headers=given(ONE)).text
    counted = 'softprompt_http_requests_total{method="POST",route="/generate",status="429"}'
    assert float(metrics.partition(counted)[2].split()[0]) == 2
    assert float(metrics.partition('softprompt_request_failed_total{code="too_many_requests"}')[2].split()[0]) == 2
    (line,) = [line for line in lines if line.get("request_id") == "seen"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/generate", 429)
    assert line["code"] == "too_many_requests"


def test_a_crowd_leaves_few_lines_and_a_number(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """A disk is not filled by who is refused; the metrics count them all."""
    crowd = 3 * MOST
    with capture_logs() as lines, connect(full[0].url) as connection:
        connection.sendall(asking("/generate", BODIES["/generate"], KEY) * crowd)
        until(lambda: any(line["event"] == "requests" for line in lines), "the others are summed up")
    refused = [line for line in lines if line.get("status") == 429]
    assert sum(line.get("count", 1) for line in refused) == crowd
    assert len(refused) < crowd


def test_a_crowd_takes_nobody_elses_line(full: tuple[Site, ThreadPoolExecutor]) -> None:
    """Of another key."""
    site, pool = full
    Crowd(site, pool).until_refused(ADMIN, task="a")
    with capture_logs() as lines, connect(site.url) as connection:
        connection.sendall(asking("/generate", BODIES["/generate"], KEY) * (2 * MOST))
        named = ("X-Request-Id: own", f"Authorization: Bearer {ADMIN}")
        connection.sendall(asking("/generate", BODIES["/generate"], *named))
        until(lambda: any(line.get("request_id") == "own" for line in lines), "the other key's has its line")


def test_a_crowd_at_the_end_of_a_server_is_told_as_well(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its time is over: nothing comes after the end that would sum it up."""
    crowd = 3 * MOST
    monkeypatch.setattr("server.telemetry.WINDOW", 3600.0)
    with (
        capture_logs() as lines,
        running(base_folder, "memory://", max_batch=1, max_waiting=1) as site,
        ThreadPoolExecutor(2) as pool,
        held(site),
        connect(site.url) as connection,
    ):
        pool.submit(ask, site)
        until(lambda: site.snapshot().running == 1, "one runs")
        pool.submit(ask, site)
        until(lambda: waiting(site) == 1, "one waits")
        connection.sendall(asking("/generate", {"inputs": "x"}) * crowd)
        received = b""
        while received.count(b"HTTP/1.1 503") < crowd:
            received += connection.recv(65536)
    refused = [line for line in lines if line.get("status") == 503]
    assert sum(line.get("count", 1) for line in refused) == crowd
    assert len(refused) == MOST + 1
