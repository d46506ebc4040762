"""`softprompt tasks`, push, pull, rollback, rm as processes, against a server."""

import json
from pathlib import Path

import pytest

from prompt_store.prompt import parse
from tests.cli.conftest import Softprompt
from tests.server.site import Site, embeddings
from tests.server.site import site as running
from tests.softprompt_client.conftest import response, scripted


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Of the ids of this test alone."""
    return f"c-{abs(hash(request.node.name))}"


def ids(text: str) -> list[str]:
    return [task["id"] for task in json.loads(text)]


def test_a_list_is_narrowed_by_the_server(softprompt: Softprompt, site: Site, prefix: str) -> None:
    """By kind and by how ids begin; the table has a row for each, --json the server's objects."""
    site.publish(f"{prefix}-soft", soft=2)
    site.publish(f"{prefix}-text", "Say {input}:", description="says it")
    assert ids(softprompt("tasks", "--search", prefix, "--json").stdout) == [f"{prefix}-soft", f"{prefix}-text"]
    assert ids(softprompt("tasks", "--search", prefix, "--kind", "text", "--json").stdout) == [f"{prefix}-text"]
    table = softprompt("tasks", "--search", prefix).stdout
    assert f"{prefix}-soft" in table
    assert "says it" in table
    assert softprompt("tasks", "--kind", "none").returncode == 2


def test_one_task_is_shown_with_its_versions(softprompt: Softprompt, site: Site, prefix: str) -> None:
    """What it is, and its history, newest first."""
    site.publish(prefix, "Say {input}:", labels=["a", "b"])
    site.publish(prefix, "Tell {input}:")
    shown = softprompt("tasks", prefix).stdout
    assert "Tell {input}:" in shown
    assert shown.count("publish") == 2
    found = json.loads(softprompt("tasks", prefix, "--json").stdout)
    assert (found["version"], [line["version"] for line in found["versions"]]) == (2, [2, 1])
    absent = softprompt("tasks", f"{prefix}-absent")
    assert (absent.returncode, absent.stderr.startswith("softprompt: 404 task_not_found: ")) == (1, True)
    assert absent.stderr.endswith(" (softprompt tasks lists them)\n")
    assert softprompt("tasks", prefix, "--search", "x").returncode == 2


def test_a_file_goes_there_and_comes_back(softprompt: Softprompt, site: Site, prefix: str, tmp_path: Path) -> None:
    """Pushed, pushed again, pulled, pulled for PEFT and pushed from there."""
    file = embeddings(site.base, "{input}", 3)
    (tmp_path / "file").write_bytes(file.data)
    assert softprompt("push", prefix, "file").stdout == f"{prefix} is now version 1, digest {file.digest}\n"
    assert softprompt("push", prefix, "file").stdout == f"{prefix} already was version 1, digest {file.digest}\n"
    assert "412 precondition_failed" in softprompt("push", prefix, "file", "--create-only").stderr
    assert softprompt("pull", prefix, "--out", "back").stdout.endswith(", written to back\n")
    assert (tmp_path / "back").read_bytes() == file.data
    assert softprompt("pull", prefix, "--peft", "--out", "peft").returncode == 0
    assert softprompt("push", prefix, "peft", "--template", "Q {input}", "--labels", "a,b").returncode == 0
    found = site.http.get(f"/tasks/{prefix}").json()
    assert (found["template"], found["labels"]) == ("Q {input}", ["a", "b"])
    assert parse(file.data).prompt.length == found["length"]
    (tmp_path / "text.json").write_text('{"template": "Say {input}"}')
    assert "version 3" in softprompt("push", prefix, "text.json").stdout


def test_a_version_comes_back_and_a_task_goes(softprompt: Softprompt, site: Site, prefix: str) -> None:
    """Rolled back, deleted, and brought back."""
    site.publish(prefix, "A {input}")
    site.publish(prefix, "B {input}")
    assert f"{prefix} is now version 3" in softprompt("rollback", prefix, "1").stdout
    again = softprompt("rollback", prefix, "1").stdout
    assert f"{prefix} already was version 3 with the content of version 1, digest " in again
    assert softprompt("rm", prefix).stdout == f"{prefix} is deleted (softprompt undelete {prefix} brings it back)\n"
    done = softprompt("rm", prefix)
    assert (done.returncode, done.stderr.endswith(f" (softprompt undelete {prefix} brings it back)\n")) == (1, True)
    assert f"{prefix} is now version 5" in softprompt("rollback", prefix, "2").stdout
    absent = softprompt("rollback", prefix, "9").stderr
    assert absent.startswith("softprompt: 404 version_not_found: ")
    assert absent.endswith(f" (softprompt versions {prefix} lists them)\n")


def test_a_deleted_task_comes_back_as_it_was(softprompt: Softprompt, site: Site, prefix: str) -> None:
    """With the content below its tombstone; its versions are listed all the while."""
    site.publish(prefix, "A {input}")
    site.publish(prefix, "B {input}")
    assert "is not deleted: version 2 is current" in softprompt("undelete", prefix).stderr
    assert softprompt("rm", prefix).returncode == 0
    assert softprompt("versions", prefix).stdout.count("publish") == 2
    assert softprompt("undelete", prefix).stdout == f"{prefix} is back: version 4 with the content of version 2\n"
    assert site.http.get(f"/tasks/{prefix}").json()["template"] == "B {input}"
    found = json.loads(softprompt("versions", prefix, "--json").stdout)
    assert [line["event"] for line in found] == ["rollback", "delete", "publish", "publish"]
    assert "404 task_not_found" in softprompt("undelete", f"{prefix}-absent").stderr


def test_a_version_that_is_not_listed_is_told(softprompt: Softprompt, base_folder: Path, tmp_path: Path) -> None:
    """A hole between those that are; below the lowest there is none."""
    with running(base_folder, tmp_path / "other") as other:
        for template in ("A {input}", "B {input}", "C {input}"):
            other.publish("t", template)
        manifests = tmp_path / "other" / "tasks" / "t!"
        (manifests / "00000002.json").write_bytes(b"garbage")
        done = softprompt("versions", "t", "--url", other.url)
        assert (done.returncode, done.stderr) == (
            0,
            "softprompt: version 2 is not listed: it was removed by gc --keep, or cannot be read: softprompt fsck\n",
        )
        (manifests / "00000001.json").unlink()
        assert softprompt("versions", "t", "--url", other.url).stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["push", "t", "absent"], "softprompt: absent is not there\n"),
        (["push", "t", "."], "a PEFT directory holds"),
        (["push", "bad name", "empty"], "400 invalid_task_id"),
        (["push", "t", "empty"], "422 file_too_short"),
        (["tasks", "--url", "localhost:8000"], "localhost:8000 is no address"),
        (["tasks", "--url", "http://127.0.0.1:1"], "http://127.0.0.1:1 did not answer ("),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(
    softprompt: Softprompt, tmp_path: Path, arguments: list[str], said: str
) -> None:
    """With exit code 1 and nothing on stdout."""
    (tmp_path / "empty").write_bytes(b"")
    done = softprompt(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.startswith("softprompt: ")
    assert done.stderr.count("\n") == 1


def test_the_key_of_the_environment_is_shown_to_the_server(softprompt: Softprompt) -> None:
    """An admin key before any other."""
    page = b'{"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false}'
    with scripted(response(200, page)) as server:
        keys = {"SOFTPROMPT_API_KEY": "one", "SOFTPROMPT_ADMIN_KEY": "two,three"}
        assert softprompt("tasks", "--json", SOFTPROMPT_URL=server.url, **keys).stdout == "[]\n"
    assert b"authorization: bearer two\r\n" in server.heard[0].lower()


def test_who_is_asked_for_a_key_is_told_where_it_is_taken_from(softprompt: Softprompt) -> None:
    """A header's name helps nobody on a command line."""
    body = b'{"error": {"message": "a valid key is needed", "type": "x", "param": null, "code": "invalid_api_key"}}'
    with scripted(response(401, body)) as server:
        done = softprompt("tasks", SOFTPROMPT_URL=server.url)
    assert done.returncode == 1
    assert "SOFTPROMPT_ADMIN_KEY or SOFTPROMPT_API_KEY" in done.stderr
