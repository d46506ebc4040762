"""Settings that are wrong: T09."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.config import BadSettings, read
from tests.attacks.attack import Attack
from tests.attacks.test_bases import served, started
from tests.e2e.process import serving

KEY = "0123456789abcdef"
MODULE = [sys.executable, "-m", "server"]
WRONG: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "negative limits": (
        {"MAX_BATCH": "-1", "KV_BUDGET": "-5", "RECEIVE_SECONDS": "-1", "PORT": "-1", "MAX_NORM": "-1"},
        ("max_batch", "kv_budget", "receive_seconds", "port", "max_norm"),
    ),
    "no numbers": (
        {"MAX_BATCH": "many", "KV_BUDGET": "much", "MAX_NORM": "nan"},
        ("max_batch", "kv_budget", "max_norm"),
    ),
    "unknown": ({"KV_BUGDET": "1", "API_KEYS": KEY}, ("SOFTPROMPT_API_KEYS", "SOFTPROMPT_KV_BUGDET")),
    "an empty key": ({"API_KEY": ""}, ("api_key",)),
    "a short key": ({"API_KEY": "a" * 15, "ADMIN_KEY": f"{KEY},"}, ("admin_key", "api_key")),
    "an open address": ({"HOST": "0.0.0.0"}, ("host",)),  # noqa: S104 - refused, that is the point
    "an open address and more": ({"HOST": "::", "PORT": "70000"}, ("host", "port")),
    "an open address and a bad key": ({"HOST": "::", "API_KEY": "short"}, ("api_key",)),
    "the whole file system": ({"STORE": "/"}, ("store",)),
    "the same, spelt otherwise": ({"STORE": "/tmp/../"}, ("store",)),  # noqa: S108 - refused
    "no place": ({"STORE": ""}, ("store",)),
    "a file as a store": ({"STORE": "/dev/null"}, ("store",)),
    "below a file": ({"STORE": "/dev/null/store"}, ("store",)),
    "no such kind of store": ({"STORE": "ftp://host/x"}, ("a store is",)),
    "nowhere to write": ({"STORE": "/proc/softprompt"}, ("--store",)),
    "no such file of keys": ({"API_KEY_FILE": "/nowhere/key", "DTYPE": "int4"}, ("api_key", "dtype")),
    "tls without a certificate": ({"TLS_KEY": "/nowhere/key", "CORS_ORIGINS": "*"}, ("tls_key", "cors_origins")),
}
STARTED = ("negative limits", "no such kind of store", "nowhere to write")
"""Given to a process: what is more than the settings' own business, and one that is not."""
MOUNTED = 'mount -t tmpfs tmpfs "$0" && cd "$0" && mkdir l u w m && {} && exec "$@"'
OVERLAY = "mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m"
READ_ONLY = "mount --bind m m && mount -o remount,ro,bind m"


@pytest.mark.parametrize("name", WRONG)
def test_T09_settings_that_are_wrong(
    attack: Attack, name: str, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for each, by the variable's name, all of them at once, nothing of the values; of a process no traceback,
    and exit code 2."""
    given, wrong = WRONG[name]
    names = tuple(f"SOFTPROMPT_{one.upper()}" if one.upper() in given else one for one in wrong)
    variables = {f"SOFTPROMPT_{key}": value for key, value in given.items()}
    if name not in STARTED:
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        with pytest.raises(BadSettings) as refused:
            read({})
        check(refused.value.lines, names)
        return
    place = {"SOFTPROMPT_STORE": str(tmp_path / "store"), "SOFTPROMPT_MODEL": str(base_folder)}
    ends(served(**{**place, **variables}), "softprompt serve: ", names)
    if name == "nowhere to write":
        _on_mounts(attack, base_folder, tmp_path)


def ends(ended: "subprocess.CompletedProcess[str]", front: str, names: tuple[str, ...]) -> None:
    """A process that was given them."""
    assert ended.returncode == 2, ended.stderr
    check([line.removeprefix(front) for line in ended.stderr.splitlines() if line.startswith(front)], names)
    assert "Traceback" not in ended.stderr


def check(lines: list[str], names: tuple[str, ...]) -> None:
    """A line for each name, and nothing of what was given."""
    assert len(lines) == len(names), lines
    assert all(line.startswith(name) for line, name in zip(sorted(lines), sorted(names), strict=True)), lines
    assert "Value error" not in "".join(lines)
    assert KEY not in "".join(lines)


def _on_mounts(attack: Attack, base: Path, place: Path) -> None:
    """A disk that is read-only is refused like other places; an overlay is served from, with a warning."""
    mount = ("unshare", "--mount", "sh", "-c")
    ended = started(
        [*mount, MOUNTED.format(READ_ONLY), str(place), *MODULE],
        SOFTPROMPT_STORE=str(place / "m/store"), SOFTPROMPT_MODEL=str(base),
    )  # fmt: skip
    ends(ended, "python -m server: ", ("SOFTPROMPT_STORE",))
    assert "cannot be written" in ended.stderr
    under = (*mount, MOUNTED.format(OVERLAY), str(place))
    with serving("--model", str(base), "--store", str(place / "m/store"), under=under) as (process, client):
        asked = {"inputs": "x", "parameters": {"max_new_tokens": 1}}
        attack.right(client.post("/generate", json=asked))
        warned = [line for line in process.log if "overlay" in line["event"]]
    assert [line["level"] for line in warned] == ["warning"]
