"""The table of errors is complete, and nothing is told that is not in it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import prompt_store
import server
from prompt_store import errors as store_errors
from prompt_store.errors import InputsError, OutcomeUnknown, PreconditionFailed, PromptError, StoreError, TaskDeleted
from prompt_store.task import Task
from server.errors import FILE_CODES, MAX_MESSAGE, RULES, Broken, Fault, Invalid, as_fault, table

LEAVES = [kind for kind in RULES if not kind.__subclasses__()]
TOMBSTONE = Task("t", 2, "delete", None, 0, None, False, 0, "op", 1, None)


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    for below in kind.__subclasses__():
        yield below
        yield from subclasses(below)


def raised(folder: Path, names: set[str]) -> set[tuple[str, str]]:
    """(class, code) of every `Class("code", ...)` in the sources."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
            if is_call and isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                code = node.args[0]
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    found.add((node.func.id, code.value))
    return found


def folder(module: object) -> Path:
    return Path(str(getattr(module, "__file__", ""))).parent


def test_every_leaf_of_the_tree_has_a_rule() -> None:
    """A fault that the table does not know cannot be raised."""
    leaves = {kind for kind in subclasses(Fault) if not kind.__subclasses__() and kind.__module__ == Fault.__module__}
    assert leaves == set(RULES)


def test_the_table_holds_exactly_the_codes_that_are_raised() -> None:
    """No code is missing from the table, none stands there for nothing."""
    names = {kind.__name__ for kind in LEAVES}
    found = raised(folder(server), names)
    from_store = {code for _, code in raised(folder(prompt_store), {"PromptError"})}
    from_store |= {code for name, code in raised(folder(server), {"PromptError"})}
    from_table = {(kind.__name__, code) for kind, rule in RULES.items() for code in rule.codes}
    told = {(name, code) for name, code in from_table if code not in FILE_CODES or name != "Unacceptable"}
    store_only = {("Missing", "task_not_found")}
    assert from_store == FILE_CODES
    assert told - found - store_only - _from_the_store_table() == set()
    assert found - from_table == set()


def _from_the_store_table() -> set[tuple[str, str]]:
    errors = [OutcomeUnknown("op"), PreconditionFailed(None), TaskDeleted(TOMBSTONE)]
    plain = [kind for kind in subclasses(StoreError) if kind not in {OutcomeUnknown, PreconditionFailed, TaskDeleted}]
    faults = [as_fault(error) for error in [*errors, *(kind() for kind in plain)]]
    return {(type(fault).__name__, fault.code) for fault in faults}


def test_every_error_of_the_store_has_a_fault() -> None:
    """Whatever the store raises, the client is told something that fits."""
    for kind in subclasses(StoreError):
        assert kind.__module__ == store_errors.__name__
    assert len(_from_the_store_table()) >= 9


@pytest.mark.parametrize("row", list(table()), ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_row_is_consistent(row: tuple[str, int, str, bool]) -> None:
    """Statuses are errors, only what is late, too much or unavailable is worth repeating."""
    code, status, kind, retryable = row
    assert 400 <= status <= 507
    assert kind.endswith("_error")
    assert retryable == (status in {408, 429, 503})
    assert code == code.lower()


def test_an_unknown_exception_says_nothing_of_itself() -> None:
    """Bugs are told without their message, which may hold input."""
    fault = as_fault(RuntimeError("the client's secret"))
    assert isinstance(fault, Broken)
    assert "secret" not in fault.message


def test_messages_are_bounded() -> None:
    """A message stays under 4 KB whatever is put into it."""
    assert len(Invalid("invalid_request", "x" * 10_000).message) == MAX_MESSAGE


def test_a_code_outside_the_table_cannot_be_raised() -> None:
    """A typo in a code is found by the first test that meets it."""
    with pytest.raises(KeyError):
        Invalid("not_in_the_table", "")


def test_inputs_and_files_keep_their_own_words() -> None:
    """What the store says of inputs is a 400, what it says of files a 422."""
    assert as_fault(InputsError("inputs lack text")).rule.status == 400
    assert as_fault(PromptError("wrong_shape", "expected 1, got 2")).rule.status == 422


def test_a_lost_precondition_shows_what_is_current() -> None:
    """The 412 carries the current digest, so that the client can decide again."""
    current = Task("t", 3, "publish", "ab" * 32, 1, None, True, 0, "op", 2, None)
    fault = as_fault(PreconditionFailed(current))
    assert fault.headers["ETag"] == f'"{"ab" * 32}"'
    assert "version is 3" in fault.message
