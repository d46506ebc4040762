"""Where what is installed comes from: locks with sums, a bill of what is served with, bounds above vulnerabilities."""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from requirements import sbom
from requirements.take_torch import NotRecorded, judge, recorded
from server.advisories import ADVISORIES
from tests.checkout import ROOT

LOCKS = ("serve", "report", "otel", "bench", "dev", "torch", "cuda")
PIN = re.compile(r"^([\w.-]+)==([^\s;\\]+)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[str]:
    """A lock's requirements, each with its hashes."""
    return [block for block in re.split(r"\n(?=\S)", text(f"requirements/{name}.txt")) if PIN.match(block)]


def constraints() -> dict[str, str]:
    return dict(PIN.findall(text("constraints.txt")))


def test_every_locked_package_has_hashes() -> None:
    """A line without would make pip refuse the whole file; a wheel and a source, or a wheel alone, is what PyPI has."""
    every = [block for name in LOCKS for block in blocks(name)]
    assert len(every) > 100
    assert not [block.splitlines()[0] for block in every if not HASH.search(block)]


def test_the_locks_and_the_constraints_are_one_set_of_versions() -> None:
    """Each pin of constraints.txt stands in one lock; CUDA's libraries, which torch names exactly, in theirs alone."""
    pinned = [PIN.findall(block)[0] for name in LOCKS if name != "cuda" for block in blocks(name)]
    assert len(pinned) == len(dict(pinned))
    assert dict(pinned) == constraints()


def test_every_requirement_is_locked_in_the_set_that_installs_it() -> None:
    """A package that was added to pyproject.toml and not to the locks is told here, before an install lacks it."""
    project = tomllib.loads(text("pyproject.toml"))
    extras = project["project"]["optional-dependencies"]
    sets = {"serve": ["torch"], "report": [], "otel": [], "bench": [], "dev": []}
    for name, found in sets.items():
        found += [PIN.findall(block)[0][0] for block in blocks(name)]
    wanted = {
        "serve": project["project"]["dependencies"] + project["build-system"]["requires"],
        "report": extras["report"],
        "otel": extras["otel"],
        "bench": extras["bench"],
        "dev": extras["test"] + extras["check"],
    }
    below = {
        "report": ["serve"],
        "otel": ["serve"],
        "bench": ["serve", "report"],
        "dev": ["serve", "report", "otel", "bench"],
    }
    missing = [
        line
        for name, lines in wanted.items()
        for line in lines
        if canonicalize_name(Requirement(line).name)
        not in {p for each in [name, *below.get(name, [])] for p in sets[each]}
    ]
    assert not missing


def tiny(folder: Path) -> str:
    """A wheel of its own in `folder`; its sha256."""
    wheel, info = folder / "tiny-1.0-py3-none-any.whl", "tiny-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("tiny.py", "")
        packed.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        packed.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        packed.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def locked_flags() -> list[str]:
    """What `make` gives pip to install a lock with, from the Makefile."""
    (line,) = re.findall(r"^LOCKED := \$\(PIP\) install (.+) --requirement$", text("Makefile"), re.MULTILINE)
    return str(line).replace('"$(ONLY_BINARY)"', ":all:").split()


def install(folder: Path, sums: str) -> subprocess.CompletedProcess[str]:
    """As `make` does, from `folder` alone and into a folder of its own."""
    lock = folder / "lock.txt"
    lock.write_text(f"tiny==1.0 --hash=sha256:{sums}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(folder)]
    pip += ["--target", str(folder / "target")]
    return subprocess.run(
        [*pip, *locked_flags(), "--requirement", str(lock)], capture_output=True, text=True, check=False
    )


def test_a_file_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    """With the flags of the Makefile: the right sum installs, one wrong digit does not."""
    sums = tiny(tmp_path)
    wrong = install(tmp_path, ("1" if sums[0] == "0" else "0") + sums[1:])
    assert wrong.returncode != 0
    assert "DO NOT MATCH" in wrong.stderr
    assert not (tmp_path / "target" / "tiny.py").exists()
    right = install(tmp_path, sums)
    assert right.returncode == 0, right.stderr
    assert (tmp_path / "target" / "tiny.py").exists()


@pytest.mark.parametrize("name", ["Makefile", "docker/Dockerfile"])
def test_nothing_is_installed_past_the_locks(name: str) -> None:
    """What `make install`, `make test` and the image install: locks, torch by its own check, and this project alone."""
    lines = [line for line in text(name).splitlines() if "pip install" in line or "$(PIP) install" in line]
    own = "--no-deps --no-build-isolation"
    apart = ("build/resolve/", "build/fuzz-header/", "No native kernels")
    assert not [
        line
        for line in lines
        if "--require-hashes --no-deps" not in line and own not in line and not any(a in line for a in apart)
    ]
    assert len([line for line in lines if "--require-hashes" in line]) == 1
    assert "requirements/take_torch.py" in text(name)


LOCK = "torch==2.13.0 \\\n    --hash=sha256:{sums}\n"


def wheel(folder: Path, version: str) -> Path:
    path = folder / f"torch-{version}-cp311-cp311-linux_x86_64.whl"
    path.write_bytes(b"a build")
    return path


def test_torch_from_pypi_is_one_of_the_recorded_files(tmp_path: Path) -> None:
    """Its version is in the lock, so its sum has to be."""
    sums = hashlib.sha256(b"a build").hexdigest()
    assert judge(wheel(tmp_path, "2.13.0"), LOCK.format(sums=sums)) is None
    with pytest.raises(NotRecorded, match=sums):
        judge(wheel(tmp_path, "2.13.0"), LOCK.format(sums="0" * 64))


def test_a_build_of_torch_that_nobody_recorded_is_named(tmp_path: Path) -> None:
    """PyTorch's own index has other builds than PyPI: the sum is said, and who vouches for it."""
    said = judge(wheel(tmp_path, "2.13.0+cpu"), LOCK.format(sums="0" * 64))
    assert said is not None
    assert hashlib.sha256(b"a build").hexdigest() in said


def test_the_lock_of_torch_is_of_the_pinned_version() -> None:
    """Its first version is what take_torch.py asks pip for."""
    assert next(iter(recorded(text("requirements/torch.txt")))) == constraints()["torch"]


def test_what_is_installed_lacks_nothing() -> None:
    """The locks are installed without looking at what packages ask for; pip looks afterwards."""
    found = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def lowest(requirement: Requirement) -> Version:
    return max(
        (Version(one.version) for one in requirement.specifier if one.operator in {">=", "==", "~="}),
        default=Version("0"),
    )


def test_no_range_admits_a_version_with_a_known_vulnerability() -> None:
    """Every package of server/advisories.py is a requirement, from its first sound version on, and pinned above it."""
    lines = tomllib.loads(text("pyproject.toml"))["project"]["dependencies"]
    bounds = {canonicalize_name(r.name): lowest(r) for r in map(Requirement, lines)}
    assert not [a for a in ADVISORIES if bounds.get(canonicalize_name(a.package), Version("0")) < Version(a.fixed)]
    assert not [a for a in ADVISORIES if Version(constraints()[a.package]) < Version(a.fixed)]


@pytest.fixture
def bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["sbom", str(tmp_path)])
    sbom.main()
    found: dict[str, Any] = json.loads((tmp_path / "sbom.json").read_text(encoding="utf-8"))
    found["licences"] = (tmp_path / "licences.txt").read_text(encoding="utf-8").splitlines()
    return found


def test_the_bill_names_every_package_with_version_licence_and_hash(bill: dict[str, Any]) -> None:
    """Each requirement and all that comes along, in CycloneDX, and the same licences as a list."""
    parts = {part["name"]: part for part in bill["components"]}
    wanted = {
        canonicalize_name(Requirement(line).name)
        for line in tomllib.loads(text("pyproject.toml"))["project"]["dependencies"]
    }
    assert bill["bomFormat"] == "CycloneDX"
    assert wanted <= parts.keys()
    assert len(bill["licences"]) == len(parts) > len(wanted)
    for name, part in parts.items():
        assert part["version"].partition("+")[0] == constraints()[name]
        assert part["licenses"], name
        assert all(sums["alg"] == "SHA-256" for each in part["externalReferences"] for sums in each["hashes"])
        assert any(each["hashes"] for each in part["externalReferences"])
    assert not [line for line in bill["licences"] if line.endswith(": ")]
