"""What holds for the repository as a whole and no linter says."""

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.checkout import ROOT, files, functions, python_files, text

LONGEST_FILE, LONGEST_FUNCTION, LARGEST_BYTES = 300, 50, 15 * 2**20
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BINARY = {".safetensors", ".png"}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def wanted() -> Iterator[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    yield from (Requirement(line) for group in groups for line in group)


def requirements_below(requirement: Requirement, seen: set[str]) -> Iterator[str]:
    """The requirement's name and those of everything it needs on this machine."""
    name = canonicalize_name(requirement.name)
    if name in seen or name not in pins():
        yield from () if name in seen else (name,)
        return
    seen.add(name)
    yield name
    for line in distribution(name).requires or ():
        below = Requirement(line)
        if below.marker is None or any(below.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
            yield from requirements_below(below, seen)


def calls(tree: ast.AST) -> Iterator[str]:
    """Dotted names of what is called."""
    yield from (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_every_requirement_has_a_pin_within_its_range() -> None:
    """constraints.txt names one version for each requirement of pyproject.toml, and the range allows it."""
    wrong = [str(r) for r in wanted() if not r.specifier.contains(pins().get(canonicalize_name(r.name), "0.dev0"))]
    assert not wrong


def test_every_package_that_comes_along_is_pinned() -> None:
    """What the requirements need in turn is pinned too, so that an install next year is today's."""
    seen: set[str] = set()
    names = [name for requirement in wanted() for name in requirements_below(requirement, seen)]
    assert not set(names) - set(pins())


def test_no_file_names_a_machine() -> None:
    """Paths of one machine have no place in a repository that others clone."""
    foreign = re.compile(r"(?<![\w.])/(?:work|root|home|opt/(?:wheels|pypi))/")
    allowed = {"docker/Dockerfile"}
    found = [
        f"{file}: {match[0]}"
        for file in files()
        if file.suffix not in BINARY and str(file) not in allowed
        for match in foreign.finditer(text(file))
    ]
    assert not found


def test_only_the_settings_read_the_environment() -> None:
    """In the rooms that are installed; what has to be set before torch is imported, or below Python, has a module."""
    found = [
        str(file)
        for file in python_files("server", "prompt_store", "tuning", "cli", "softprompt_client")
        if re.search(r"\bos\.(environ|getenv)\b", text(file))
        and str(file)
        not in {
            "prompt_store/endpoint.py",
            "server/config.py",
            "server/heap.py",
            "server/waiting.py",
            "server/engine/native/build.py",
            "server/engine/packing.py",
            "softprompt_client/settings.py",
        }
    ]
    assert not found


def test_files_and_functions_stay_short() -> None:
    """No Python file passes 300 lines and no function 50."""
    files_over = [str(file) for file in python_files() if len(text(file).splitlines()) > LONGEST_FILE]
    functions_over = [
        f"{file}:{node.lineno} {node.name}"
        for file in python_files()
        for node in functions(file)
        if (node.end_lineno or node.lineno) - node.lineno >= LONGEST_FUNCTION
    ]
    assert not files_over
    assert not functions_over


def test_every_test_says_what_it_shows() -> None:
    """A test function opens with a docstring that names the behaviour and ends like a sentence."""
    silent = [
        f"{file}:{node.lineno} {node.name}"
        for file in python_files("tests")
        for node in functions(file)
        if node.name.startswith("test_") and not re.fullmatch(r"[^\n].*?\.", ast.get_docstring(node) or "", re.DOTALL)
    ]
    assert not silent


def test_tests_neither_sleep_nor_mock() -> None:
    """Tests wait for conditions and stand in real things or fakes written by hand."""
    unwanted = re.compile(r"(?:time|asyncio|anyio)\.sleep|sleep|(?:\w+\.)*(?:Magic|Async)?Mock|(?:mock\.)?patch")
    found = [
        f"{file}: {name}"
        for file in python_files("tests")
        for name in calls(ast.parse(text(file)))
        if unwanted.fullmatch(name)
    ]
    assert not found


def test_every_exemption_has_its_reason_beside_it() -> None:
    """A `noqa` is followed by why."""
    bare = re.compile(r"#\s*noqa(?::\s*[A-Z0-9, ]+)?\s*$", re.MULTILINE)
    assert not [str(file) for file in python_files() if bare.search(text(file))]


def test_no_file_is_too_large_to_clone() -> None:
    """Weights come in shards of at most 15 MB."""
    assert not [str(file) for file in files() if (ROOT / file).stat().st_size > LARGEST_BYTES]


def test_every_tests_folder_is_a_package() -> None:
    """tests/server without an __init__.py above it would stand in for the real server."""
    folders = {parent for file in python_files("tests") for parent in file.parents if parent.parts}
    assert not [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").is_file()]


def test_the_engine_package_imports_nothing() -> None:
    """A re-export in server/engine/__init__.py would load torch wherever a request type is named."""
    assert (ROOT / "server" / "engine" / "__init__.py").read_text(encoding="utf-8") == ""


def test_what_measures_time_is_where_it_is_looked_for() -> None:
    """`make test` runs it last, and imports no more than has some."""
    sign = "pytest.mark." + "timed"
    marked = [file for file in python_files("tests") if sign in text(file)]
    (where,) = re.findall(r"^TIMED := (\S+)$", text(Path("Makefile")), re.MULTILINE)
    assert marked
    assert not [str(file) for file in marked if not file.is_relative_to(where)]


def test_continuous_integration_can_be_started() -> None:
    """.ci/run is executable and ends in `make test`."""
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert run.read_text(encoding="utf-8").rstrip().endswith("make test")
