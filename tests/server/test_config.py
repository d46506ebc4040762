"""Settings are checked once, at the start, and name what is wrong."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from server.config import BadSettings, Settings, is_loopback, read, unknown_variables

KEY = "0123456789abcdef"


def test_variables_are_read_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """SOFTPROMPT_PORT sets the port, an option overrides it."""
    monkeypatch.setenv("SOFTPROMPT_PORT", "9000")
    assert Settings().port == 9000
    assert Settings(port=9001).port == 9001


def test_settings_cannot_be_changed() -> None:
    """A setting is what it was when the server started."""
    with pytest.raises(ValidationError):
        Settings().port = 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"kv_budget": 0},
        {"kv_budget": "much"},
        {"max_norm": float("inf")},
        {"api_key": ""},
        {"api_key": "short"},
        {"api_key": f"{KEY},,"},
        {"host": "0.0.0.0"},  # noqa: S104 - refused, that is the point
        {"host": "example.org"},
        {"host": "::"},
        {"no_such_setting": 1},
        {"cors_origins": "*"},
        {"cors_origins": "https://a.example/", "api_key": KEY},
        {"cors_origins": "https://a.example/page", "api_key": KEY},
        {"cors_origins": "HTTPS://a.example", "api_key": KEY},
        {"cors_origins": "a.example", "api_key": KEY},
        {"cors_origins": "null", "api_key": KEY},
        {"cors_origins": "", "api_key": KEY},
        {"cors_origins": "*,https://a.example", "api_key": KEY},
        {"cors_origins": "https://*.example", "api_key": KEY},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    """Negative limits, empty or short keys, an open address without keys, unknown names."""
    with pytest.raises(ValidationError):
        Settings(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_an_open_address_needs_keys_or_insecure() -> None:
    """Whoever opens the server to others says how they are kept out, or that they are not."""
    open_address = "0.0.0.0"  # noqa: S104 - with keys
    assert Settings(host=open_address, api_key=(SecretStr(KEY),)).closed
    assert not Settings(host=open_address, insecure=True).closed


def test_several_keys_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keys can stand beside each other while one is being replaced; neither is shown."""
    monkeypatch.setenv("SOFTPROMPT_API_KEY", f"{KEY}, {KEY}1")
    settings = Settings()
    assert len(settings.api_key) == 2
    assert KEY not in repr(settings)


def test_keys_are_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One a line or separated by commas."""
    (tmp_path / "keys").write_text(f"{KEY}\n{KEY}1,{KEY}2\n", encoding="utf-8")
    monkeypatch.setenv("SOFTPROMPT_API_KEY_FILE", str(tmp_path / "keys"))
    assert [key.get_secret_value() for key in Settings().api_key] == [KEY, f"{KEY}1", f"{KEY}2"]
    assert Settings().closed


@pytest.mark.parametrize(
    ("content", "more", "wanted"),
    [
        (None, {}, "cannot be read: No such file"),
        (b"\n", {}, "holds no key"),
        (b"hunter2", {}, "at least 16 characters"),
        (b"hunter2-\xff\xfe-0123456789", {}, "is no text"),
        (KEY.encode(), {"api_key": f"{KEY}9"}, "both set"),
    ],
)
def test_a_file_that_holds_no_key_is_named(
    content: bytes | None, more: dict[str, Any], wanted: str, tmp_path: Path
) -> None:
    """Missing, empty, short, no text, or beside the variable; and never a part of a key."""
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ValidationError) as refused:
        Settings(api_key_file=str(tmp_path / "keys"), **more)
    assert wanted in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "number"), [("4096", 4096), ("512M", 512 * 2**20), ("2GiB", 2 * 2**30), ("1kb", 1024)]
)
def test_sizes_are_written_as_people_do(text: str, number: int) -> None:
    """K, M, G and T count in 1024s."""
    assert Settings(kv_budget=text).kv_budget == number  # type: ignore[arg-type]  # as the environment gives it


@pytest.mark.parametrize("text", ["4XB", "-1", "1.5G", ""])
def test_what_is_no_size_is_told_how_one_looks(text: str) -> None:
    """And not what an integer is."""
    with pytest.raises(BadSettings, match="kv_budget: a number of bytes is wanted, or one with its unit: 512M, 4GiB"):
        read({"kv_budget": text})


def test_a_mistyped_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit with a typo must not be ignored in silence."""
    monkeypatch.setenv("SOFTPROMPT_KV_BUGDET", "1")
    assert unknown_variables() == ["SOFTPROMPT_KV_BUGDET"]
    monkeypatch.setenv("SOFTPROMPT_NOTHING_LIKE_IT", "1")
    with pytest.raises(BadSettings) as refused:
        read({})
    assert refused.value.lines == [
        "SOFTPROMPT_KV_BUGDET is not a setting; did you mean SOFTPROMPT_KV_BUDGET?",
        "SOFTPROMPT_NOTHING_LIKE_IT is not a setting",
    ]


def test_a_wrong_setting_has_the_name_that_it_was_given_under(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable's, or the option's, which wins."""
    for name in ("PORT", "THREADS"):
        monkeypatch.setenv(f"SOFTPROMPT_{name}", "many")
    with pytest.raises(BadSettings) as refused:
        read({"port": -1})
    assert [line.partition(":")[0] for line in refused.value.lines] == ["port", "SOFTPROMPT_THREADS"]


@pytest.mark.parametrize("host", ["http://models.example", "models.example:8000", "*", ""])
def test_a_host_is_a_name_alone(host: str) -> None:
    """One that no Host header will ever be would shut everybody out."""
    with pytest.raises(BadSettings, match="allowed_hosts: a host is a name or an address alone"):
        read({"allowed_hosts": f"localhost,{host}"})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])
def test_loopback_is_recognised(host: str) -> None:
    """Every spelling of this machine."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org", ""])  # noqa: S104 - refused, that is the point
def test_everything_else_is_open(host: str) -> None:
    """A name that is no address may lead anywhere."""
    assert not is_loopback(host)
