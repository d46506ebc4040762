"""A disk that takes a second for each flush: only those wait who change something (row D8)."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from prompt_store.store import Store
from tests.faults.servers import traced
from tests.prompt_store.make import text_task
from tests.server.site import until
from tests.tools import tool

FLUSH_SECONDS = 1.0
SLOW = f"fsync:delay_enter={FLUSH_SECONDS * 1e6:.0f}"
UPLOADS = 12
"""More than may be at work at once."""
STORE_SECONDS = 2.5


def test_d8_a_slow_disk_keeps_nobody_waiting_who_only_reads(base_folder: Path, tmp_path: Path) -> None:
    """/livez stays under 100 ms, nine times of ten, and requests run; uploads end in time, and what goes on is kept."""
    tool("strace")
    store = Store.open(str(tmp_path / "store"))
    store.publish("known", text_task("play {input}"), verified=False, op_id="known")
    variables = {"SOFTPROMPT_STORE_SECONDS": str(STORE_SECONDS)}
    with (
        traced(base_folder, tmp_path / "store", tmp_path / "trace", SLOW, **variables) as (process, client),
        httpx.Client(base_url=process.url, timeout=60, trust_env=False) as uploading,  # one: to make it takes this core
        ThreadPoolExecutor(UPLOADS) as pool,
    ):
        ask = {"task": "known", "inputs": "x", "parameters": {"max_new_tokens": 1}}
        assert client.post("/generate", json=ask).status_code == 200

        def upload(number: int) -> tuple[httpx.Response, float]:
            began = time.monotonic()
            answer = uploading.put(
                f"/tasks/new{number}",
                json={"template": f"{number} {{input}}"},
                headers={"idempotency-key": f"up{number}"},
            )
            return answer, time.monotonic() - began

        uploads = [pool.submit(upload, number) for number in range(UPLOADS)]
        waits: list[float] = []
        while not all(each.done() for each in uploads):
            began = time.monotonic()
            assert client.get("/livez").status_code == 200
            waits.append(time.monotonic() - began)
            assert client.post("/generate", json=ask).status_code == 200
        for each in uploads:
            answer, seconds = each.result()
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "outcome_unknown")
            assert answer.headers["x-operation-id"].startswith("up")
            assert seconds < STORE_SECONDS + 1
        assert sorted(waits)[len(waits) * 9 // 10] < 0.1
        assert max(waits) < FLUSH_SECONDS / 2  # on cores that others use, under strace, which stops at every call
        assert len(waits) > 20

        until(lambda: client.get("/tasks/new0").status_code == 200, "what went on was kept", 60)
    assert store.versions("new0")[0].op_id == "up0"
