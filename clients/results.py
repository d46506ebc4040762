"""What a run found out, as a file for machines and a page for people. Knows no tool."""

import json
from pathlib import Path
from typing import Any

from clients.tool import Found

HELD = "held: nothing is amiss"


def write(name: str, found: Found, versions: dict[str, str], where: dict[str, Any], out: Path) -> None:
    """`where`: the machine and the checkout."""
    out.mkdir(parents=True, exist_ok=True)
    whole = {"client": name, "versions": versions, "machine": where, "figures": found.figures, "faults": found.faults}
    (out / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(page(name, found, versions, where), encoding="utf-8")


def page(name: str, found: Found, versions: dict[str, str], where: dict[str, Any]) -> str:
    said = ", ".join(f"{package} {version}" for package, version in versions.items())
    lines = [f"# {name}", "", f"{said}. Commit {where['commit']}, {where['cpu']}, {where['cores']} cores.", ""]
    lines += [
        "| what | found |",
        "|---|---|",
        *(f"| {what} | {_told(value)} |" for what, value in found.figures.items()),
    ]
    lines += ["", *([f"- {fault}" for fault in found.faults] or [f"{HELD}."]), ""]
    lines += [f"`{where['command']}`", ""]
    return "\n".join(lines)


def _told(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
