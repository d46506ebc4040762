"""Every row of README.md has a test of its id, and every such test has a row."""

import re
from pathlib import Path

from tests.checkout import functions, python_files, text

FOLDER = Path("tests/faults")
ROW = re.compile(r"^\| ([PWDCORXNL]\d+) \| .* \| `test_([a-z]\d+)_` \|$", re.MULTILINE)
IDS = re.compile(r"test_((?:[pwdcorxnl]\d+_)+)")


def test_every_row_is_tried() -> None:
    """By a test that says its id and is neither skipped nor expected to fail by a mark."""
    rows = ROW.findall(text(FOLDER / "README.md"))
    assert all(row.lower() == named for row, named in rows)
    found = [
        (file, named)
        for file in python_files("tests")
        for node in functions(file)
        if file.parent == FOLDER and (ids := IDS.match(node.name))
        for named in ids[1].rstrip("_").split("_")
    ]
    assert {named for _, named in found} == {named for _, named in rows}
    assert not [file for file, _ in found if re.search(r"mark\.(?:skip|xfail)", text(file))]
