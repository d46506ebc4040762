"""A store that is not there yet, goes away under load, hangs or refuses, as clients see it: rows O1, O2, O7 and O10."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from prompt_store.errors import StoreUnsuitable
from server import reach
from tests.faults.sites import asked, behind, code, ready, version
from tests.s3 import BUCKET, Proxy, always, ask
from tests.server.site import until


def test_o1_a_server_starts_before_its_bucket(proxies: list[Proxy], s3_store: str) -> None:
    """Not ready, alive, 503 for what needs the store, the bare model served; then packaged tasks come by themselves."""
    way = proxies[0]
    way.rule = always("refuse")
    with behind(way, None, s3_store) as site:
        assert ready(site) == "503 store_unavailable"
        assert site.http.get("/livez").status_code == 200
        assert code(site.http.get("/tasks")) == "503 store_unavailable"
        assert asked(site, "base") == "200"
        way.rule = always("hang")
        assert ready(site) == "503 store_unavailable"
        way.released.set()
        way.rule = lambda _method, _path: None
        until(lambda: ready(site) == "ok", "the server is ready")
        until(lambda: len(site.http.get("/tasks").json()["data"]) > 1, "the packaged tasks are there")


def test_o1_a_bucket_that_cannot_keep_a_store_is_refused(proxies: list[Proxy], s3_store: str, s3_port: int) -> None:
    """Waiting does not help: the server ends, and says why."""
    ask(s3_port, "PUT", f"/{BUCKET}/{s3_store.rsplit('/', 1)[1]}/photo.jpg", b"x")
    with pytest.raises(StoreUnsuitable, match="not a store"), behind(proxies[0], None, s3_store):
        pass


@pytest.mark.parametrize("fault", ["refuse", "hang", 503, 403])
def test_o2_o10_a_bucket_that_goes_away_under_load(
    proxies: list[Proxy], s3_store: str, base_folder: Path, fault: Any
) -> None:
    """Known tasks are served, the unknown and uploads are 503, readiness tells, nobody storms; and it comes back."""
    way = proxies[0]
    with behind(way, base_folder, s3_store) as site, ThreadPoolExecutor(8) as pool:
        for name in ("a", "b", "c"):
            site.publish(name, f"{name} {{text}}", soft=2)
            assert version(site, name) == 1
        way.rule = always(fault)
        until(lambda: ready(site) == "degraded" or asked(site, "a") != "200", "it is seen that the store is down")
        before = len(way.asked)
        began = time.monotonic()
        answers = list(pool.map(lambda number: asked(site, "abc"[number % 3]), range(300)))
        took = time.monotonic() - began
        assert set(answers) == {"200"}
        assert len(way.asked) - before < 10 + 20 * took, "a look now and then, whatever the load"
        assert asked(site, "unknown") == "503 store_unavailable"
        refused = site.http.put("/tasks/new", json={"template": "{text}"})
        assert code(refused) == "503 store_unavailable"
        assert int(refused.headers["retry-after"]) >= 1
        until(lambda: ready(site) == "503 store_unavailable", "after its time it is no longer ready")
        assert asked(site, "a") == "200", "and answers all the same"
        assert "softprompt_store_up 0.0" in site.http.get("/metrics").text
        way.released.set()
        way.rule = lambda _method, _path: None
        until(lambda: ready(site) == "ok", "the store is found again")
        assert asked(site, "unknown") == "404 task_not_found"
        assert site.publish("a", "again {text}")["version"] == 2
        assert version(site, "a") == 2
        assert "softprompt_store_up 1.0" in site.http.get("/metrics").text


def test_o2_an_idle_server_notices_too(
    proxies: list[Proxy], s3_store: str, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks for anything but its readiness, which tells all the same."""
    monkeypatch.setattr(reach, "HEARTBEAT_SECONDS", 0.3)
    with behind(proxies[0], base_folder, s3_store) as site:
        assert ready(site) == "ok"
        proxies[0].rule = always("refuse")
        until(lambda: ready(site) == "degraded", "it is noticed")
        proxies[0].rule = lambda _method, _path: None
        until(lambda: ready(site) == "ok", "and that it is back")


def test_o7_a_store_that_may_not_be_changed_says_so(proxies: list[Proxy], s3_store: str, base_folder: Path) -> None:
    """Credentials that only read: it is ready, it serves, and an upload is told why it is refused."""
    with behind(proxies[0], base_folder, s3_store) as site:
        site.publish("a", "{text}")
        proxies[0].rule = always(403, "PUT")
        refused = site.http.put("/tasks/b", json={"template": "{text}"})
        assert code(refused) == "503 store_unavailable"
        assert "may not be changed" in refused.json()["error"]["message"]
        assert (version(site, "a"), ready(site)) == (1, "ok")


def test_o2_a_store_that_hangs_leaves_other_work_alone(proxies: list[Proxy], s3_store: str, base_folder: Path) -> None:
    """More questions than there are threads, all without an answer: what is known is still served at once."""
    way = proxies[0]
    with behind(way, base_folder, s3_store, bucket_seconds=5) as site, ThreadPoolExecutor(100) as pool:
        site.publish("a", "{text}", soft=2)
        version(site, "a")
        way.rule = always("hang")
        lost = [pool.submit(site.http.get, f"/tasks/unknown-{number}") for number in range(80)]
        until(lambda: len(way.asked) > 30, "the questions hang")
        first = time.monotonic()
        assert version(site, "a") == 1
        assert time.monotonic() - first < 4, "one waits for a moment"
        second = time.monotonic()
        for _ in range(20):
            assert version(site, "a") == 1
        assert time.monotonic() - second < 2, "the others do not"
        way.released.set()
        assert {code(answer.result()) for answer in lost} <= {"503 store_unavailable", "404 task_not_found"}
