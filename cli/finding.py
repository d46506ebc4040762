"""What one check of `softprompt doctor` found, and how findings look on a screen of 80 columns."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

MARKS = {None: "", True: "ok", False: "FAILED"}


@dataclass(frozen=True, slots=True)
class Finding:
    """`good` None: a fact, not a check. `advice`: what to do about it, where something can be done."""

    what: str
    answer: str
    good: bool | None = None
    advice: str | None = None


def printed(findings: Iterable[Finding], console: Console) -> None:
    """A line or more for each, whatever it says folded rather than cut; advice below what it is about."""
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_column(min_width=max(map(len, MARKS.values())))
    table.add_column(overflow="fold", max_width=20)
    table.add_column(overflow="fold")
    for finding in findings:
        mark = "note" if finding.advice and finding.good is None else MARKS[finding.good]
        table.add_row(mark, finding.what, Text(finding.answer))
        if finding.advice and not finding.good:
            table.add_row("", "", Padding(Text(f"-> {finding.advice}"), (0, 0, 0, 2)))
    console.print(table)
