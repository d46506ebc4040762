"""Servers that share a store, and a store that is put back under one: rows R1, R2, R5-R7 and C11."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from prompt_store.bucket import BucketObjects
from prompt_store.store import Store
from tests.faults.sites import FAST, PROMISED, asked, behind, code, ready, version
from tests.prompt_store.make import ONE
from tests.s3 import Proxy, always, credentials
from tests.server.site import Site, until
from tests.server.site import site as running

WRITES = 25


def test_r2_two_servers_that_start_together_both_come_up(proxies: list[Proxy], s3_store: str, s3_port: int) -> None:
    """A packaged task is another server's just when this one is about to make it: it is there, that is all."""
    taken: list[str] = []

    def rival(method: str, path: str) -> None:
        if method == "PUT" and "/tasks/" in path and not taken:
            taken.append(path.split("/tasks/")[1].split("%21", maxsplit=1)[0])
            Store(direct).publish(taken[0], ONE, verified=False, op_id="rival")

    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials(f"http://127.0.0.1:{s3_port}").items():
            patch.setenv(name, value)
        direct = BucketObjects(s3_store, 10)
    proxies[0].rule = rival
    with behind(proxies[0], None, s3_store, bucket_seconds=10) as site:
        assert ready(site) == "ok"
        names = {task["id"] for task in site.http.get("/tasks").json()["data"]}
        assert set(taken) < names
        assert site.http.get(f"/tasks/{taken[0]}").json()["digest"] == ONE.digest


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
            while answer.status_code == 503:  # the bucket was too busy to say: the same operation again
                assert code(answer) == "503 outcome_unknown"
                answer = calls[number % 5]()
            assert answer.status_code in {200, 201, 204, 404}, answer.text
            return int(answer.json()["version"]) if answer.status_code == 201 else None

        one.publish("a", "first {text}")
        with ThreadPoolExecutor(16) as pool:
            made = [version for version in pool.map(act, range(WRITES)) if version is not None]
        assert len(made) == len(set(made)), "no version has two owners"
    history = Store.open(str(store)).versions("a")[::-1]
    assert [task.version for task in history] == list(range(1, len(history) + 1))
    assert set(made) <= {task.version for task in history}
    keys = [task.op_id for task in history[1:]]
    assert len(keys) == len(set(keys))
    published = {task.op_id for task in history}
    assert len(made) >= WRITES * 2 // 5
    assert published >= {f"op-{number}" for number in range(WRITES) if number % 5 < 2}, "every publish made its version"
