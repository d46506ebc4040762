"""What a person may type, and a disk that is full: a line that says it, never a traceback."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, SECONDS, Softprompt, environment
from tests.server.site import Site


@pytest.mark.parametrize(
    "arguments",
    [
        ["base", "x", "--temperature", "nan"],
        ["base", "x", "--temperature", "inf"],
        ["base", "x", "--temperature", "-1"],
        ["base", "\udcff"],
        ["\udcff", "x"],
        ["base", '{"input": "\\ud800"}'],
    ],
    ids=ascii,
)
def test_what_cannot_be_sent_is_exit_code_2(softprompt: Softprompt, arguments: list[str]) -> None:
    """Told as any other argument that is none."""
    done = softprompt("generate", *arguments)
    assert (done.returncode, "Usage" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 20_000, '{"a": NaN}'], ids=["lists", "objects", "nan"])
def test_what_is_no_object_of_json_is_text(softprompt: Softprompt, text: str) -> None:
    """However much it looks like one."""
    done = softprompt("generate", "base", text, "--dry-run")
    assert "Traceback" not in done.stderr
    assert done.stdout == text + "\n" or "context_length_exceeded" in done.stderr


@pytest.mark.parametrize("out", ["out", "/dev/full", "-"])
def test_a_full_disk_is_told_in_a_line_and_the_lines_are_counted(site: Site, tmp_path: Path, out: str) -> None:
    """Exit code 1; what was written is whole, or goes on."""
    line = json.dumps({"task": "base", "inputs": "x", "parameters": {"max_new_tokens": 1}})
    (tmp_path / "in").write_text((line + "\n") * 200)
    target = "> /dev/full" if out == "-" else ""
    done = subprocess.run(
        ["bash", "-c", f'ulimit -f 20; "$0" generate --file in --out {out} {target}', COMMAND],
        cwd=tmp_path,
        env=environment(site.url),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    told, counted, stopped = done.stderr.splitlines()
    assert (done.returncode, "cannot be written" in told, "lines answered" in counted) == (1, True, True)
    assert stopped.startswith("softprompt: stopped")
