"""Rows of a data file as examples: the template's fields are the inputs, one more field is the target.

Knows JSONL and CSV; not what a template, a token or a label is. A bad line is named by its number and a reason, and
nothing is dropped in silence; reasons name fields and types, never a value.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST = 200
"""Characters of a reason."""
NAMED_LINES = 20
"""How many bad lines a message names before it only counts."""
ALIKE = 3
"""More rows than this with one and the same fault are told in one line."""
BAD_LINES = 1000
"""After so many a file is read no further."""
LONGEST_LINE = 2**20
"""Bytes: whoever parses a line keeps all other threads of the process waiting meanwhile."""
LONGEST = 1_000_000
"""Characters of a field: no context holds more, and a tokenizer would take minutes to say so."""

Pace = Callable[[], None]

_EXTRA = "\0extra"  # csv.DictReader's key for cells behind the last column; no header can hold it


@dataclass(frozen=True, slots=True)
class Example:
    """`inputs` is field name to text, `target` the answer that should follow; `line` is where a file held it."""

    inputs: Mapping[str, str]
    target: str
    line: int = 0


class RowError(Exception):
    """Why one row is none. `plain`: the same without names, for whoever may not repeat what came."""

    def __init__(self, reason: str, plain: str | None = None) -> None:
        super().__init__(reason[:MOST])
        self.plain = plain or reason


class DataError(Exception):
    """A data file that cannot be learnt from; `lines` holds (line number from 1, reason).

    `plain`: what is wrong, without names.
    """

    def __init__(self, message: str, lines: Sequence[tuple[int, str | RowError]] = ()) -> None:
        self.lines = tuple((number, str(reason)) for number, reason in lines)
        self.plain = _named(message, [(n, one.plain if isinstance(one, RowError) else one) for n, one in lines])
        super().__init__(_named(message, self.lines))


def _named(message: str, lines: Sequence[tuple[int, str]]) -> str:
    reasons = {reason for _, reason in lines}
    if len(lines) > ALIKE and len(reasons) == 1:
        return f"{message}\n  line {lines[0][0]}: {lines[0][1]}\n  and the other {len(lines) - 1} likewise"
    named = [f"line {number}: {reason}" for number, reason in lines[:NAMED_LINES]]
    if len(lines) > NAMED_LINES:
        named.append(f"and {len(lines) - NAMED_LINES} more")
    return "\n  ".join([message, *named])


def example(row: object, fields: Sequence[str], target: str, line: int) -> Example:
    """One row, raising RowError with the reason it is none. Fields that the template does not name are ignored."""
    if not isinstance(row, dict):
        raise RowError(f"expected an object, got {_kind(row)}")
    values: dict[str, str] = {}
    for place, name in enumerate((*fields, target), start=1):
        role = f"field {place} of the template" if place <= len(fields) else "the target's field"
        if name not in row:
            has = ", ".join(map(repr, row)) or "none"
            raise RowError(f"field {name!r} is missing; the row has {has}", f"{role} is missing")
        if not isinstance(row[name], str):
            got = f"expected text, got {_kind(row[name])}"
            raise RowError(f"field {name!r}: {got}", f"{role}: {got}")
        if len(row[name]) > LONGEST:
            longer = f"has more than {LONGEST} characters"
            raise RowError(f"field {name!r} {longer}", f"{role} {longer}")
        values[name] = row[name]
        if not _is_unicode(row[name]):
            broken = "holds half a surrogate pair"
            raise RowError(f"field {name!r} {broken}", f"{role} {broken}")
    if not values[target].strip():
        raise RowError(f"field {target!r} is empty", "the target is empty")
    return Example({name: values[name] for name in fields}, values[target], line)


def read(  # noqa: PLR0913, PLR0917 - of which most ask for three
    path: Path,
    fields: Sequence[str],
    target: str,
    most: int | None = None,
    name: str | None = None,
    pace: Pace | None = None,
) -> list[Example]:
    """Every row of a `.jsonl` or `.csv` file (UTF-8), in order. `name`: what messages call it, if not as the disk does.

    `pace` is called at each row: whoever does not want it any more raises there.

    Raises DataError, for more than `most` rows too, and FileNotFoundError. After BAD_LINES it reads no further.
    """
    name = name or path.name
    examples: list[Example] = []
    bad: list[tuple[int, RowError]] = []
    for number, row in _csv(path, name) if path.suffix.lower() == ".csv" else _json_lines(path):
        if pace is not None:
            pace()
        try:
            if isinstance(row, RowError):
                raise row
            examples.append(example(row, fields, target, number))
        except RowError as error:
            bad.append((number, error))
        if len(bad) == BAD_LINES:
            raise DataError(f"{name}: {BAD_LINES} rows or more cannot be read", bad)
        if most is not None and len(examples) > most:
            raise DataError(f"{name}: more than {most} rows")
    if bad:
        raise DataError(f"{name}: {len(bad)} of {len(bad) + len(examples)} rows cannot be read", bad)
    if not examples:
        raise DataError(f"{name}: no rows")
    return examples


def _json_lines(path: Path) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield number, _parsed(line)


def _lines(path: Path) -> Iterator[bytes]:
    """Raises DataError for one that is too long."""
    with path.open("rb") as file:
        number = 1
        while line := file.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise DataError("the file cannot be read", [(number, f"longer than {LONGEST_LINE} bytes")])
            yield line
            number += 1


def _parsed(line: bytes) -> object:
    try:
        parsed: object = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_object)
    except UnicodeDecodeError:
        return RowError("not UTF-8")
    except json.JSONDecodeError as error:
        return RowError(f"not JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return RowError("not JSON: nested too deep")
    except ValueError:
        return RowError("not JSON: a number of too many digits")
    except RowError as error:
        return error
    return parsed


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RowError("a field stands twice")
    return found


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _csv(path: Path, name: str) -> Iterator[tuple[int, object]]:
    try:
        reader = csv.DictReader(_decoded(_lines(path)), restkey=_EXTRA, strict=True)
        columns = reader.fieldnames or ()
        if len(set(columns)) < len(columns):
            raise DataError(f"{name}: a column stands twice")
        for row in reader:
            yield reader.line_num, _cells(row)
    except UnicodeDecodeError:
        raise DataError(f"{name}: not UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{name}: not CSV", [(reader.line_num, str(error))]) from None


def _decoded(lines: Iterator[bytes]) -> Iterator[str]:
    """Without a byte order mark in front."""
    for place, line in enumerate(lines):
        yield line.decode("utf-8" if place else "utf-8-sig")


def _cells(row: dict[str, Any]) -> object:
    missing = sum(value is None for value in row.values())
    extra = len(row.pop(_EXTRA, ()))
    if missing or extra:
        return RowError(f"expected {len(row)} cells, got {len(row) - missing + extra}")
    return row


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
