"""What docker/monitoring holds, as its tests read it: the dashboard's panels and queries, the rules, the scrape."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.checkout import ROOT

FOLDER = ROOT / "docker" / "monitoring"
RULES = FOLDER / "rules.yml"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "softprompt.json"


@dataclass(frozen=True, slots=True)
class Query:
    """One line of a panel. `labels` are those that its legend names."""

    panel: str
    expr: str
    labels: frozenset[str]

    def asked(self, window: str) -> str:
        """As Grafana asks it with every server and task chosen."""
        filled = re.sub(r"\$(instance|task)\b", ".*", self.expr)
        return filled.replace("$__rate_interval", window)


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """Those that show something: rows are headings."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    for panel in panels():
        for target in panel["targets"]:
            named = frozenset(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            yield Query(panel["title"], target["expr"], named)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def scrape() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    return found
