"""The table of README.md against the tests: no row without one, none that is skipped, no answer that is not ours."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.errors import table
from tests.attacks.table import Row, rows
from tests.checkout import files, text

FOLDER = Path("tests/attacks")
ROWS = {
    "U": set(range(1, 61)) - {13, 26, 32, 47},
    "G": set(range(1, 47)) - {14, 25, 45},
    "H": set(range(1, 33)) - {13, 17, 26, 29},
    "T": set(range(1, 10)),
}
"""Which there must be, by letter; another theme is another letter here, and rows in the README."""
NOT_RUN = ("skip", "xfail", "importorskip")
SUCCESSES = range(200, 300)
NOBODY = 499
"""In the log, of a client that has left: no answer."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def found_tests() -> Iterator[tuple[Path, Function]]:
    """Every test of a row, with its file."""
    for file in files():
        if file.parent == FOLDER and file.name.startswith("test_"):
            for node in ast.parse(text(file)).body:
                if isinstance(node, Function) and node.name[5:6].isupper():
                    yield file, node


def row_of(test: Function) -> str:
    return test.name[5:8]


def not_run(node: ast.AST) -> list[str]:
    """Marks and calls that keep a test from being run, or from counting."""
    names = [
        found.attr if isinstance(found, ast.Attribute) else found.id
        for found in ast.walk(node)
        if isinstance(found, ast.Attribute | ast.Name)
    ]
    return [name for name in names if name.startswith(NOT_RUN)]


def test_every_row_stands_in_the_table() -> None:
    """All ids of a letter, and no others."""
    wanted = {f"{letter}{number:02}" for letter, numbers in ROWS.items() for number in numbers}
    assert set(rows()) == wanted


def test_every_row_has_one_test() -> None:
    """Under its own id, in the file that the table names."""
    counted = Counter(row_of(test) for _, test in found_tests())
    assert counted == dict.fromkeys(rows(), 1)
    assert not [test.name for file, test in found_tests() if rows()[row_of(test)].file != file.name]


def test_no_row_is_left_out() -> None:
    """Neither a test nor its file is skipped or expected to fail, and none has cases that are."""
    assert not [(test.name, found) for _, test in found_tests() if (found := not_run(test))]
    marked = [
        (file.name, found)
        for file in {file for file, _ in found_tests()}
        for node in ast.parse(text(file)).body
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) and (found := not_run(node))
    ]
    assert not marked


@pytest.mark.parametrize("row", rows().values(), ids=rows())
def test_every_answer_is_one_of_ours(row: Row) -> None:
    """A status, with the code that the server has for it; a success has none."""
    ours = {(status, code) for code, status, *_ in table()}
    assert row.answers
    assert not [answer for answer in row.answers if not known(answer, ours)]


def known(answer: tuple[int, str], ours: set[tuple[int, str]]) -> bool:
    status, code = answer
    return answer in ours or (not code and (status in SUCCESSES or status == NOBODY))


@pytest.mark.parametrize(
    "source",
    [
        "@pytest.mark.skip(reason='x')\ndef test_U01_x(): ...",
        "@pytest.mark.skipif(True, reason='x')\ndef test_U01_x(): ...",
        "@mark.xfail\ndef test_U01_x(): ...",
        "@pytest.mark.parametrize('a', [pytest.param(1, marks=pytest.mark.xfail)])\ndef test_U01_x(a): ...",
        "def test_U01_x():\n    pytest.skip('x')",
        "pytestmark = pytest.mark.skip",
        "torch = pytest.importorskip('torch')",
    ],
)
def test_what_is_not_run_is_seen(source: str) -> None:
    """Each way there is to leave a test out."""
    assert not_run(ast.parse(source))
