"""A store is copied and collected while a server writes to it: the commands of docs/store.md, as written."""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prompt_store.store import Store
from tests.checkout import text
from tests.cli.conftest import COMMAND, Softprompt
from tests.prompt_store.make import whole
from tests.server.site import Site
from tests.server.site import site as running

BACKUP = re.findall(r"```\n(mkdir backup\n.*?)```", text(Path("docs/store.md")), re.DOTALL)


@pytest.fixture
def busy(base_folder: Path, tmp_path: Path) -> Iterator[Site]:
    """A server on `.store` in the folder of the command."""
    with running(base_folder, tmp_path / ".store") as site:
        site.publish("first", "{input}")
        yield site


@contextmanager
def publishing(site: Site) -> Iterator[list[str]]:
    """New versions of a few tasks, and new tasks, one after the other; ids of what was acknowledged."""
    over, acknowledged = threading.Event(), list[str]()
    failed: list[BaseException] = []

    def publish() -> None:
        number = 0
        try:
            while not over.is_set():
                number += 1
                for task in (f"new-{number}", "again"):
                    site.publish(task, f"{number % 7} {{input}}")
                    acknowledged.append(task)
                site.http.delete("/tasks/again").raise_for_status()
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield acknowledged
    finally:
        over.set()
        thread.join()
    assert not failed


def backup(folder: Path) -> subprocess.CompletedProcess[str]:
    """As the document has it."""
    (script,) = BACKUP
    path = {**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", "-ec", script], cwd=folder, env=path, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_backup_of_a_busy_store_is_whole(busy: Site, tmp_path: Path) -> None:
    """Whatever was acknowledged before it began is in it, with its file, and fsck says so."""
    with publishing(busy) as acknowledged:
        for _ in range(3):
            known = set(acknowledged)
            done = backup(tmp_path)
            assert (done.returncode, done.stdout.count("0 damaged")) == (0, 1), done.stdout + done.stderr
            copy = Store.open(str(tmp_path / "backup"))
            whole(copy)
            assert {task.name for task in copy.list(limit=100_000)[0]} >= known - {"again"}
            shutil.rmtree(tmp_path / "backup")


def test_a_busy_store_is_collected(busy: Site, softprompt: Softprompt, tmp_path: Path) -> None:
    """Without any grace, with retention: no upload fails, every task answers, and the store is whole afterwards."""
    with publishing(busy) as acknowledged:
        for _ in range(4):
            done = softprompt("gc", "--grace", "0", "--keep", "1")
            assert done.returncode == 0, done.stderr
    store = Store.open(str(tmp_path / ".store"))
    whole(store)
    for task in {"new-1", acknowledged[-2]}:
        assert busy.generate("a", task, max_new_tokens=1)["task"] == task
    assert softprompt("undelete", "again", "--store", ".store").returncode == 0
    assert softprompt("fsck").returncode == 0
