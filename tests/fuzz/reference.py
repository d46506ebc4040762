"""The rules of templates, written down a second time from the documents alone: letter by letter, nothing shared.

Knows the tokenizer of the small random bases, whose special tokens are told apart by their names.
"""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer

MOST_CHARACTERS, MOST_FIELDS, LONGEST_NAME = 32_768, 64, 64
FIRST, LATER = string.ascii_letters + "_", string.ascii_letters + string.digits + "_"
SPECIAL = re.compile(r"(<s>|</s>|<pad>)")
BOS = 0


class BadTemplateError(Exception):
    """Nothing that may be published."""


@dataclass(frozen=True, slots=True)
class Literal:
    text: str


@dataclass(frozen=True, slots=True)
class Name:
    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    rows: int


Part = Literal | Name | Slot


@dataclass(slots=True)
class Rendered:
    """`slots`: (position over the whole sequence, first row, rows); `ids` of text alone."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    slots: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(rows for _, _, rows in self.slots)


def parse(template: str, rows: int) -> list[Part]:
    """For a task of so many rows of kind embeddings; 0: of kind text. Raises BadTemplateError."""
    if len(template) > MOST_CHARACTERS:
        raise BadTemplateError
    parts: list[Part] = []
    at = 0
    while at < len(template):
        two = template[at : at + 2]
        if two in {"{{", "}}"}:
            parts.append(Literal(two[0]))
            at += 2
        elif template[at] == "{":
            end = template.find("}", at)
            if end < 0:
                raise BadTemplateError
            parts.append(_inside(template[at + 1 : end]))
            at = end + 1
        elif template[at] == "}":
            raise BadTemplateError
        else:
            parts.append(Literal(template[at]))
            at += 1
    _check(parts, rows)
    return parts


def _inside(text: str) -> Part:
    """What stands between braces."""
    if text.startswith("soft:"):
        digits = text.removeprefix("soft:")
        if not digits or len(digits) > 6 or digits[0] == "0" or any(one not in string.digits for one in digits):
            raise BadTemplateError
        return Slot(int(digits))
    if not text or text[0] not in FIRST or any(one not in LATER for one in text):
        raise BadTemplateError
    if text == "soft" or len(text) > LONGEST_NAME:
        raise BadTemplateError
    return Name(text)


def _check(parts: Sequence[Part], rows: int) -> None:
    slots = [part.rows for part in parts if isinstance(part, Slot)]
    if slots and sum(slots) != rows:
        raise BadTemplateError
    if len(fields(parts)) > MOST_FIELDS:
        raise BadTemplateError


def fields(parts: Sequence[Part]) -> list[str]:
    """Distinct names, in order."""
    return list(dict.fromkeys(part.text for part in parts if isinstance(part, Name)))


def render(
    parts: Sequence[Part], rows: int, values: Mapping[str, str], tokenizer: Tokenizer, truncate: int | None = None
) -> Rendered:
    """What the model is to be fed."""
    if not any(isinstance(part, Slot) for part in parts) and rows:
        parts = [Slot(rows), *parts]
    sequence: list[int | None] = []
    """Text ids; None for a row."""
    text, run, begun = "", _Run(tokenizer), False
    for part in [*parts, Slot(0)]:
        if not isinstance(part, Slot):
            run.add(part, values)
            text += values[part.text] if isinstance(part, Name) else part.text
            continue
        if run.parts or not part.rows:
            ids = run.ids()
            if not begun and ids[:1] != [BOS]:
                ids = [BOS, *ids]
            begun, run = True, _Run(tokenizer)
            sequence += ids
        sequence += [None] * part.rows
    return _placed(text, _truncated(sequence, truncate))


def _truncated(sequence: list[int | None], truncate: int | None) -> list[int | None]:
    """Without the oldest text behind BOS."""
    texts = [at for at, item in enumerate(sequence) if item is not None]
    excess = 0 if truncate is None else max(0, len(texts) - truncate)
    gone = {*texts[1 : 1 + excess]}
    return [item for at, item in enumerate(sequence) if at not in gone]


def _placed(text: str, sequence: Sequence[int | None]) -> Rendered:
    found, row = Rendered(text), 0
    for at, item in enumerate(sequence):
        if item is not None:
            found.ids.append(item)
            continue
        if found.slots and sum(found.slots[-1][::2]) == at:
            position, first, rows = found.slots[-1]
            found.slots[-1] = (position, first, rows + 1)
        else:
            found.slots.append((at, row, 1))
        row += 1
    return found


class _Run:
    """Text between two slots: one string, but for special tokens in literals."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.parts: list[Part] = []
        self._tokenizer = tokenizer
        self._pieces: list[tuple[str, bool]] = []

    def add(self, part: Literal | Name, values: Mapping[str, str]) -> None:
        text, is_literal = (part.text, True) if isinstance(part, Literal) else (values[part.text], False)
        if self.parts and is_literal and isinstance(self.parts[-1], Literal):
            text = self._pieces.pop()[0] + text
        self.parts.append(part)
        self._pieces.append((text, is_literal))

    def ids(self) -> list[int]:
        found: list[int] = []
        plain = ""
        for text, is_literal in self._pieces:
            for at, piece in enumerate(SPECIAL.split(text) if is_literal else [text]):
                if at % 2 == 0:
                    plain += piece
                else:
                    found += [*self._plain(plain), int(self._tokenizer.token_to_id(piece) or 0)]
                    plain = ""
        return found + self._plain(plain)

    def _plain(self, text: str) -> list[int]:
        self._tokenizer.encode_special_tokens = True
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids if text else []
        return ids
