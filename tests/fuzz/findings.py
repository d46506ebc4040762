"""What a fuzzer counted and what it found; as JSON, and as a page for people. Knows no server and no fuzzer."""

import json
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ABOUT = Path(__file__).parent / "README.md"
MOST = 200
"""Violations of one part that are kept whole; the rest are counted."""
LONGEST = 16_384
"""Bytes of what was sent that are kept with a violation; its case draws them all again."""


@dataclass(frozen=True, slots=True)
class Violation:
    """`case` is what the part draws it from again: `--only wire --case 1-345`. `sent` is hexadecimal."""

    case: str
    what: str
    sent: str = ""


@dataclass(slots=True)
class Findings:
    """Of one part. Several threads may tell it what they see."""

    part: str
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    """Seconds, bytes and the like, as the part names them."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, *names: str) -> None:
        with self._lock:
            self.counts.update(names)

    def claim(self, holds: bool, case: str, what: str, sent: bytes = b"") -> bool:
        """Keeps a violation where something does not hold; the fuzzer goes on."""
        if not holds:
            with self._lock:
                self.counts["violations"] += 1
                if len(self.violations) < MOST:
                    self.violations.append(Violation(case, what, sent[:LONGEST].hex()))
        return holds

    def most(self, name: str, value: float) -> None:
        """The largest so far."""
        with self._lock:
            self.figures[name] = round(max(value, self.figures.get(name, value)), 3)

    def record(self) -> dict[str, Any]:
        return {
            "counts": dict(sorted(self.counts.items())),
            "figures": dict(sorted(self.figures.items())),
            "violations": [asdict(violation) for violation in self.violations],
        }


def page(where: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]], about: str) -> str:
    """The same for people: one row for each count of each part, then every violation. `about`: what explains them."""
    rows = [
        f"| {name} | {what} | {number:,} |"
        for name, part in parts.items()
        for what, number in {**part["counts"], **part["figures"]}.items()
    ]
    wrong = [
        f"- {name}, case `{each['case']}`: {each['what']}"
        for name, part in parts.items()
        for each in part["violations"]
    ]
    said = ", ".join(
        [where["cpu"], f"{where['cores']} cores", f"Python {where['python']}", f"commit {where['commit']}"]
    )
    lines = ["# Fuzzing", "", f"{said}. What is counted: [README]({about}).", ""]
    lines += ["| part | what | number |", "|---|---|---|", *rows, ""]
    lines += ["Violations:" if wrong else "No violations.", "", *wrong, *([""] if wrong else [])]
    return "\n".join([*lines, f"`{where['command']}`", ""])


def write(folder: Path, where: Mapping[str, Any], found: Sequence[Findings]) -> str:
    """`fuzz.json` and `fuzz.md`; returns the page."""
    parts = {one.part: one.record() for one in found}
    text = page(where, parts, os.path.relpath(ABOUT, folder))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fuzz.json").write_text(json.dumps({"machine": where, "parts": parts}, indent=1) + "\n", encoding="utf-8")
    (folder / "fuzz.md").write_text(text, encoding="utf-8")
    return text
