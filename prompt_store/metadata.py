"""What a prompt file says about itself: one canonical JSON text under the key `softprompt`, every value bounded.

Knows no tensors, no task names and no versions.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeGuard, get_args

from prompt_store.errors import PromptError
from prompt_store.parameters import check_defaults, whole

FORMAT = 1
MAX_LENGTH = 16_384
"""Pseudo-tokens of one soft prompt."""
MAX_TEMPLATE_CHARACTERS = 32_768
MAX_DELIMITER_CHARACTERS = 64
MAX_LABELS = 512
MAX_LABEL_CHARACTERS = 256
MAX_DESCRIPTION_CHARACTERS = 4_096
MAX_METRICS = 64
MAX_NAME_CHARACTERS = 256
MAX_TUNING_CHARACTERS = 16_384
MAX_TUNING_DEPTH = 8

Kind = Literal["text", "embeddings", "prefix", "adapter"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FINGERPRINT = re.compile(r"[0-9a-f]{64}")
METRIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@%/ -]{0,63}")
PATCHABLE = frozenset({"template", "target_delimiter", "labels", "defaults", "description"})
NOT_IN_TEXT_TASK = frozenset({"format", "length", "base", "tuning"})


def bad_metadata(message: str) -> PromptError:
    """The one code for metadata that cannot be accepted."""
    return PromptError("bad_metadata", message)


def is_kind(value: Any) -> TypeGuard[Kind]:
    """Whether a JSON value names a kind."""
    return isinstance(value, str) and value in KINDS


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no escapes beyond what JSON demands, no NaN."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Base:
    """The frozen model that a soft prompt was learnt on, as far as a file can be checked against it.

    `hidden` is the width of an embedding, `head_dim` that of one head; `fingerprint` is prompt_store.base.fingerprint.
    """

    fingerprint: str
    name: str
    hidden: int
    layers: int
    kv_heads: int
    head_dim: int

    def to_mapping(self) -> dict[str, Any]:
        """The JSON object of design/30."""
        return {name: getattr(self, name) for name in BASE_KEYS}

    @classmethod
    def from_mapping(cls, value: Any) -> "Base":
        """Read and bound every field; none may be missing, none may be unknown."""
        fields = _object(value, "base")
        if fields.keys() != set(BASE_KEYS):
            raise bad_metadata(f"base must have exactly {', '.join(BASE_KEYS)}")
        if not isinstance(fields["fingerprint"], str) or not FINGERPRINT.fullmatch(fields["fingerprint"]):
            raise bad_metadata("base.fingerprint must be 64 lower-case hex digits")
        sizes = {name: _whole(fields[name], f"base.{name}", 1, 2**20) for name in BASE_KEYS[2:]}
        return cls(fields["fingerprint"], _text(fields["name"], "base.name", MAX_NAME_CHARACTERS), **sizes)


BASE_KEYS = ("fingerprint", "name", "hidden", "layers", "kv_heads", "head_dim")


@dataclass(frozen=True, slots=True)
class Metadata:
    """Everything a version says beside its tensors. `defaults` are sampling parameters; `length` in pseudo-tokens."""

    kind: Kind
    length: int
    template: str
    target_delimiter: str = " "
    labels: tuple[str, ...] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    base: Base | None = None
    description: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    tuning: Mapping[str, Any] | None = None

    def to_mapping(self) -> dict[str, Any]:
        """The JSON object of design/30, every key present."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "length": self.length,
            "template": self.template,
            "target_delimiter": self.target_delimiter,
            "labels": None if self.labels is None else list(self.labels),
            "defaults": dict(self.defaults),
            "base": None if self.base is None else self.base.to_mapping(),
            "description": self.description,
            "metrics": dict(self.metrics),
            "tuning": None if self.tuning is None else dict(self.tuning),
        }

    def to_json(self) -> str:
        """The canonical text. The same metadata always give the same bytes, hence the same digest."""
        return canonical(self.to_mapping())

    @classmethod
    def from_json(cls, text: str) -> "Metadata":
        """Read a text that anyone may have written. Raises `bad_metadata` or `unsupported_kind`."""
        try:
            fields = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise bad_metadata("the metadata is not a JSON object, or holds NaN or a key twice") from None
        return cls.from_mapping(fields)

    @classmethod
    def from_mapping(cls, value: Any) -> "Metadata":
        """The same from a parsed object. What is absent takes its default, what is unknown is refused."""
        fields = dict(_object(value, "the metadata"))
        version = fields.pop("format", None)
        if type(version) is not int or version != FORMAT:
            raise bad_metadata(f"this server reads format {FORMAT} of the metadata")
        if not fields.keys() <= CHECKS.keys():
            raise bad_metadata(f"the metadata may hold format, {', '.join(CHECKS)}")
        for name in ("kind", "length", "template"):
            if name not in fields:
                raise bad_metadata(f"the metadata lack {name}")
        metadata = cls(**{name: CHECKS[name](item) for name, item in fields.items()})
        if (metadata.kind == "text") != (metadata.length == 0):
            raise bad_metadata(f"kind text has length 0, the others at least 1, got {metadata.length}")
        return metadata

    @classmethod
    def for_text_task(cls, value: Any) -> "Metadata":
        """What `application/json` may publish: the metadata without format, length, base and tuning."""
        fields = _object(value, "the task")
        if fields.keys() & NOT_IN_TEXT_TASK:
            raise bad_metadata(f"a text task may not hold {', '.join(sorted(NOT_IN_TEXT_TASK))}")
        if fields.get("kind", "text") != "text":
            raise PromptError("unsupported_kind", "only tasks of kind text are published as JSON")
        return cls.from_mapping({"kind": "text", **fields, "format": FORMAT, "length": 0})

    def patched(self, patch: Any) -> "Metadata":
        """JSON merge (RFC 7396): null puts the default back, `defaults` merge key by key."""
        changes = _object(patch, "the patch")
        if not changes.keys() <= PATCHABLE:
            raise bad_metadata(f"a patch may hold {', '.join(sorted(PATCHABLE))}")
        fields = {name: getattr(self, name) for name in PATCHABLE}
        fields["labels"] = None if self.labels is None else list(self.labels)
        merged = merge(fields, changes)
        if "template" not in merged:
            raise bad_metadata("a task cannot be without its template")
        blank = replace(self, target_delimiter=" ", labels=None, defaults={}, description=None)
        return replace(blank, **{name: CHECKS[name](item) for name, item in merged.items()})


def merge(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396 for objects: null removes, objects merge, everything else replaces."""
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            below = merged.get(name)
            merged[name] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError
    return fields


def _refuse(_: str) -> None:
    raise ValueError


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_metadata(f"{what} must be an object, got {type(value).__name__}")
    return value


def _whole(value: Any, what: str, low: int, high: int) -> int:
    try:
        checked: int = whole(low, high)(value)
    except ValueError as error:
        raise bad_metadata(f"{what} {error}") from None
    return checked


def _text(value: Any, what: str, most: int, least: int = 0) -> str:
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise bad_metadata(f"{what} must be a string of {least} to {most} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise bad_metadata(f"{what} holds half of a surrogate pair") from None
    return value


def _kind(value: Any) -> Kind:
    if not is_kind(value):
        raise PromptError("unsupported_kind", f"kind must be one of {', '.join(KINDS)}")
    return value


def _labels(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_LABELS:
        raise bad_metadata(f"labels must be null or a list of 1 to {MAX_LABELS} strings")
    labels = tuple(_text(label, "a label", MAX_LABEL_CHARACTERS, least=1) for label in value)
    if len(set(labels)) != len(labels):
        raise bad_metadata("a label stands twice in labels")
    return labels


def _metrics(value: Any) -> dict[str, float]:
    fields = _object(value, "metrics")
    if len(fields) > MAX_METRICS or not all(METRIC.fullmatch(name) for name in fields):
        raise bad_metadata(f"metrics may hold {MAX_METRICS} plain names of at most 64 characters")
    if not all(_is_finite(number) for number in fields.values()):
        raise bad_metadata("metrics must be finite numbers")
    return dict(fields)


def _is_finite(value: Any) -> TypeGuard[float]:
    # float() of a whole number past 1.8e308 raises; such a number is no metric either.
    return type(value) in {int, float} and abs(value) < 1e300 and math.isfinite(value)


def _tuning(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    fields = _object(value, "tuning")
    _check_json(fields, MAX_TUNING_DEPTH)
    if len(canonical(fields)) > MAX_TUNING_CHARACTERS:
        raise bad_metadata(f"tuning may have {MAX_TUNING_CHARACTERS} characters of JSON")
    return fields


def _check_json(value: Any, depth: int) -> None:
    if depth < 0:
        raise bad_metadata(f"tuning may nest {MAX_TUNING_DEPTH} levels deep")
    if isinstance(value, dict):
        for name, item in value.items():
            _text(name, "a name in tuning", MAX_TUNING_CHARACTERS)
            _check_json(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth - 1)
    elif isinstance(value, str):
        _text(value, "a string in tuning", MAX_TUNING_CHARACTERS)
    elif not (value is None or isinstance(value, bool) or _is_finite(value)):
        raise bad_metadata("numbers in tuning must be finite")


def _defaults(value: Any) -> dict[str, Any]:
    checked = check_defaults(value)
    for stop in checked.get("stop", ()):
        _text(stop, "defaults.stop", len(stop))
    return checked


CHECKS: Mapping[str, Any] = {
    "kind": _kind,
    "length": lambda value: _whole(value, "length", 0, MAX_LENGTH),
    "template": lambda value: _text(value, "template", MAX_TEMPLATE_CHARACTERS),
    "target_delimiter": lambda value: _text(value, "target_delimiter", MAX_DELIMITER_CHARACTERS),
    "labels": _labels,
    "defaults": _defaults,
    "base": lambda value: None if value is None else Base.from_mapping(value),
    "description": lambda value: None if value is None else _text(value, "description", MAX_DESCRIPTION_CHARACTERS),
    "metrics": _metrics,
    "tuning": _tuning,
}
"""How each key is read. Keys in the order of design/30."""
