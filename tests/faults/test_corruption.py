"""Files damaged, lost or exchanged behind the server's back: one task stops, none is served wrong (rows C).

What the store alone makes of them is in tests/prompt_store/test_corruption.py.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from prompt_store.base import damaged, write_sums
from prompt_store.errors import Corrupt
from prompt_store.prompt import PromptFile
from prompt_store.store import Store
from tests.e2e.process import Process, serving
from tests.prompt_store.make import ONE, TWO, put
from tests.server.site import Site, embeddings, until
from tests.server.site import site as running

FILE, OTHER = (embeddings(None, "play {text}", 3, seed=seed) for seed in (1, 2))
READS = 300


def code(site: Site, task: str) -> str:
    answer = site.http.post("/generate", json={"task": task, "inputs": "x", "parameters": {"max_new_tokens": 1}})
    return f"{answer.status_code} {answer.json()['error']['code']}" if answer.is_error else str(answer.status_code)


def blob(store: Path, file: PromptFile) -> Path:
    return store / "blobs" / f"{file.digest}.safetensors"


@pytest.fixture
def store(base_folder: Path, tmp_path: Path) -> Path:
    """With two tasks of a file each."""
    with running(base_folder, tmp_path / "store") as site:
        for task, file in (("hurt", FILE), ("well", OTHER)):
            assert site.http.put(f"/tasks/{task}", content=file.data).status_code == 201
    return tmp_path / "store"


def flips(path: Path) -> Iterator[int]:
    """Every byte of a file in turn, changed while its number is looked at."""
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        yield position
    path.write_bytes(whole)


def test_c1_no_flipped_byte_is_served(tmp_path: Path) -> None:
    """Each byte of a prompt file and each of its manifest, one at a time; another task is whole throughout."""
    place = tmp_path / "store"
    store = Store.open(str(place))
    task, other = put(store, "a", ONE), put(store, "b", TWO)
    for _ in flips(blob(place, ONE)):
        with pytest.raises(Corrupt):
            store.load(task)
    for _ in flips(place / "tasks" / "a!" / "00000001.json"):
        with pytest.raises(Corrupt):
            store.current("a")
    assert store.load(store.current("a")) == ONE
    assert store.load(other) == TWO


@pytest.mark.parametrize("data", [b"", FILE.data[:-1], OTHER.data], ids=["empty", "short", "another prompt"])
def test_c2_other_bytes_stop_one_task(base_folder: Path, store: Path, data: bytes) -> None:
    """Emptied, cut short, or another prompt of the same shape: 503 corrupt; the same upload again mends it."""
    blob(store, FILE).write_bytes(data)
    with running(base_folder, store) as site:
        assert code(site, "hurt") == "503 corrupt"
        assert code(site, "well") == "200"
        assert site.http.put("/tasks/hurt", content=FILE.data).status_code == 200
        assert code(site, "hurt") == "200"


def test_c3_a_lost_file_is_served_from_memory_and_missed_without(base_folder: Path, store: Path) -> None:
    """Resident: served. Not resident: 503 and counted, never 404. Whoever reads the file itself is told at once."""
    with running(base_folder, store, freshness_seconds=0) as site:
        assert code(site, "hurt") == "200"
        blob(store, FILE).unlink()
        assert code(site, "hurt") == "200"
        answer = site.http.get("/tasks/hurt/versions/1/prompt")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "corrupt")
    with running(base_folder, store) as site:
        assert code(site, "hurt") == "503 corrupt"
        assert code(site, "well") == "200"
        assert 'softprompt_prompt_load_failed_total{code="corrupt"} 1.0' in site.http.get("/metrics").text


def test_c5_the_highest_number_counts(base_folder: Path, store: Path) -> None:
    """Gaps and names of another form change nothing; a highest manifest that cannot be read stops the task."""
    folder = store / "tasks" / "hurt!"
    with running(base_folder, store, freshness_seconds=0) as site:
        for seed in (3, 4):
            site.publish("hurt", soft=2, seed=seed)
        (folder / "00000002.json").unlink()
        for name in ("4.json", "x.json", "00000009.json~", "000000010.json"):
            (folder / name).write_bytes(b"")
        assert site.generate("x", "hurt", max_new_tokens=1)["version"] == 3
        assert [row["version"] for row in site.http.get("/tasks/hurt/versions").json()["data"]] == [3, 1]
        assert site.http.get("/tasks/hurt/versions/2").status_code == 404
        shutil.copy(folder / "00000003.json", folder / "99999999.json")
        assert code(site, "hurt") == "503 corrupt"
        assert code(site, "well") == "200"


def test_c7_a_file_cut_short_while_it_is_read_is_whole_or_corrupt(tmp_path: Path) -> None:
    """Nothing is mapped: a reader gets the bytes that the digest names, or an error, and lives."""
    place = tmp_path / "store"
    store = Store.open(str(place))
    task = put(store, "a", ONE)
    stop = threading.Event()

    def meddle() -> None:
        while not stop.is_set():
            os.truncate(blob(place, ONE), 40)
            blob(place, ONE).write_bytes(ONE.data)

    meddler = threading.Thread(target=meddle)
    meddler.start()
    seen = {"whole": 0, "corrupt": 0}
    try:
        while min(seen.values()) == 0 or sum(seen.values()) < READS:
            try:
                assert store.load(task) == ONE
                seen["whole"] += 1
            except Corrupt:
                seen["corrupt"] += 1
    finally:
        stop.set()
        meddler.join()


@pytest.mark.parametrize("harm", ["short", "header"])
def test_c8_a_damaged_base_is_not_served(base_folder: Path, tmp_path: Path, harm: str) -> None:
    """Cut short or with a broken header: no start, and a line that names the file; the recorded sums find a flip."""
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    write_sums(base)
    weights = base / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] if harm == "short" else b"\xff" * 8 + whole[8:])
    process = Process("--model", str(base), "--store", "memory://")
    assert process.wait() != 0
    assert weights.name in "".join(process.other)
    middle = len(whole) // 2
    weights.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert damaged(base) == [weights.name]


def test_c9_a_base_cut_short_while_it_serves_changes_no_answer(base_folder: Path, tmp_path: Path) -> None:
    """The weights are in the process's own memory: without the file the same question has the same answer."""
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    question = {"inputs": "play", "parameters": {"max_new_tokens": 20}}
    with serving("--model", str(base), "--store", "memory://") as (_, client):
        before = client.post("/generate", json=question).json()["generated_text"]
        os.truncate(base / "model.safetensors", 0)
        shutil.rmtree(base)
        assert client.post("/generate", json=question).json()["generated_text"] == before


def test_c10_a_store_that_is_not_mounted_has_lost_nothing(base_folder: Path, store: Path) -> None:
    """An empty mount point: 503 for whatever is asked of it, nothing is written into it, and it may come back."""
    with running(base_folder, store, freshness_seconds=0) as site:
        assert code(site, "hurt") == "200"
        store.rename(store.with_name("away"))
        store.mkdir()
        assert code(site, "hurt") == "200"
        assert code(site, "unknown") == "503 store_unavailable"
        assert site.http.get("/tasks").status_code == 503
        assert site.http.put("/tasks/new", json={"template": "{text}"}).status_code == 503
        assert site.http.delete("/tasks/well").status_code == 503
        assert list(store.iterdir()) == []
        store.rmdir()
        store.with_name("away").rename(store)
        until(lambda: code(site, "unknown") == "404 task_not_found", "the store is found again")
        assert code(site, "well") == "200"


def test_c11_a_backup_under_a_running_server_is_told_and_not_gone_back_to(base_folder: Path, store: Path) -> None:
    """What was served is served on, and the log says that the store has gone back; a restart takes it as it is."""
    with running(base_folder, store, freshness_seconds=0) as site, capture_logs() as logs:
        shutil.copytree(store, store.with_name("backup"))
        site.publish("hurt", soft=2, seed=9)
        assert site.generate("x", "hurt", max_new_tokens=1)["version"] == 2
        (store / "tasks" / "hurt!" / "00000002.json").unlink()

        def told() -> bool:
            assert site.generate("x", "hurt", max_new_tokens=1)["version"] == 2
            return any(line.get("known") == 2 and line.get("stored") == 1 for line in logs)

        until(told, "an alarm")
    with running(base_folder, store) as site:
        assert site.generate("x", "hurt", max_new_tokens=1)["version"] == 1
    assert json.loads((store / "tasks" / "hurt!" / "00000001.json").read_text())["version"] == 1
