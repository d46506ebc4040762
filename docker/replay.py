"""Replays docker/Dockerfile where no Docker daemon is: `python docker/replay.py [--no-start]`, on Linux, as root.

Every stage runs in a throw-away overlay over this machine's root, its Python standing in for the base image's; every
RUN line runs there with only the image's environment. Then the entry point is started as the image's user until the
HEALTHCHECK succeeds, and has to end by itself on the stop signal. Knows the instructions that our Dockerfile uses, and
refuses others.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHON = Path(sys.base_prefix).resolve() / "bin" / "python"
SYSTEM_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED_ON = re.compile(r"(PIP_|HTTPS?_PROXY|SSL_CERT|REQUESTS_CA)", re.IGNORECASE)
"""What a build machine's pip may need to find packages; not part of the image."""

DESCRIBED = {"EXPOSE", "VOLUME", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
"""Recorded, not run."""


@dataclass(frozen=True, slots=True)
class Instruction:
    word: str
    rest: str


@dataclass(slots=True)
class Stage:
    """One FROM: its root folder, and what its instructions have set so far."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": f"{PYTHON.parent}:{SYSTEM_PATH}"})
    folder: str = "/"
    user: str = "0:0"
    described: dict[str, str] = field(default_factory=dict)

    def inside(self, path: str) -> Path:
        return self.root / str(Path(self.folder) / path).lstrip("/")

    def command(self, arguments: list[str], environment: dict[str, str]) -> list[str]:
        """`arguments` in this stage's root, as its user, in its folder, with nothing but `environment`."""
        settings = [f"{name}={value}" for name, value in environment.items()]
        enter = ["env", f"--chdir={self.folder}", "-i", *settings, *arguments]
        return ["chroot", f"--userspec={self.user}", str(self.root), *enter]


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, continuation lines joined, comments dropped."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = (line.strip().split(None, 1) for line in joined.splitlines() if line.strip())
    return [Instruction(word.upper(), rest) for word, rest in found]


def overlay(scratch: Path, name: str) -> Path:
    """A writable copy of this machine's root whose changes live in `scratch` only."""
    upper, work, root = (scratch / name / part for part in ("upper", "work", "root"))
    for folder in (upper, work, root):
        folder.mkdir(parents=True)
    options = f"lowerdir=/,upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)], check=True)
    for system in ("dev", "proc"):
        subprocess.run(["mount", "--rbind", f"/{system}", str(root / system)], check=True)
    for parent in PYTHON.parents:  # an interpreter in somebody's home is closed to the image's user
        inside = root / str(parent).lstrip("/")
        inside.chmod(inside.stat().st_mode | 0o055)
    return root


def expand(text: str, environment: dict[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda match: environment.get(match[1], ""), text)


class Replay:
    """Builds the stages of one Dockerfile in order; the last one is the image."""

    def __init__(self, scratch: Path, build_arguments: dict[str, str]) -> None:
        self._scratch = scratch
        self._build_arguments = build_arguments
        self._stages: dict[str, Stage] = {}
        self.stage = Stage(Path("/"))

    def apply(self, instruction: Instruction) -> None:
        stage, rest = self.stage, instruction.rest
        match instruction.word:
            case "FROM":
                name = rest.split()[2] if " AS " in rest.upper() else "image"
                self.stage = self._stages[name] = Stage(overlay(self._scratch, name))
            case "ARG" | "ENV":
                for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', rest):
                    given = self._build_arguments.get(name) if instruction.word == "ARG" else None
                    stage.environment[name] = given or expand(value.strip('"'), stage.environment)
            case "WORKDIR":
                stage.folder = rest
                stage.inside(".").mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = rest
            case "COPY":
                self._copy(rest.split())
            case "RUN":
                passed = {name: value for name, value in os.environ.items() if PASSED_ON.match(name)}
                environment = {**stage.environment, "HOME": "/root", **passed}
                subprocess.run(stage.command(["/bin/sh", "-c", rest], environment), check=True)
            case word if word in DESCRIBED:
                stage.described[word] = rest
            case word:
                raise ValueError(f"{word} is not replayed: add it here")

    def _copy(self, arguments: list[str]) -> None:
        stage_names = [a.removeprefix("--from=") for a in arguments if a.startswith("--from=")]
        *sources, target = [a for a in arguments if not a.startswith("--")]
        origin = self._stages[stage_names[0]].root if stage_names else REPOSITORY
        into = self.stage.inside(target)
        for source in sources:
            found = origin / source.lstrip("/")
            if found.is_dir():
                unwanted = shutil.ignore_patterns("__pycache__")
                shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True, ignore=unwanted)
            else:
                (into if target.endswith("/") else into.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, into)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(image: Stage, arguments: list[str], seconds: float) -> float:
    """Seconds from the entry point's start to a successful HEALTHCHECK. Raises RuntimeError when either fails."""
    given = {"SOFTPROMPT_PORT": str(free_port()), "SOFTPROMPT_ADMIN_KEY": secrets.token_hex(16)}  # others reach it
    environment = {**image.environment, **given}
    entry = json.loads(image.described["ENTRYPOINT"]) + (arguments or json.loads(image.described["CMD"]))
    health = json.loads(image.described["HEALTHCHECK"].split("CMD", 1)[1])
    began = time.monotonic()
    with subprocess.Popen(image.command(entry, environment)) as server:
        try:
            while subprocess.run(image.command(health, environment), stderr=subprocess.DEVNULL, check=False).returncode:
                if server.poll() is not None or time.monotonic() - began > seconds:
                    raise RuntimeError(f"not healthy after {time.monotonic() - began:.0f} s")
                time.sleep(0.2)
            healthy = time.monotonic() - began
            server.send_signal(getattr(signal, image.described.get("STOPSIGNAL", "SIGTERM")))
            if code := server.wait(45):
                raise RuntimeError(f"the stop signal ended it with {code}")
        finally:
            server.kill()
    return healthy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build-arg", metavar="NAME=VALUE", action="append", default=[], help="as docker build's")
    parser.add_argument("--no-start", action="store_true", help="build only")
    parser.add_argument("--mounted", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="*", help="instead of the image's CMD")
    given = parser.parse_args()
    if not given.mounted:  # once more, with mounts that nobody else sees and that end with the process
        os.execvp("unshare", ["unshare", "--mount", sys.executable, __file__, "--mounted", *sys.argv[1:]])
    scratch = Path(tempfile.mkdtemp(prefix="replay-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90%", "tmpfs", str(scratch)], check=True)  # CUDA's 12 GB
    try:
        replay = Replay(scratch, dict(one.split("=", 1) for one in given.build_arg))
        for instruction in parse((REPOSITORY / "docker" / "Dockerfile").read_text(encoding="utf-8")):
            began = time.monotonic()
            replay.apply(instruction)
            sys.stdout.write(f"{time.monotonic() - began:6.1f} s  {instruction.word} {instruction.rest[:90]}\n")
            sys.stdout.flush()
        if not given.no_start:
            sys.stdout.write(f"healthy after {start(replay.stage, given.command, 120.0):.1f} s, stopped cleanly\n")
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(scratch)], check=True)
        scratch.rmdir()  # never recursively: the stages hold this machine's /dev


if __name__ == "__main__":
    main()
