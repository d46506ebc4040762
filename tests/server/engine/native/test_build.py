"""The kernels are compiled where that is possible, used only if they are of this source, and missed where not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from server.engine.native import binding, build

NONE = "they were not compiled when this was installed, for want of gcc"
needs_compiler = pytest.mark.skipif(not build.LIBRARY.is_file(), reason="no native kernels: no C compiler here?")


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """What was loaded before does not count."""
    binding._library.cache_clear()


@needs_compiler
def test_compiling_makes_a_library_of_this_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves nothing beside it; without optimization, which takes half a minute and is seen when this is set up."""
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-O0"))
    target = tmp_path / "kernels.so"
    build.compile_kernels(target)
    assert build.digest().encode() in target.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["kernels.so"]
    before = target.stat().st_mtime_ns
    build.compile_kernels(target)
    assert target.stat().st_mtime_ns == before, "it is there already"


def test_no_compiler_is_said_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installation goes on without kernels."""
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(build.NotCompiled, match="no-such-compiler is not installed"):
        build.compile_kernels(tmp_path / "kernels.so")


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of what it said."""
    monkeypatch.setenv("CC", f"{sys.executable} -c 'raise SystemExit(\"cannot\")'")
    with pytest.raises(build.NotCompiled, match="failed: cannot"):
        build.compile_kernels(tmp_path / "kernels.so")
    assert not list(tmp_path.iterdir())


@needs_compiler
def test_a_library_of_another_source_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old one that an update left behind."""
    assert isinstance(binding.kernels(torch.float32, torch.device("cpu")), binding.NativeKernels)
    binding._library.cache_clear()
    monkeypatch.setattr(build, "digest", lambda: "0" * 64)
    assert binding.kernels(torch.float32, torch.device("cpu")) == "they were compiled from another source"


def test_without_a_library_there_are_no_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing one, and a file that is none."""
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "kernels.so")
    assert binding.kernels(torch.float32, torch.device("cpu")) == NONE
    for content in (b"no library", b"no library, " + build.digest().encode()):
        build.LIBRARY.write_bytes(content)
        binding._library.cache_clear()
        assert isinstance(binding.kernels(torch.float32, torch.device("cpu")), str)


@needs_compiler
def test_a_part_of_a_library_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken copy would end the process when it is mapped."""
    whole = build.LIBRARY.read_bytes()
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "kernels.so")
    for size in (4_000, len(whole) // 4, len(whole) // 2):
        build.LIBRARY.write_bytes(whole[:size])
        binding._library.cache_clear()
        assert binding.kernels(torch.float32, torch.device("cpu")) == "they were compiled from another source"


@needs_compiler
def test_its_threads_are_torchs_own() -> None:
    """One OpenMP library in the process, whichever gcc would have linked: two teams would fight for the cores."""
    code = (
        "import torch, re, pathlib\n"
        "from server.engine.native.binding import kernels\n"
        "assert kernels(torch.float32, torch.device('cpu')).norm(torch.ones(99, 640), torch.ones(640), 0.0).sum() > 0\n"
        "print(len(set(re.findall(r'/\\S*lib(?:[gi]?omp)\\S*', pathlib.Path('/proc/self/maps').read_text()))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@needs_compiler
def test_it_links_no_openmp_of_its_own() -> None:
    """In a process that has none it cannot be loaded; where torch is, torch's is found, as in the image."""
    code = f"import ctypes, os\nctypes.CDLL({str(build.LIBRARY)!r}, mode=os.RTLD_NOW)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode
    assert re.search(r"undefined symbol: (omp_|GOMP_)", done.stderr)
