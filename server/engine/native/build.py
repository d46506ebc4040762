"""Compiles the kernels: at installation, and by `python server/engine/native/build.py`.

gcc on Linux only, with OpenMP but without linking it: the team of threads must be torch's own (`binding`). Knows
nothing but the standard library: torch is not there while a package is built.
"""

import hashlib
import os
import shlex
import shutil
import subprocess  # nosec B404  # a compiler is run
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LIBRARY = HERE / "kernels.so"
SOURCES = ("levels.c", "kernels.c", "blocks.inc", "rows.inc", "avx512bf16.inc", "amxbf16.inc", "int8.inc")
FLAGS = (
    "-std=gnu11",
    "-O2",
    "-ftree-vectorize",
    "-fopenmp",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-thread-jumps",
    "-fvisibility=hidden",
)
LANES = {0: 4, 3: 8, 4: 16}
"""Float32 numbers that a register holds, by level of the instruction set: 0 is any machine's."""
LEVELS_X86 = {
    0: ("-Wno-psabi",),
    3: ("-march=x86-64-v3", "-Wno-psabi"),
    4: ("-march=x86-64-v4", "-mprefer-vector-width=512", "-Wno-psabi"),
}
"""What makes gcc compile for each."""


class NotCompiled(Exception):  # noqa: N818 - what happened reads better than SomethingError
    """Why there will be no kernels."""


def digest() -> str:
    """Of what is compiled, and how: a library made of another source is never used."""
    parts = [(HERE / name).read_bytes() for name in SOURCES] + [repr((FLAGS, LANES, LEVELS_X86)).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def compile_kernels(target: Path = LIBRARY) -> None:
    """Compiles to `target`, unless that was done; it appears whole or not at all. Raises NotCompiled."""
    if not sys.platform.startswith("linux"):
        raise NotCompiled(f"no kernels for {sys.platform}")
    if target.is_file() and digest().encode() in target.read_bytes():
        return
    command = shlex.split(os.environ.get("CC", "gcc"))
    if shutil.which(command[0]) is None:
        raise NotCompiled(f"no C compiler: {command[0]} is not installed")
    levels = LEVELS_X86 if os.uname().machine == "x86_64" else {0: ()}
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        parts, whole = [Path(folder, "levels.o")], Path(folder, "kernels.so")
        source = f'-DSOURCE="{digest()}"'
        _run([*command, *FLAGS, source, "-c", str(HERE / "levels.c"), "-o", str(parts[0])])
        for level, flags in levels.items():
            parts.append(Path(folder, f"kernels-{level}.o"))
            own = f"-DLEVEL=v{level}", f"-DLANES={LANES[level]}"
            _run([*command, *FLAGS, *flags, *own, "-c", str(HERE / "kernels.c"), "-o", str(parts[-1])])
        _run([*command, "-shared", *map(str, parts), "-o", str(whole), "-lm"])
        whole.replace(target)


def _run(command: list[str]) -> None:
    # the compiler one chose
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - see above  # nosec B603
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise NotCompiled(f"{command[0]} failed: {said[0] if said else done.returncode}")


if __name__ == "__main__":
    try:
        compile_kernels()
    except NotCompiled as error:
        sys.exit(str(error))
