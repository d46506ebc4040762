"""Where the client finds a server and which key it shows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from softprompt_client.settings import URL, settings

KEY = "a-key-of-enough-length"


def test_arguments_win_over_variables_and_these_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """An admin key before any other, the first of a list."""
    for name in ("URL", "API_KEY", "ADMIN_KEY"):
        monkeypatch.delenv(f"SOFTPROMPT_{name}", raising=False)
    assert (settings(None, None).url, settings(None, None).headers) == (URL, {})
    monkeypatch.setenv("SOFTPROMPT_URL", "https://there/below/")
    monkeypatch.setenv("SOFTPROMPT_API_KEY", f"{KEY}, other")
    assert settings(None, None).url == "https://there/below"
    assert settings(None, None).headers == {"Authorization": f"Bearer {KEY}"}
    monkeypatch.setenv("SOFTPROMPT_ADMIN_KEY", "admin-key")
    assert settings(None, None).headers == {"Authorization": "Bearer admin-key"}
    assert settings("http://here", "mine").headers == {"Authorization": "Bearer mine"}
    assert settings(None, "").headers == {}


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://[", "x"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match="http:// or https:// is wanted"):
        settings(url, None)


@pytest.mark.parametrize("key", ["a\nb", "schlüssel"])
def test_a_key_that_no_header_carries_is_told_and_not_shown(key: str) -> None:
    """Neither in an error nor in a picture of the settings."""
    with pytest.raises(ValueError, match="no header") as caught:
        settings(None, key)
    assert key not in str(caught.value)
    assert KEY not in repr(settings(None, KEY))


def test_it_brings_nothing_heavy() -> None:
    """httpx and the standard library: no torch, no pydantic, none of the server's rooms."""
    code = "import sys, softprompt_client; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    heavy = {"torch", "numpy", "pydantic", "server", "tuning", "prompt_store", "cli"}
    assert not heavy & set(done.stdout.split())


def test_a_key_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first there, the admin's before the other's; a file that cannot be read is told without its path."""
    for name in ("API_KEY", "ADMIN_KEY", "ADMIN_KEY_FILE"):
        monkeypatch.delenv(f"SOFTPROMPT_{name}", raising=False)
    (tmp_path / "reader").write_text(f"\n{KEY}\nother\n", encoding="utf-8")
    monkeypatch.setenv("SOFTPROMPT_API_KEY_FILE", str(tmp_path / "reader"))
    assert settings(None, None).headers == {"Authorization": f"Bearer {KEY}"}
    monkeypatch.setenv("SOFTPROMPT_ADMIN_KEY_FILE", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=r"^the file that SOFTPROMPT_ADMIN_KEY_FILE names cannot be read$"):
        settings(None, None)
