"""Data files: what is read, and how what cannot be read is named."""

from pathlib import Path

import pytest

from tuning.examples import DataError, Example, RowError, example, read


def test_jsonl_rows_become_examples_in_order(tmp_path: Path) -> None:
    """Fields by name; what the template does not name is left out."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a", "target": "x", "more": 1}\n\n{"text": "b", "target": "y"}\n', encoding="utf-8")
    assert read(file, ["text"], "target") == [Example({"text": "a"}, "x", 1), Example({"text": "b"}, "y", 3)]


def test_csv_rows_become_examples_in_order(tmp_path: Path) -> None:
    """Quoted cells may hold commas and line feeds; a row is named by its last line."""
    file = tmp_path / "rows.csv"
    file.write_text('text,label\n"a, and\nb",x\nc,y\n', encoding="utf-8")
    assert read(file, ["text"], "label") == [Example({"text": "a, and\nb"}, "x", 3), Example({"text": "c"}, "y", 4)]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path, name: str) -> None:
    """Spreadsheets write one."""
    text = "text,target\na,x\n" if name.endswith("csv") else '{"text": "a", "target": "x"}\n'
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert [(one.inputs, one.target) for one in read(tmp_path / name, ["text"], "target")] == [({"text": "a"}, "x")]


def test_a_csv_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Which one was meant cannot be known."""
    file = tmp_path / "rows.csv"
    file.write_text("text,text,target\na,b,x\n", encoding="utf-8")
    with pytest.raises(DataError, match="twice"):
        read(file, ["text"], "target")


def test_bad_lines_are_named_by_number_and_reason_without_their_text(tmp_path: Path) -> None:
    """Every kind of bad line, all at once, and no value of any."""
    file = tmp_path / "rows.jsonl"
    lines = ["not json: secret", "[1]", '{"target": "secret"}', '{"text": 3, "target": "secret"}']
    lines += ['{"text": "secret", "target": " "}', '{"text": "fine", "target": "x"}', "[" * 100_000]
    file.write_bytes("\n".join(lines).encode() + b'\n{"text": "\xff"}\n')
    with pytest.raises(DataError) as caught:
        read(file, ["text"], "target")
    assert [number for number, _ in caught.value.lines] == [1, 2, 3, 4, 5, 7, 8]
    reasons = str(caught.value)
    assert "7 of 8 rows cannot be read" in reasons
    assert "line 2: expected an object, got a list" in reasons
    assert "line 3: field 'text' is missing" in reasons
    assert "line 4: field 'text': expected text, got a number" in reasons
    assert "line 5: field 'target' is empty" in reasons
    assert "line 8: not UTF-8" in reasons
    assert "secret" not in reasons


def test_a_csv_row_of_another_width_is_named(tmp_path: Path) -> None:
    """Too few or too many cells."""
    file = tmp_path / "rows.csv"
    file.write_text("text,target\na\na,b,c\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)line 2: expected 2 cells, got 1.*line 3: expected 2 cells, got 3"):
        read(file, ["text"], "target")


def test_many_bad_lines_are_counted_not_listed(tmp_path: Path) -> None:
    """A message stays short, shorter still where all have the same fault."""
    file = tmp_path / "rows.jsonl"
    file.write_text("[]\n{}\n" * 500, encoding="utf-8")
    with pytest.raises(DataError, match="and 980 more") as caught:
        read(file, ["text"], "target")
    assert len(str(caught.value)) < 2000
    file.write_text("[]\n" * 1000, encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: expected an object, got a list\n  and the other 999 likewise$"):
        read(file, ["text"], "target")


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    """Nothing to learn from."""
    file = tmp_path / "rows.jsonl"
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="no rows"):
        read(file, ["text"], "target")


def test_reading_stops_where_a_file_is_hopeless_or_too_long(tmp_path: Path) -> None:
    """Whatever a stranger sends costs a bounded number of rows."""
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n" * 5000)
    with pytest.raises(DataError, match="1000 rows or more cannot be read") as raised:
        read(path, ["text"], "target")
    assert len(raised.value.lines) == 1000
    path.write_text('{"text": "a", "target": "x"}\n' * 4)
    assert len(read(path, ["text"], "target", most=4)) == 4
    with pytest.raises(DataError, match="more than 3 rows"):
        read(path, ["text"], "target", most=3)


def test_a_field_of_a_million_characters_is_the_longest() -> None:
    """One more is refused before a tokenizer sees it."""
    example({"text": "a" * 1_000_000, "target": "x"}, ["text"], "target", 1)
    with pytest.raises(RowError, match="has more than 1000000 characters"):
        example({"text": "a" * 1_000_001, "target": "x"}, ["text"], "target", 1)


@pytest.mark.parametrize(("name", "head"), [("rows.jsonl", ""), ("rows.csv", "text,target\n")])
def test_a_line_of_a_megabyte_is_the_longest(tmp_path: Path, name: str, head: str) -> None:
    """One more byte is refused before it is parsed: parsing keeps every other thread waiting."""
    path = tmp_path / name
    path.write_text(head + "," * (2**20 - 1) + "\n")
    with pytest.raises(DataError, match=r"cannot be read|not CSV"):
        read(path, ["text"], "target")
    path.write_text(head + "," * 2**20 + "\n")
    with pytest.raises(DataError, match=f"line {2 if head else 1}: longer than 1048576 bytes"):
        read(path, ["text"], "target")


def test_what_is_wrong_can_be_said_without_a_name(tmp_path: Path) -> None:
    """For whoever may not repeat what came: neither a field's name nor the row's others."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"secret": "a"}\n{"text": 3, "target": "x"}\n{"text": "a", "target": " "}\n')
    with pytest.raises(DataError) as raised:
        read(path, ["text"], "target")
    assert "'text'" in str(raised.value)
    assert "secret" in str(raised.value)
    plain = raised.value.plain
    assert [name in plain for name in ("text'", "secret", "'target'")] == [False] * 3
    assert "line 1: field 1 of the template is missing" in plain
    assert "line 2: field 1 of the template: expected text, got a number" in plain
    assert "line 3: the target is empty" in plain
