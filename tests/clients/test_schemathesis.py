"""What schemathesis reports, and which refusals of good requests are known."""

from typing import Any

import pytest

from clients.results import HELD, page
from clients.schemathesis.checks import known
from clients.schemathesis.run import judged

GOOD: dict[str, Any] = {
    "operations": {"total": 40, "tested": 40},
    "test_cases": {"generated": 900},
    "failures": [],
    "errors": [],
    "seed": 1,
    "exit_code": 0,
}
FAILURE = {"code": "ST101", "title": "Server error", "count": 1, "operations": ["POST /generate"]}


def test_a_report_without_findings_is_no_fault() -> None:
    """Every operation was asked."""
    assert judged(GOOD).faults == []


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"failures": [FAILURE], "exit_code": 1}, "ST101 Server error: POST /generate"),
        ({"errors": [{"title": "Network Error", "count": 1}], "exit_code": 1}, "Network Error: 1"),
        ({"operations": {"total": 40, "tested": 39}}, "39 of 40 operations were tested"),
        ({"operations": {"total": 0, "tested": 0}}, "0 of 0 operations were tested"),
        ({"exit_code": 2}, "it ended with 2"),
    ],
)
def test_whatever_it_finds_is_a_fault(wrong: dict[str, Any], fault: str) -> None:
    """A failure, an error, an operation that was not asked, an end without a reason."""
    found = judged({**GOOD, **wrong})
    assert found.faults == [fault]
    where = {"commit": "abc", "cpu": "a processor", "cores": 2, "command": "python -m clients"}
    assert f"- {fault}" in page("schemathesis", found, {"schemathesis": "1"}, where)
    assert HELD not in page("schemathesis", found, {"schemathesis": "1"}, where)


@pytest.mark.parametrize(
    ("code", "param", "phase", "expected"),
    [
        ("invalid_request", "inputs", "fuzzing", True),
        ("invalid_request", "requests[3].inputs", "fuzzing", True),
        ("invalid_request", "stream", "fuzzing", False),
        ("invalid_request", None, "fuzzing", False),
        ("unknown_field", None, "fuzzing", False),
        ("bad_template", None, "fuzzing", True),
        ("bad_header", None, "fuzzing", True),
        ("invalid_request", "If-Match", "coverage", True),
        ("invalid_request", "If-Match", "fuzzing", False),
    ],
)
def test_a_refusal_is_known_by_code_and_field(code: str, param: str | None, phase: str, expected: bool) -> None:
    """Everything else that is refused although the document allows it is a fault of one of the two."""
    assert known({"code": code, "param": param}, phase) is expected
