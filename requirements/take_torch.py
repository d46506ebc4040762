"""Installs torch into the environment whose Python runs this, after comparing its file with torch.txt.

    python requirements/take_torch.py [URL of one more index]

pip alone cannot: PyTorch's own index has builds ("+cpu") that PyPI has not, and with hashes given pip would always take
PyPI's, on Linux gigabytes of CUDA. So the file is fetched as pip chooses, and then judged by its version. One that
torch.txt has (2.x.y is PyPI's) must be one of those files. A build that torch.txt has not is named with its sum: what
speaks for it is its index, over TLS. TORCH_UNRECORDED=refuse refuses that too. Knows only the standard library and pip.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import requires
from pathlib import Path

HERE = Path(__file__).resolve().parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


class NotRecorded(Exception):  # noqa: N818 - what it says, as every error of this project
    """A file that is not the recorded one."""


def recorded(lock: str) -> dict[str, set[str]]:
    """Version -> sha256 of its files, from the text of a lock file of torch."""
    found: dict[str, set[str]] = {}
    version = ""
    for line in lock.splitlines():
        if match := re.match(r"torch==([^\s\\;]+)", line):
            version = match[1]
        found.setdefault(version, set()).update(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return {version: sums for version, sums in found.items() if version}


def judge(file: Path, lock: str) -> str | None:
    """None for a file that `lock` has; what to say of one whose build it does not know. NotRecorded: it is another."""
    version = file.name.split("-")[1]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    known = recorded(lock).get(version)
    if known is None:
        return f"{file.name}: sha256 {digest} is not recorded in requirements/torch.txt; its index alone vouches for it"
    if digest not in known:
        raise NotRecorded(f"{file.name}: sha256 {digest} is none of the {len(known)} that are recorded; not installed")
    return None


def main() -> None:
    index = ["--retries", "1", "--timeout", "20", "--extra-index-url", sys.argv[1]] if any(sys.argv[1:]) else []
    lock = (HERE / "torch.txt").read_text(encoding="utf-8")
    (version, *_) = recorded(lock)
    with tempfile.TemporaryDirectory() as folder:
        fetch = [*PIP, "download", "--no-deps", "--only-binary", ":all:", "--dest", folder, *index]
        subprocess.run([*fetch, f"torch=={version.partition('+')[0]}"], check=True)
        (file,) = Path(folder).iterdir()
        try:
            doubt = judge(file, lock)
        except NotRecorded as error:
            sys.exit(str(error))
        if doubt is not None:
            sys.stderr.write(f"{doubt}\n")
            if os.environ.get("TORCH_UNRECORDED") == "refuse":
                sys.exit("refused, as TORCH_UNRECORDED says")
        subprocess.run([*PIP, "install", "--no-deps", str(file)], check=True)
    if any(re.match(r"nvidia|cuda|triton", line) for line in requires("torch") or ()):
        locked = ["install", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement"]
        subprocess.run([*PIP, *locked, str(HERE / "cuda.txt")], check=True)


if __name__ == "__main__":
    main()
