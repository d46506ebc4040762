"""Who is let in to a real process: addresses that others reach, keys from variables and from files."""

from pathlib import Path

import httpx

from tests.e2e.process import Process, serving

ANYWHERE = "0.0.0.0"  # noqa: S104 - with keys, or refused
FIRST, SECOND, ADMIN = "generate-0123456789", "generate-9876543210", "admin-0123456789abc"


def status(url: str, key: str | None, path: str = "/tasks", method: str = "GET") -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.request(method, url + path, headers=headers, timeout=60, trust_env=False).status_code


def test_an_address_that_others_reach_is_not_bound_without_keys(base_folder: Path) -> None:
    """Exit code 2 and one line that names the two ways out; nothing is loaded before."""
    process = Process("--model", str(base_folder), "--host", ANYWHERE)
    assert process.wait() == 2
    (line,) = process.other
    for part in ("an address that others reach", "SOFTPROMPT_API_KEY", "SOFTPROMPT_ADMIN_KEY", "--insecure"):
        assert part in line
    assert process.log == []


def test_insecure_lets_others_in(base_folder: Path) -> None:
    """As it says, and the start says so too."""
    with serving("--model", str(base_folder), "--host", ANYWHERE, "--insecure", "--store", "memory://") as (process, _):
        port = httpx.URL(process.url).port
        assert status(f"http://127.0.0.1:{port}", None) == 200
        assert "whoever reaches this address may do everything" in " ".join("".join(process.other).split())


def test_keys_come_from_files(base_folder: Path, tmp_path: Path) -> None:
    """As container platforms hand out secrets; one a line, the last line's end is no part of a key."""
    (tmp_path / "generate").write_text(f"{FIRST}\n{SECOND}\n", encoding="utf-8")
    (tmp_path / "admin").write_text(f"{ADMIN}\r\n", encoding="utf-8")
    files = {
        "SOFTPROMPT_API_KEY_FILE": str(tmp_path / "generate"),
        "SOFTPROMPT_ADMIN_KEY_FILE": str(tmp_path / "admin"),
    }
    options = ("--model", str(base_folder), "--host", ANYWHERE, "--store", "memory://")
    with serving(*options, **files) as (process, _):
        url = f"http://127.0.0.1:{httpx.URL(process.url).port}"
        assert [status(url, key) for key in (None, FIRST, SECOND, ADMIN)] == [401, 200, 200, 200]
        assert [status(url, key, "/tasks/t", "DELETE") for key in (None, FIRST, ADMIN)] == [401, 403, 404]
        said = "".join(process.other) + str(process.log)
        assert not [key for key in (FIRST, SECOND, ADMIN) if key in said]


def test_one_kind_of_key_closes_both(base_folder: Path) -> None:
    """With a generate key alone nobody may publish, and the start says so."""
    with serving("--model", str(base_folder), "--store", "memory://", SOFTPROMPT_API_KEY=FIRST) as (process, _):
        assert [status(process.url, key) for key in (None, FIRST)] == [401, 200]
        assert [status(process.url, key, "/tasks/t", "DELETE") for key in (None, FIRST)] == [401, 403]
        assert "nobody may publish" in " ".join("".join(process.other).split())
