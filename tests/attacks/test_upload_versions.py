"""Uploads and what stands beside them, against the versions and the disk that are there: U50 to U60."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tests.attacks.attack import Attack
from tests.attacks.files import GOOD, array, tensor
from tests.attacks.victim import TARGET, Lines, Victim, inside
from tests.server.site import embeddings, peft_file
from tests.tools import absent

ONE, TWO, THREE = (embeddings(None, "play {text}", 3, seed) for seed in (11, 12, 13))


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small file system of its own; a skip, or in CI a failure, where none can be mounted."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        absent("a file system cannot be mounted here (Linux, as root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def confined(base_folder: Path, disk: Path, lines: Lines) -> Iterator[Victim]:
    """Its store lies there."""
    with inside(base_folder, disk / "store", lines) as found:
        yield found


def prompt(victim: Victim, task: str, version: int) -> bytes:
    """A version's stored file."""
    return victim.http.get(f"/tasks/{task}/versions/{version}/prompt").raise_for_status().content


@pytest.mark.parametrize("data", [ONE.data, GOOD], ids=["ours", "PEFT"])
def test_U50_the_same_bytes_again(attack: Attack, data: bytes) -> None:
    """A retry makes nothing: not a version, not a file."""
    task = f"again-{len(data)}"
    first = attack.victim.http.put(f"/tasks/{task}", content=data).raise_for_status().json()
    kept = attack.victim.kept()
    again = attack.accepted(200, data, task=task).json()
    assert (again["version"], again["digest"]) == (first["version"], first["digest"])
    assert attack.victim.kept() == kept


@pytest.mark.parametrize("others", [1, 3])
def test_U51_the_same_bytes_elsewhere(attack: Attack, others: int) -> None:
    """One file on the disk, however many tasks have it."""
    names = [f"shares-{others}-{number}" for number in range(others + 1)]
    found = {attack.accepted(201, TWO.data, task=name).json()["digest"] for name in names}
    assert found == {TWO.digest}
    assert sum(TWO.digest in name for name in attack.victim.kept()) == 1


@pytest.mark.parametrize("stale", [ONE.digest, "0" * 64, ""])
def test_U52_a_version_that_is_no_longer_current(attack: Attack, stale: str) -> None:
    """The answer shows which one is, so that the client can look at it."""
    for file in (ONE, TWO):
        attack.victim.http.put("/tasks/stale", content=file.data).raise_for_status()
    with attack.unharmed(412, THREE.data, task="stale") as request_id:
        answer = attack.send(request_id, THREE.data, task="stale", headers={"If-Match": f'"{stale}"'})
    attack.check(answer, 412, "precondition_failed", THREE.data)
    assert answer.headers["etag"] == f'"{TWO.digest}"'
    assert TWO.digest in answer.json()["error"]["message"]


@pytest.mark.parametrize("data", [ONE.data, TWO.data], ids=["other bytes", "its own bytes"])
def test_U53_a_task_that_is_there(attack: Attack, data: bytes) -> None:
    """Create only, whatever it would be created with."""
    attack.victim.http.put("/tasks/there", content=TWO.data).raise_for_status()
    attack.refused(412, "precondition_failed", data, task="there", headers={"If-None-Match": "*"})


@pytest.mark.parametrize("turn", range(5))
def test_U54_two_uploads_race(attack: Attack, turn: int) -> None:
    """Both are kept, under different numbers, and the second of them is current."""
    start, task = Barrier(2), f"raced-{turn}"

    def put(data: bytes) -> int:
        start.wait()
        version: int = attack.accepted(201, data, task=task).json()["version"]
        return version

    files = (ONE.data, TWO.data)
    with ThreadPoolExecutor(2) as two:
        versions = list(two.map(put, files))
    assert sorted(versions) == [1, 2]
    assert [prompt(attack.victim, task, version) for version in versions] == list(files)
    assert attack.victim.http.get(f"/tasks/{task}").json()["version"] == 2


@pytest.mark.parametrize("data", [ONE.data, TWO.data], ids=["what was deleted", "something else"])
def test_U55_an_upload_to_a_deleted_task(attack: Attack, data: bytes) -> None:
    """The next number: 1 is history, 2 its tombstone, and asking for the task gives what was put now."""
    http, task = attack.victim.http, f"deleted-{len(data)}-{data == ONE.data}"
    http.put(f"/tasks/{task}", content=ONE.data).raise_for_status()
    http.delete(f"/tasks/{task}").raise_for_status()
    assert attack.accepted(201, data, task=task).json()["version"] == 3
    asked = {"task": task, "inputs": "x", "parameters": {"max_new_tokens": 1}}
    assert http.post("/generate", json=asked).json()["version"] == 3
    assert prompt(attack.victim, task, 3) == data
    assert http.get(f"/tasks/{task}/versions/2/prompt").status_code == 409


@pytest.mark.parametrize("task", [TARGET, "new"])
def test_U56_no_room(attack: Attack, confined: Victim, disk: Path, task: str) -> None:
    """Nothing of it is kept, the other tasks answer, and it goes through when there is room again."""
    filler, data = disk / "filler", peft_file(array(float(len(task)), 100))
    room = os.statvfs(disk)
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize))
    attack.on(confined).refused(507, "store_full", data, task=task)
    filler.unlink()
    assert confined.http.put(f"/tasks/{task}", content=data).status_code == 201


@pytest.mark.parametrize("task", [TARGET, "unborn"])
def test_U57_a_store_that_became_read_only(attack: Attack, confined: Victim, disk: Path, task: str) -> None:
    """A task is served as before; when it is writable again so is the store, without a restart."""
    data = peft_file(array(float(len(task)), 3))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        with attack.on(confined).unharmed(503, data, task=task) as request_id:
            answer = attack.on(confined).send(request_id, data, task=task)
        attack.check(answer, 503, "store_unavailable", data)
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["x-should-retry"] == "true"
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    attack.on(confined).accepted(201, data, task=task)


@pytest.mark.parametrize(
    ("version", "status", "code"),
    [(9, 404, "version_not_found"), (2, 409, "version_deleted"), (1, 422, "version_corrupt")],
)
def test_U58_a_rollback_to_nothing(attack: Attack, version: int, status: int, code: str) -> None:
    """Unknown, a tombstone, or with a file that is no longer what it was; the current version stays."""
    http, task = attack.victim.http, f"rolled-{version}"
    first = http.put(f"/tasks/{task}", content=tensor(data=array(float(version)).tobytes())).raise_for_status().json()
    http.delete(f"/tasks/{task}").raise_for_status()
    http.put(f"/tasks/{task}", content=TWO.data).raise_for_status()
    blob = attack.victim.store / "blobs" / f"{first['digest']}.safetensors"
    sound = blob.read_bytes()
    blob.write_bytes(sound[:-1] + b"\xff")
    attack.refused(status, code, task=task, to="/rollback", method="POST", json={"version": version})
    blob.write_bytes(sound)


@pytest.mark.parametrize("times", [1, 3])
def test_U59_a_rollback_to_what_is(attack: Attack, times: int) -> None:
    """No new version, nothing written."""
    task = f"steady-{times}"
    attack.victim.http.put(f"/tasks/{task}", content=ONE.data).raise_for_status()
    kept, history = attack.victim.kept(), attack.victim.history(task)
    for _ in range(times):
        attack.accepted(200, task=task, to="/rollback", method="POST", json={"version": 1})
    assert (attack.victim.kept(), attack.victim.history(task)) == (kept, history)


@pytest.mark.parametrize("task", ["deleted-twice", "never-there"])
def test_U60_a_delete_of_nothing(attack: Attack, task: str) -> None:
    """Once is enough, and what was never there cannot be deleted."""
    if task == "deleted-twice":
        attack.victim.http.put(f"/tasks/{task}", content=ONE.data).raise_for_status()
        assert attack.accepted(204, task=task, method="DELETE").content == b""
    attack.refused(404, "task_not_found", task=task, method="DELETE")
