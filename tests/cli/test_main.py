"""The command as a whole: names, helps in one style, what is loaded when, and a shell that completes."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import COMMANDS, Lazily, app
from tests.cli.conftest import COMMAND, SECONDS, Softprompt, environment
from tests.server.site import Site

HEAVY = {"torch", "transformers", "fastapi"}


def command(name: str) -> Any:
    group = typer.main.get_command(app)
    assert isinstance(group, Lazily)
    with group.make_context("softprompt", ["--help"], resilient_parsing=True) as context:
        return group.get_command(context, name)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_as_it_is_written(name: str) -> None:
    """The list is made without importing what it names; so it is held to that here."""
    place = COMMANDS[name]
    function = getattr(import_module(place.module), place.function or name)
    assert (inspect.getdoc(function) or "").splitlines()[0] == place.help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does_in_a_sentence(name: str) -> None:
    """One style: a capital letter or a name in front, a full stop behind."""
    found = command(name)
    wrong = [p.name for p in found.params if not re.fullmatch(r"[A-Za-z0-9`].*\.", p.help or "", re.DOTALL)]
    assert not wrong


def test_the_version_is_the_packages(softprompt: Softprompt) -> None:
    """On stdout, alone."""
    assert softprompt("--version").stdout == version("softprompt-server") + "\n"


def test_help_lists_every_command_and_no_command_is_exit_code_2(softprompt: Softprompt) -> None:
    """As is one that is none."""
    listed = softprompt("--help")
    assert listed.returncode == 0
    assert not [name for name in COMMANDS if f" {name} " not in listed.stdout]
    assert softprompt().returncode == 2
    assert softprompt("genrate").returncode == 2


@pytest.mark.parametrize(
    "arguments", [["--help"], ["tasks", "--help"], ["generate", "--help"], ["bench", "--help"]], ids=str
)
def test_who_only_asks_waits_for_nothing_heavy(arguments: list[str]) -> None:
    """No torch, no server."""
    code = "import sys; from cli.main import app\ntry: app()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stderr.split())


@pytest.fixture
def shell(site: Site, tmp_path: Path) -> Iterator["Shell"]:
    found = Shell(site.url, tmp_path)
    yield found
    found.end()


class Shell:
    """An interactive bash on a terminal of its own, with the completion that the command shows."""

    def __init__(self, url: str, home: Path) -> None:
        script = subprocess.run(
            ["bash", "-c", f"{COMMAND} --show-completion; exit $?"], env=environment(url),
            capture_output=True, text=True, check=True, timeout=SECONDS,
        ).stdout  # fmt: skip
        (home / "rc").write_text(
            f"PS1='ready>'\nbind 'set bell-style none'\nbind 'set show-all-if-ambiguous on'\n{script}"
        )
        path = f"{COMMAND.parent}:{os.environ['PATH']}"
        self._terminal, theirs = os.openpty()
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--rcfile", home / "rc", "-i"],
            env={**environment(url), "PATH": path, "TERM": "dumb", "HOME": str(home)},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._until("ready>")

    def press_tab(self, typed: str, wanted: str) -> str:
        """What the shell shows once `wanted` is on the screen."""
        os.write(self._terminal, f"{typed}\t".encode())
        return self._until(wanted)

    def end(self) -> None:
        os.write(self._terminal, b"\x15exit\n")
        self._process.wait(SECONDS)
        os.close(self._terminal)

    def _until(self, wanted: str) -> str:
        seen = ""
        while wanted not in seen:
            seen += os.read(self._terminal, 65536).decode(errors="replace")
        return seen


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("softprompt doc", "softprompt doctor "),
        ("softprompt --vers", "softprompt --version "),
        ("softprompt generate --dry", "softprompt generate --dry-run "),
        ("softprompt tasks --kind pre", "softprompt tasks --kind prefix "),
        ("softprompt pull complete-me", "softprompt pull complete-me-please "),
    ],
)
def test_bash_completes(shell: Shell, site: Site, typed: str, wanted: str) -> None:
    """Commands, options, choices, and the ids of the tasks that a running server has."""
    site.publish("complete-me-please")
    assert shell.press_tab(typed, wanted)


def test_a_shell_is_not_bothered_by_a_server_that_is_not_there(softprompt: Softprompt) -> None:
    """No ids, no words."""
    asked = {"_SOFTPROMPT_COMPLETE": "complete_bash", "COMP_WORDS": "softprompt rm x", "COMP_CWORD": "2"}
    done = softprompt(SOFTPROMPT_URL="http://127.0.0.1:1", **asked)
    assert (done.stdout.strip(), done.stderr) == ("", "")
