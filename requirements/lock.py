"""Writes constraints.txt and the lock files beside this file: `make constraints`. Needs uv on the path, and PyPI.

Each locked line is one version with the sha256 of every file that PyPI has of it: wheels of all platforms and Pythons,
and the source. A package stands in the first set that wants it; who installs a set installs those it builds on too.
torch and what only its CUDA build needs stand apart, since torch may come from another index (take_torch.py).
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CONSTRAINTS = ROOT / "constraints.txt"
BUILD = ("editables", "hatchling")
"""What builds this project; installed like the rest, so that no build fetches anything by itself."""
SETS = {
    "serve": ((), ()),
    "report": (("serve",), ("report",)),
    "otel": (("serve",), ("otel",)),
    "bench": (("report",), ("report", "bench")),
    "dev": (("otel", "bench"), ("report", "bench", "otel", "test", "check")),
}
"""Of each set: those that it begins with, and the extras of pyproject.toml that it stands for."""
CUDA = re.compile(r"(nvidia|cuda)-|triton$")
TESTED = ("triton",)
"""Of those, what the tests want whichever torch there is: it stands in `dev` too."""
FOREIGN = re.compile(r"sys_platform == '(win32|emscripten|cygwin)'")
"""Markers of systems that are not served."""
PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)")


def compiled(*arguments: str, extras: Iterable[str] = (), more: Iterable[str] = ()) -> dict[str, str]:
    """What uv resolves pyproject.toml to, on every platform and Python: name -> its lines, without comments."""
    chosen = [f"--extra={extra}" for extra in extras]
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--fork-strategy=fewest"]
    command += ["--no-header", "--no-annotate", *chosen, *arguments, "pyproject.toml", "-"]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, input="\n".join(more)).stdout
    blocks = re.split(r"\n(?=\S)", told.strip())
    found = {match["name"]: block for block in blocks if (match := PIN.match(block))}
    return {name: block for name, block in found.items() if not FOREIGN.search(block.partition("\\")[0])}


def homes(names: dict[str, set[str]]) -> dict[str, list[str]]:
    """Each set's own packages: those that no set before it has."""
    seen: set[str] = set()
    own = {}
    for each in SETS:
        own[each] = sorted(names[each] - seen)
        seen |= names[each]
    return own


def header(what: str) -> str:
    return f"# Written by 'make constraints' (lock.py): {what}\n"


def builds(version: str) -> list[str]:
    """What somebody added to torch.txt: sums of other indexes' builds ("+cpu") of this version."""
    blocks = re.split(r"\n(?=\S)", (HERE / "torch.txt").read_text(encoding="utf-8").strip())
    return [block for block in blocks if block.startswith(f"torch=={version}+")]


def write(everything: dict[str, str], names: dict[str, set[str]]) -> None:
    cuda = {name for name in everything if CUDA.match(name)}
    apart = cuda | {"torch"}
    own_of = homes({each: found - apart for each, found in names.items()})
    own_of["dev"] = sorted({*own_of["dev"], *TESTED})
    for each, own in own_of.items():
        below = "".join(f"-r {one}.txt\n" for one in SETS[each][0])
        text = header(f"what '{each}' adds.") + below
        (HERE / f"{each}.txt").write_text(text + "".join(f"{everything[name]}\n" for name in own), encoding="utf-8")
    torch = "\n".join([everything["torch"], *builds(PIN.findall(everything["torch"])[0][1])])
    (HERE / "torch.txt").write_text(
        header("torch, as PyPI has it, and builds added by hand.") + f"{torch}\n", encoding="utf-8"
    )
    text = header("what PyPI's torch, a CUDA build on Linux, needs more.")
    (HERE / "cuda.txt").write_text(text + "".join(f"{everything[name]}\n" for name in sorted(cuda)), encoding="utf-8")
    pins = sorted(match[0] for name in everything.keys() - (cuda - {*TESTED}) if (match := PIN.match(everything[name])))
    CONSTRAINTS.write_text(
        "# Written by 'make constraints': every package of every extra, as resolved from pyproject.toml.\n"
        + "".join(f"{pin}\n" for pin in pins),
        encoding="utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the versions of constraints.txt; add what is new")
    kept = ["--constraint=constraints.txt"] if parser.parse_args().keep else []
    everything = compiled("--generate-hashes", *kept, extras=SETS["dev"][1], more=BUILD)
    pins = [match[0] for block in everything.values() if (match := PIN.match(block))]
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "pins.txt").write_text("\n".join(pins), encoding="utf-8")
    chosen = "--constraint=build/pins.txt"
    names = {each: set(compiled(chosen, extras=extras, more=BUILD)) for each, (_, extras) in SETS.items()}
    write(everything, names)
    sys.stdout.write(
        f"{len(everything)} packages, {sum(block.count('--hash') for block in everything.values())} hashes\n"
    )


if __name__ == "__main__":
    main()
