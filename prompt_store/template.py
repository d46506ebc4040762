"""Text with {fields} and {soft:n}: read once on upload, turned into ids once per request. Server and tuner share it.

Ids: a text id is >= 0; row i of the soft prompt stands as ~i, that is -1 - i. Knows no model and no tokenizer but the
callable it is given.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from prompt_store.errors import InputsError, PromptError
from prompt_store.metadata import MAX_TEMPLATE_CHARACTERS, Kind

MAX_FIELDS = 64
MAX_FIELD_CHARACTERS = 64

Tokenize = Callable[[str, bool], list[int]]
"""(text, parse_special) -> ids, without added special tokens. Plain text and special text must give different ids."""

PART = re.compile(
    r"(?P<literal>(?:[^{}]|\{\{|\}\})+)|\{soft:(?P<soft>[1-9][0-9]{0,5})\}|\{(?P<field>[A-Za-z_][A-Za-z0-9_]*)\}"
)
PROBES = ("", " a", " The", "A", "1", ".", "\n", *"abcdefghijklmnopqrstuvwxyz")
"""Values as unlike each other as the beginnings of real inputs are: what none of them changes, requests share."""


@dataclass(frozen=True, slots=True)
class Field:
    """The place of a value."""

    name: str


@dataclass(frozen=True, slots=True)
class Section:
    """`rows` pseudo-tokens, then one run of text: everything up to the next slot."""

    rows: int
    run: tuple[str | Field, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. `fields` are distinct, in order of appearance."""

    text: str
    sections: tuple[Section, ...]
    fields: tuple[str, ...]
    soft_behind_field: bool

    @classmethod
    def parse(cls, text: str, kind: Kind, length: int) -> "Template":
        """Read `text`. Raises `bad_template`, with the position of the first fault in characters."""
        if len(text) > MAX_TEMPLATE_CHARACTERS:
            raise bad_template(f"a template may have {MAX_TEMPLATE_CHARACTERS} characters, got {len(text)}")
        parts = _parts(text)
        slots = [part for part in parts if isinstance(part, int)]
        if slots and kind != "embeddings":
            raise bad_template(f"kind {kind} has no slots, got {len(slots)}")
        if slots and sum(slots) != length:
            raise bad_template(f"the slots must add up to the length {length}, got {sum(slots)}")
        if kind == "prefix" or (kind == "embeddings" and not slots):
            parts = [length, *parts]
        fields = tuple(dict.fromkeys(part.name for part in parts if isinstance(part, Field)))
        if len(fields) > MAX_FIELDS:
            raise bad_template(f"a template may have {MAX_FIELDS} fields, got {len(fields)}")
        before = len(list(takewhile(lambda part: not isinstance(part, Field), parts)))
        behind = any(isinstance(part, int) for part in parts[before:])
        return cls(text, _sections(parts), fields, behind)


@dataclass(frozen=True, slots=True)
class Composed:
    """What the model is fed. `text` is the whole rendered text; `cut` counts the ids `truncate` took from its front."""

    text: str
    ids: tuple[int, ...]
    cut: int = 0

    @property
    def soft_tokens(self) -> int:
        """Pseudo-tokens among the ids."""
        return sum(item < 0 for item in self.ids)

    @property
    def prompt_tokens(self) -> int:
        """Text ids, BOS included."""
        return len(self.ids) - self.soft_tokens


def bad_template(message: str) -> PromptError:
    """The one code for a template that cannot be accepted."""
    return PromptError("bad_template", message)


def compose(
    template: Template, inputs: Mapping[str, str], tokenize: Tokenize, bos: int | None, *, truncate: int | None = None
) -> Composed:
    """The ids of one request. Raises InputsError unless `inputs` has exactly the template's fields.

    Each run is tokenised as one string. `bos` stands once, after leading rows. `truncate` keeps the last n text ids,
    BOS counted among them and kept; rows are never cut.
    """
    check_inputs(template, inputs)
    runs = [_pieces(section.run, inputs, tokenize) for section in template.sections]
    text = "".join(piece for run in runs for piece, _ in run)
    return _assemble(template, [_ids(run, tokenize) for run in runs], text, bos, truncate)


def continuations(  # noqa: PLR0913, PLR0917 - the parts of a training row or of labels, each given by another owner
    template: Template,
    inputs: Mapping[str, str],
    delimiter: str,
    targets: Sequence[str],
    tokenize: Tokenize,
    bos: int | None,
) -> tuple[Composed, list[tuple[int, ...]]]:
    """The prompt and the ids of each of `targets` behind it, without EOS.

    Trailing spaces of the prompt move to the continuation, whose ids are ids(prompt + delimiter + target) minus
    ids(prompt). Where the two texts merge into one token there is no such difference: the rest is tokenised alone.
    """
    check_inputs(template, inputs)
    runs = [_pieces(section.run, inputs, tokenize) for section in template.sections]
    last, is_special = runs[-1].pop() if runs[-1] and not runs[-1][-1][1] else ("", False)
    kept = last.rstrip(" ")
    moved = last[len(kept) :] + delimiter
    prompt = _encode(kept, is_special, tokenize)

    def behind(rest: str) -> tuple[int, ...]:
        whole = _encode(kept + rest, is_special, tokenize)
        return tuple(whole[len(prompt) :] if whole[: len(prompt)] == prompt else _encode(rest, False, tokenize))

    text = "".join(piece for run in runs for piece, _ in run) + kept
    ids = [_ids(run, tokenize) for run in runs]
    ids[-1] += prompt
    return _assemble(template, ids, text, bos, None), [behind(moved + target) for target in targets]


def characters(template: Template, inputs: Mapping[str, str]) -> int:
    """How long the rendered text will be; fields that are missing count nothing."""
    parts = (part for section in template.sections for part in section.run)
    return sum(len(inputs.get(part.name, "") if isinstance(part, Field) else part) for part in parts)


def head(template: Template, tokenize: Tokenize, bos: int | None) -> tuple[int, ...]:
    """The ids that every request of the task may be expected to begin with: a hint, whoever uses it compares ids."""
    shared = compose(template, dict.fromkeys(template.fields, PROBES[0]), tokenize, bos).ids
    for probe in PROBES[1:] if template.fields else ():
        other = compose(template, dict.fromkeys(template.fields, probe), tokenize, bos).ids
        same = takewhile(lambda pair: pair[0] == pair[1], zip(shared, other, strict=False))
        shared = tuple(item for item, _ in same)
    return shared


def check_inputs(template: Template, inputs: Mapping[str, str]) -> None:
    """Raise InputsError unless the names are exactly the template's."""
    missing = [name for name in template.fields if name not in inputs]
    if missing:
        raise InputsError(f"inputs lack {', '.join(missing)}")
    if len(inputs) != len(template.fields):
        raise InputsError(f"inputs may hold {', '.join(template.fields) or 'nothing'}, got {len(inputs)} fields")


def _parts(text: str) -> list[str | Field | int]:
    """Literals with their braces unescaped, fields, and slots as numbers of rows."""
    parts: list[str | Field | int] = []
    position = 0
    while position < len(text):
        match = PART.match(text, position)
        if match is None or match["field"] == "soft":
            raise bad_template(f"at character {position}: expected {{name}}, {{soft:n}}, or a brace written twice")
        if match["literal"]:
            parts.append(match["literal"].replace("{{", "{").replace("}}", "}"))
        elif match["soft"]:
            parts.append(int(match["soft"]))
        elif len(match["field"]) > MAX_FIELD_CHARACTERS:
            raise bad_template(f"at character {position}: a field's name may have {MAX_FIELD_CHARACTERS} characters")
        else:
            parts.append(Field(match["field"]))
        position = match.end()
    return parts


def _sections(parts: list[str | Field | int]) -> tuple[Section, ...]:
    sections = [Section(0, ())]
    for part in parts:
        last = sections[-1]
        if not isinstance(part, int):
            sections[-1] = Section(last.rows, (*last.run, part))
        elif last.run:
            sections.append(Section(part, ()))
        else:
            sections[-1] = Section(last.rows + part, ())
    return tuple(sections)


def _pieces(run: tuple[str | Field, ...], inputs: Mapping[str, str], tokenize: Tokenize) -> list[tuple[str, bool]]:
    """The run as strings that are tokenised each alone: (text, whether it is a special token of a literal)."""
    pieces: list[tuple[str, bool]] = []
    plain = ""
    for part in run:
        for text, special in ((inputs[part.name], False),) if isinstance(part, Field) else _split(part, tokenize):
            if special:
                pieces += [(plain, False), (text, True)]
                plain = ""
            else:
                plain += text
    return [*pieces, (plain, False)]


@lru_cache(maxsize=4096)
def _split(literal: str, tokenize: Tokenize) -> tuple[tuple[str, bool], ...]:
    """Cut a literal at its special tokens, which the callable can recognise but not name.

    A text that holds a special token has other ids with parsing than without, and so has every longer text: the first
    end of one is found by halving, then its beginning.
    """

    def has_special(text: str) -> bool:
        return tokenize(text, True) != tokenize(text, False)

    pieces: list[tuple[str, bool]] = []
    while literal and has_special(literal):
        low, high = 1, len(literal)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if has_special(literal[:middle]) else (middle + 1, high)
        end = low
        low, high = 0, end - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if has_special(literal[middle:end]) else (low, middle - 1)
        pieces += [(literal[:low], False), (literal[low:end], True)]
        literal = literal[end:]
    return tuple(piece for piece in (*pieces, (literal, False)) if piece[0])


def _encode(text: str, special: bool, tokenize: Tokenize) -> list[int]:
    # Some tokenizers give ids even for the empty string.
    return tokenize(text, special) if text else []


def _ids(pieces: list[tuple[str, bool]], tokenize: Tokenize) -> list[int]:
    return [item for text, special in pieces for item in _encode(text, special, tokenize)]


def _assemble(template: Template, runs: list[list[int]], text: str, bos: int | None, truncate: int | None) -> Composed:
    first = runs[0]
    has_bos = bos is not None
    if bos is not None and first[:1] != [bos]:
        runs = [[bos, *first], *runs[1:]]
    cut = 0 if truncate is None else max(0, sum(map(len, runs)) - truncate)
    ids: list[int] = []
    row, left = 0, cut
    for number, (section, run) in enumerate(zip(template.sections, runs, strict=True)):
        ids += (~index for index in range(row, row + section.rows))
        row += section.rows
        keep = int(has_bos and number == 0)
        drop = min(left, len(run) - keep)
        left -= drop
        ids += run[:keep] + run[keep + drop :]
    return Composed(text, tuple(ids), cut - left)
