"""kill -9 at every system call of a collection that changes the disk: nothing named is lost, the next one ends it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from prompt_store.garbage import collect
from prompt_store.keys import blob_key, trash_key
from prompt_store.local import TEMPORARY, LocalObjects
from prompt_store.retention import Rules
from prompt_store.store import Store
from tests.prompt_store.make import ONE, THREE, TWO, embeddings, put
from tests.tools import tool

PROGRAM = """
import sys
from prompt_store.garbage import collect
from prompt_store.local import LocalObjects
from prompt_store.retention import Rules
from pathlib import Path
collect(LocalObjects(Path(sys.argv[1])), Rules(grace=60, keep=1))
"""
CALLS = ("mkdir", "write", "fsync", "flock", "utimensat", "link", "unlink")
HOUR = 3600
RULES = Rules(grace=60, keep=1)

SURVIVED = 0


def littered(root: Path) -> None:
    """Versions to keep and to let go, an orphan, one that is going, and one that is named and in the trash."""
    store = Store.open(str(root))
    for file in (ONE, TWO):
        put(store, "a", file)
    put(store, "b", THREE)
    store.objects.move(blob_key(THREE.digest), trash_key(THREE.digest))
    for key, seed in ((blob_key, 20), (trash_key, 21)):
        file = embeddings(seed=seed)
        store.objects.create(key(file.digest), file.data)
    age(root)


def age(root: Path) -> None:
    """An hour passes."""
    for path in root.rglob("*"):
        modified = path.stat().st_mtime - HOUR
        os.utime(path, (modified, modified))


def settled(root: Path) -> list[str]:
    """What is left when collections an hour apart find nothing more to do."""
    for _ in range(3):
        collect(LocalObjects(root), RULES)
        age(root)
    return [entry.key for entry in LocalObjects(root).entries("") if not entry.key.startswith((".", TEMPORARY))]


def killed(root: Path, call: str, number: int) -> bool:
    """Whether there was such a call to be killed at."""
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", *inject, sys.executable, "-c", PROGRAM, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in {SURVIVED, -9, 137}, done.stderr
    return done.returncode != SURVIVED


def copies(root: Path) -> Iterator[Path]:
    """The store after a kill at each call in turn."""
    for call in CALLS:
        number = 0
        while True:
            number += 1
            copy = root.with_name(f"{call}-{number}")
            shutil.copytree(root, copy)
            if not killed(copy, call, number):
                break
            yield copy


def test_kill_at_every_call_of_a_collection(tmp_path: Path) -> None:
    """What is named is read at once; the next collection leaves what an undisturbed one leaves (P4)."""
    tool("strace")
    root = tmp_path / "store"
    littered(root)
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(root, undisturbed)
    assert not killed(undisturbed, "none", 1)
    assert LocalObjects(undisturbed).has(trash_key(ONE.digest))
    wanted = settled(undisturbed)
    points = 0
    for copy in copies(root):
        points += 1
        store = Store.open(str(copy))
        assert store.load(store.current("a")).data == TWO.data
        assert store.load(store.current("b")).data == THREE.data
        for task in store.versions("a"):
            assert store.blob(task)
        assert settled(copy) == wanted
        assert store.load(store.current("b")).data == THREE.data
        shutil.rmtree(copy)
    assert points > 25
