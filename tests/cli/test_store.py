"""Tasks of a store without a server: the same commands with `--store`, and a server that finds what they did."""

import json
from pathlib import Path

import numpy as np
import pytest

from prompt_store.base import read_base
from prompt_store.findings import size
from prompt_store.keys import blob_key, trash_key
from prompt_store.marker import MARKER
from prompt_store.metadata import Metadata
from prompt_store.prompt import PromptFile, SoftPrompt, Tensor, build
from prompt_store.store import Store
from tests.cli.conftest import Softprompt
from tests.server.site import embeddings
from tests.server.site import site as running

NOWHERE = {"SOFTPROMPT_URL": "http://127.0.0.1:1"}
"""Whoever asks a server fails."""


@pytest.fixture
def learnt(base_folder: Path, tmp_path: Path) -> PromptFile:
    """A file that names its base, also as `file` in the folder of the command."""
    file = embeddings(read_base(base_folder), "{input}", 3)
    (tmp_path / "file").write_bytes(file.data)
    return file


def test_what_is_pushed_without_a_server_is_served(
    softprompt: Softprompt, learnt: PromptFile, base_folder: Path, tmp_path: Path
) -> None:
    """A file and a text task, listed and pulled from the store; a server on it answers with them."""
    at = ("--store", "s")
    done = softprompt("push", "soft", "file", *at, "--model", base_folder, **NOWHERE)
    assert done.stdout == f"soft is now version 1, digest {learnt.digest}\n"
    assert done.stderr == "softprompt: a new store was made at s\n"
    assert softprompt("push", "soft", "file", *at).stdout == f"soft already was version 1, digest {learnt.digest}\n"
    (tmp_path / "text.json").write_text('{"template": "Say {input}:"}')
    assert "text is now version 1" in softprompt("push", "text", "text.json", *at).stdout
    found = json.loads(softprompt("tasks", *at, "--json", **NOWHERE).stdout)
    assert [(task["id"], task["verified"]) for task in found] == [("soft", True), ("text", False)]
    assert not {"servable", "resident"} & found[0].keys(), "nobody has asked a base"
    assert "servable" not in softprompt("tasks", *at).stdout
    assert "Say {input}:" in softprompt("tasks", "text", *at).stdout
    assert softprompt("pull", "soft", *at, "--out", "back", **NOWHERE).stdout.endswith(", written to back\n")
    assert (tmp_path / "back").read_bytes() == learnt.data
    with running(base_folder, tmp_path / "s") as site:
        for task in ("soft", "text"):
            assert site.generate("a", task, max_new_tokens=1)["version"] == 1


def test_without_a_base_nothing_is_called_verified(softprompt: Softprompt, learnt: PromptFile, tmp_path: Path) -> None:
    """Though the file says which base it was learnt on."""
    done = softprompt("push", "soft", "file", "--store", "s")
    assert (done.returncode, "nothing was verified: --model " in done.stderr) == (0, True)
    assert Store.open(str(tmp_path / "s")).current("soft").verified is False


def test_a_store_that_is_made_in_a_bucket_is_told(softprompt: Softprompt, tmp_path: Path, s3_store: str) -> None:
    """Once; a place with other things in it is none, and nothing is said of making one."""
    (tmp_path / "text.json").write_text('{"template": "Say {input}:"}')
    made = f"softprompt: a new store was made at {s3_store}\n"
    assert softprompt("push", "t", "text.json", "--store", s3_store).stderr.startswith(made)
    assert made not in softprompt("push", "t", "text.json", "--store", s3_store).stderr
    refused = softprompt("push", "t", "text.json", "--store", f"{s3_store}/tasks")
    assert (refused.returncode, "not a store" in refused.stderr, "made" in refused.stderr) == (1, True, False)


def test_a_base_refuses_what_does_not_fit(softprompt: Softprompt, base_folder: Path, tmp_path: Path) -> None:
    """As a server would, and nothing is kept."""
    wide = build(
        SoftPrompt("embeddings", 2, {"embeddings": Tensor.from_float32(np.ones((2, 7), np.float32))}),
        Metadata("embeddings", 2, "{input}"),
    )
    (tmp_path / "wide").write_bytes(wide.data)
    done = softprompt("push", "soft", "wide", "--store", "s", "--model", base_folder)
    assert (done.returncode, "wrong_shape: embeddings must have shape" in done.stderr) == (1, True)
    assert softprompt("tasks", "--store", "s", "--json").stdout == "[]\n"


def test_a_bare_peft_file_wants_its_base(
    softprompt: Softprompt, learnt: PromptFile, base_folder: Path, tmp_path: Path
) -> None:
    """Converted with it, as a server would; refused with the reason without."""
    at = ("--store", "s")
    assert softprompt("push", "soft", "file", *at).returncode == 0
    assert softprompt("pull", "soft", *at, "--peft", "--out", "peft").returncode == 0
    refused = softprompt("push", "bare", "peft", *at)
    assert (refused.returncode, "with --model" in refused.stderr) == (1, True)
    more = ("--template", "Q {input}", "--labels", "a,b")
    assert softprompt("push", "bare", "peft", *at, "--model", base_folder, *more).returncode == 0
    found = json.loads(softprompt("tasks", "bare", *at, "--json").stdout)
    assert (found["template"], found["labels"], found["verified"]) == ("Q {input}", ["a", "b"], False)
    assert "for a bare PEFT file" in softprompt("push", "soft", "file", *at, "--template", "x").stderr


def test_a_history_is_changed_without_a_server(softprompt: Softprompt, tmp_path: Path) -> None:
    """Rolled back, deleted, told, and brought back."""
    at = ("--store", "s")
    for number in (1, 2):
        (tmp_path / "text.json").write_text(json.dumps({"template": f"{number} {{input}}"}))
        assert f"version {number}" in softprompt("push", "t", "text.json", *at).stdout
    assert softprompt("push", "t", "text.json", *at, "--create-only").stderr.startswith(
        "softprompt: precondition_failed: "
    )
    assert "t is now version 3 with the content of version 1, digest" in softprompt("rollback", "t", "1", *at).stdout
    assert "t already was version 3 with the content of version 1, " in softprompt("rollback", "t", "1", *at).stdout
    assert "t already was version 3, digest" in softprompt("rollback", "t", "3", *at).stdout
    assert softprompt("rollback", "t", "9", *at).stderr == (
        "softprompt: version_not_found: the task has no such version (softprompt versions t --store s lists them)\n"
    )
    assert softprompt("rm", "absent", *at).stderr.endswith("(softprompt tasks --store s lists them)\n")
    assert softprompt("undelete", "t", *at).stderr == "softprompt: t is not deleted: version 3 is current\n"
    assert softprompt("rm", "t", *at).stdout == "t is deleted (softprompt undelete t --store s brings it back)\n"
    assert softprompt("rm", "t", *at).stderr == (
        "softprompt: task_not_found: deleted by version 4 (softprompt undelete t --store s brings it back)\n"
    )
    assert softprompt("undelete", "t", *at).stdout == "t is back: version 5 with the content of version 3\n"
    found = json.loads(softprompt("versions", "t", *at, "--json").stdout)
    assert [(line["version"], line["event"]) for line in found] == [
        (5, "rollback"), (4, "delete"), (3, "rollback"), (2, "publish"), (1, "publish"),
    ]  # fmt: skip
    assert softprompt("versions", "t", *at).stdout.count("rollback") == 2


def test_a_tombstone_alone_cannot_be_brought_back(softprompt: Softprompt, tmp_path: Path) -> None:
    """Where retention has taken the rest, that is said."""
    store = Store.open(str(tmp_path / "s"))
    store.publish("t", build(SoftPrompt("text", 0, {}), Metadata("text", 0, "{input}")), verified=False, op_id="p")
    store.delete("t", "d")
    assert softprompt("gc", "--store", "s", "--grace", "0", "--deleted-after", "0").returncode == 0
    done = softprompt("undelete", "t", "--store", "s")
    assert done.stderr == "softprompt: nothing but its tombstone is left of t: publish it again\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tasks", "--store", "absent"], 1, f"absent is no store: a store's directory holds a {MARKER}"),
        (["gc", "--store", "."], 1, f". is no store: a store's directory holds a {MARKER}"),
        (["fsck", "--store", "memory://"], 1, "memory:// lives inside one server"),
        (["pull", "t", "-o", "x", "--store", "absent"], 1, "absent is no store"),
        (["push", "bad name", "text.json", "--store", "s"], 1, "invalid_task_id: a task id has 1 to 128"),
        (["push", "t", "broken.json", "--store", "s"], 1, "invalid_json: "),
        (["push", "t", "empty", "--store", "s"], 1, "file_too_short: "),
        (["push", "t", "nowhere", "--store", "s"], 1, "softprompt: nowhere is not there\n"),
        (["push", "t", "text.json", "--store", "s", "--model", "absent"], 1, "config.json"),
        (["tasks", "--store", "s", "--url", "http://127.0.0.1:1"], 2, "takes no --url"),
        (["push", "t", "text.json", "--model", "."], 2, "--model is for --store"),
        (["fsck", "--from", "s"], 2, "name both"),
        (["gc", "--keep", "0"], 2, "keep"),
    ],
)
def test_what_goes_wrong_is_said(
    softprompt: Softprompt, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    """In a line where it is no matter of options; and no directory becomes a store by being asked about."""
    Store.open(str(tmp_path / "s"))
    for name, text in (("text.json", '{"template": "{input}"}'), ("broken.json", "{"), ("empty", "")):
        (tmp_path / name).write_text(text)
    done = softprompt(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert code == 2 or done.stderr.count("\n") == 1
    assert not (tmp_path / "absent").exists()
    assert not (tmp_path / MARKER).exists()


def test_garbage_is_collected_from_the_command_line(softprompt: Softprompt, learnt: PromptFile, tmp_path: Path) -> None:
    """Dry, for real, and as JSON; the default store is the server's."""
    store = Store.open(str(tmp_path / "s"))
    store.objects.create(blob_key(learnt.digest), learnt.data)
    assert "nothing was changed" in softprompt("gc", "--store", "s", "--grace", "0", "--dry-run").stdout
    assert store.objects.has(blob_key(learnt.digest))
    young = f"          1 file  {size(len(learnt.data)):>12}  named by nothing, and younger than the grace"
    assert softprompt("gc", "--store", "s").stdout == f"s\n{young}\n"
    found = json.loads(softprompt("gc", "--grace", "0", "--json", SOFTPROMPT_STORE="s").stdout)
    assert (found["store"], found["moved"]) == ("s", {"count": 1, "bytes": len(learnt.data)})
    assert store.objects.has(trash_key(learnt.digest))
    assert json.loads(softprompt("gc", "--store", "s", "--grace", "0", "--json").stdout)["removed"]["count"] == 1
    assert not store.objects.has(trash_key(learnt.digest))


def test_damage_is_told_mended_and_kept_from_being_collected(
    softprompt: Softprompt, learnt: PromptFile, tmp_path: Path
) -> None:
    """Exit code 1 while some is left; a copy mends a file; a manifest stays as it is, and gc refuses until told."""
    for name in ("s", "copy"):
        for task in ("t", "u"):
            assert softprompt("push", task, "file", "--store", name).returncode == 0
    assert softprompt("fsck", "--store", "s").stdout == (
        f"s: 2 tasks, 2 versions, 1 file, {size(len(learnt.data))}; 0 damaged\n"
    )
    blob = tmp_path / "s" / blob_key(learnt.digest)
    blob.write_bytes(b"x" + learnt.data[1:])
    done = softprompt("fsck", "--store", "s")
    assert (done.returncode, done.stdout.count("DAMAGED")) == (1, 2)
    assert "DAMAGED t version 1: its file is damaged: the bytes are not those that its digest names -> " in done.stdout
    assert softprompt("fsck", "--store", "s", "--repair").returncode == 1
    done = softprompt("fsck", "--store", "s", "--repair", "--from", "copy")
    assert (done.returncode, done.stdout.count("mended")) == (0, 2)
    assert "mended t version 1: its file was copied from copy\n" in done.stdout
    blob.unlink()
    done = softprompt("fsck", "--store", "s", "--repair", "--from", "copy")
    assert f" 1 file, {size(len(learnt.data))}; 0 damaged\n" in done.stdout, "counted as it is left"
    assert blob.read_bytes() == learnt.data
    (tmp_path / "s" / "tasks" / "u!" / "00000001.json").write_bytes(b"garbage")
    done = softprompt("fsck", "--store", "s", "--json")
    (found,) = json.loads(done.stdout)["found"]
    assert (done.returncode, found["task"], found["version"], found["damage"]) == (1, "u", 1, True)
    done = softprompt("versions", "u", "--store", "s")
    assert done.stderr.startswith("softprompt: version 1 is damaged, and not listed: a manifest is not JSON: ")
    refused = softprompt("gc", "--store", "s", "--grace", "0")
    assert "1 manifest cannot be read, version 1 of task u: what it names is not known" in refused.stderr
    assert (refused.returncode, "softprompt fsck says what to do" in refused.stderr) == (1, True)
    assert softprompt("gc", "--store", "s", "--grace", "0", "--despite-damage").returncode == 0


def test_what_gc_has_to_do_is_told_and_nothing_else(softprompt: Softprompt, tmp_path: Path) -> None:
    """Nothing; versions that --keep lets go, within the grace and after it."""
    store = Store.open(str(tmp_path / "s"))
    for number in (1, 2, 3):
        file = build(SoftPrompt("text", 0, {}), Metadata("text", 0, f"{number} {{input}}"))
        store.publish("t", file, verified=False, op_id=str(number))
    assert softprompt("gc", "--store", "s").stdout == "s\nnothing to do\n"
    (row,) = softprompt("gc", "--store", "s", "--keep", "2").stdout.splitlines()[1:]
    assert row.split()[:2] == ["1", "version"]
    assert row.endswith("  to be removed once the grace is over")
    rows = softprompt("gc", "--store", "s", "--keep", "1", "--grace", "0").stdout.splitlines()[1:]
    assert [(row.split()[:2], row.rpartition("  ")[2]) for row in rows] == [
        (["2", "versions"], "removed"),
        (["2", "files"], "moved into the trash"),
    ]
