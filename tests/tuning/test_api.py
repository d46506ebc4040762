"""One call from rows to a prompt file."""

from pathlib import Path

import pytest

from prompt_store.prompt import parse
from tests.models import save
from tests.tuning.conftest import examples, frozen, write_rows
from tuning import tune
from tuning.examples import DataError
from tuning.methods import METHODS, MethodName

ROWS = [{**one.inputs, "target": one.target} for one in examples()]


@pytest.mark.parametrize("method", METHODS)
def test_rows_become_a_prompt_file(tmp_path: Path, method: MethodName) -> None:
    """Of every method that is served; a yardstick says that it is none."""
    found = tune(ROWS, model=frozen(), template="{text} Intent:", method=method, length=3, steps=4, evaluate_every=2)
    assert set(found.figures) == {"accuracy", "loss"}
    kind = METHODS[method].kind
    if kind is None:
        with pytest.raises(ValueError, match="yardstick"):
            found.save(tmp_path / "none.safetensors")
    else:
        assert parse(found.save(tmp_path / "a.safetensors").read_bytes()).metadata.kind == kind


def test_a_file_and_a_directory_do_as_well(tmp_path: Path) -> None:
    """Whoever watches sees the events."""
    seen: list[object] = []
    rows = write_rows(tmp_path / "rows.jsonl")
    base = save(tmp_path / "base")
    found = tune(rows, model=base, template="{text} Intent:", steps=3, length=2, held_out=ROWS[:5], watch=seen.append)
    assert len(seen) >= 4
    assert found.report["held_out_rows"] == 5


def test_rows_that_are_none_are_named() -> None:
    """By their number in the list."""
    with pytest.raises(DataError, match="row"):
        tune([*ROWS, {"text": "no target"}], model=frozen(), template="{text}")
    with pytest.raises(DataError, match="line 25: expected an object"):
        tune([*ROWS, 5], model=frozen(), template="{text}")  # type: ignore[list-item]  # what a notebook may pass


def test_a_method_that_is_none_is_refused_by_name() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match="method is none of prompt_tuning"):
        tune([], model=frozen(), template="{text}", method="prefx")  # type: ignore[arg-type]
