"""Servers that share a store, and stores that go away: rows R1-R7 and, seen from a client, O1, O2, O10 and C11.

Every server has a proxy of its own before the one bucket, so that one of them can be cut off and another not.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from prompt_store.errors import StoreUnsuitable
from prompt_store.store import Store
from server import reach
from tests.s3 import BUCKET, Proxy, always, ask, credentials
from tests.server.site import Site, until
from tests.server.site import site as running

FAST: dict[str, Any] = {"bucket_seconds": 0.4, "freshness_seconds": 0.2, "staleness_seconds": 1.0}
PROMISED = 1.5
"""Seconds within which a version of one server is served by another: freshness and a question, on a busy machine."""


@contextmanager
def behind(proxy: Proxy, base: Path | None, store: str, **settings: Any) -> Iterator[Site]:
    """A server whose way to the bucket is that proxy."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials(proxy.url).items():
            patch.setenv(name, value)
        with running(base, store, **{**FAST, **settings}) as found:
            yield found


@pytest.fixture
def proxies(s3_port: int) -> Iterator[list[Proxy]]:
    """Two ways to the bucket."""
    with Proxy(s3_port).running() as one, Proxy(s3_port).running() as two:
        yield [one, two]


def code(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.json()['error']['code']}" if answer.is_error else str(answer.status_code)


def generate(site: Site, task: str, **fields: Any) -> httpx.Response:
    body = {"task": task, "inputs": "x", "parameters": {"max_new_tokens": 1}, **fields}
    return site.http.post("/generate", json=body)


def asked(site: Site, task: str) -> str:
    return code(generate(site, task))


def version(site: Site, task: str, **fields: Any) -> int:
    found: int = generate(site, task, **fields).raise_for_status().json()["version"]
    return found


def ready(site: Site) -> str:
    answer = site.http.get("/readyz")
    return code(answer) if answer.is_error else str(answer.json()["status"])


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


@pytest.mark.parametrize("place", ["s3", "local"])
def test_r5_a_version_of_one_server_is_served_by_another(
    place: str, s3_store: str, s3_port: int, base_folder: Path, tmp_path: Path
) -> None:
    """Within the promised time without being asked for, at once when it is; a tombstone too, and who comes back."""
    store = s3_store if place == "s3" else tmp_path / "store"
    late: list[float] = []
    with running(base_folder, store, **FAST) as one, running(base_folder, store, **FAST) as two:
        one.publish("a", "0 {text}")
        assert version(two, "a") == 1
        for number in range(2, 12):
            assert one.publish("a", f"{number} {{text}}")["version"] == number
            if number % 2:
                assert version(two, "a", min_version=number) == number, "read your writes"
            else:
                began = time.monotonic()
                until(lambda wanted=number: version(two, "a") == wanted, "it is served")  # type: ignore[misc]
                late.append(time.monotonic() - began)
        one.http.delete("/tasks/a").raise_for_status()
        until(lambda: asked(two, "a") == "404 task_not_found", "the tombstone is seen")
        assert one.http.post("/tasks/a/rollback", json={"version": 3}).json()["version"] == 13
        assert version(two, "a", min_version=13) == 13
    assert max(late) < PROMISED


def test_r6_a_server_that_is_cut_off_serves_what_it_knows_and_catches_up(
    proxies: list[Proxy], s3_store: str, base_folder: Path
) -> None:
    """One of two loses its way: no older version after a newer one, nothing acknowledged that is not there."""
    with behind(proxies[0], base_folder, s3_store) as one, behind(proxies[1], base_folder, s3_store) as two:
        one.publish("a", "1 {text}")
        assert version(two, "a") == 1
        proxies[1].rule = always("refuse")
        one.publish("a", "2 {text}")
        assert version(two, "a") == 1
        until(lambda: ready(two) == "degraded", "it says so")
        assert ready(one) == "ok"
        assert code(two.http.put("/tasks/a", json={"template": "other {text}"})) == "503 store_unavailable"
        until(lambda: ready(two) == "503 store_unavailable", "after its time it is not ready")
        proxies[1].rule = lambda _method, _path: None
        until(lambda: version(two, "a") == 2, "it catches up")
        assert ready(two) == "ok"
        assert [item["version"] for item in one.http.get("/tasks/a/versions").json()["data"]] == [2, 1]


def test_r7_a_way_that_only_leads_there(proxies: list[Proxy], s3_store: str, base_folder: Path) -> None:
    """Requests arrive, answers do not: nothing is acknowledged, and the same operation again is made exactly once."""
    with behind(proxies[0], base_folder, s3_store) as one, behind(proxies[1], base_folder, s3_store) as two:
        one.publish("a", "1 {text}")
        assert version(two, "a") == 1
        proxies[1].rule = always("lose")
        answer = two.http.put("/tasks/a", json={"template": "2 {text}"}, headers={"Idempotency-Key": "mine"})
        assert code(answer) in {"503 outcome_unknown", "503 store_unavailable"}
        one.publish("a", "3 {text}")
        proxies[1].rule = lambda _method, _path: None
        until(lambda: ready(two) == "ok", "the way is there again")
        again = two.http.put("/tasks/a", json={"template": "2 {text}"}, headers={"Idempotency-Key": "mine"})
        assert again.status_code in {200, 201}
        history = one.http.get("/tasks/a/versions").json()["data"]
        made = [item["digest"] for item in history]
        assert made.count(again.json()["digest"]) == 1
        newest = history[0]["version"]
        until(lambda: version(two, "a") == newest, "both agree")
        assert version(one, "a", min_version=newest) == newest


def test_c11_an_older_backup_is_not_believed(base_folder: Path, tmp_path: Path) -> None:
    """Versions go back under a running server: it goes on with what it knows, and alarms. A restart believes it."""
    root = tmp_path / "store"
    with running(base_folder, root, **FAST) as site:
        site.publish("a", "1 {text}")
        shutil.copytree(root, tmp_path / "backup")
        site.publish("a", "2 {text}")
        site.publish("b", "1 {text}")
        assert (version(site, "a"), version(site, "b")) == (2, 1)
        for name in ("tasks", "blobs"):
            shutil.rmtree(root / name)
            shutil.copytree(tmp_path / "backup" / name, root / name)
        until(lambda: counted(site) >= 2, "the alarm is raised")
        assert (version(site, "a"), version(site, "b")) == (2, 1)
    with running(base_folder, root, **FAST) as site:
        assert version(site, "a") == 1
        assert asked(site, "b") == "404 task_not_found"


def counted(site: Site) -> float:
    """Alarms so far; each look asks for both tasks."""
    version(site, "a")
    version(site, "b")
    lines = site.http.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("softprompt_store_went_back_total")))


@pytest.mark.parametrize("place", ["s3", "local"])
def test_r1_r2_writers_on_two_servers_make_one_history(
    place: str, s3_store: str, base_folder: Path, tmp_path: Path
) -> None:
    """Publish, patch, delete and roll back from everywhere: each 201 is one version of its own, none is lost."""
    store = s3_store if place == "s3" else tmp_path / "store"
    patient = {**FAST, "bucket_seconds": 10}
    with running(base_folder, store, **patient) as one, running(base_folder, store, **patient) as two:
        sites = (one, two)

        def act(number: int) -> int | None:
            http = sites[number % 2].http
            key = {"Idempotency-Key": f"op-{number}"}
            calls: list[Callable[[], httpx.Response]] = [
                lambda: http.put("/tasks/a", json={"template": f"{number} {{text}}"}, headers=key),
                lambda: http.put("/tasks/a", json={"template": f"{number} {{text}}"}, headers=key),
                lambda: http.patch("/tasks/a", json={"description": f"{number}"}, headers=key),
                lambda: http.post("/tasks/a/rollback", json={"version": 1}, headers=key),
                lambda: http.delete("/tasks/a", headers=key),
            ]
            answer = calls[number % 5]()
            assert answer.status_code in {200, 201, 204, 404}, answer.text
            return int(answer.json()["version"]) if answer.status_code == 201 else None

        one.publish("a", "first {text}")
        with ThreadPoolExecutor(16) as pool:
            made = [version for version in pool.map(act, range(40)) if version is not None]
        assert len(made) == len(set(made)), "no version has two owners"
    history = Store.open(str(store)).versions("a")[::-1]
    assert [task.version for task in history] == list(range(1, len(history) + 1))
    assert set(made) <= {task.version for task in history}
    keys = [task.op_id for task in history[1:]]
    assert len(keys) == len(set(keys))
    published = {task.op_id for task in history}
    assert len(made) >= 16
    assert published >= {f"op-{number}" for number in range(40) if number % 5 < 2}, "every publish made its version"
