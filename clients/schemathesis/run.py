"""schemathesis: requests made from the OpenAPI document, good ones and bad ones, to every route with an admin key.

Knows its command line and its report; what may be refused stands in `checks`.
"""

import json
from pathlib import Path
from typing import Any

from clients.environment import called
from clients.server import serving
from clients.tool import Found

PACKAGES: tuple[str, ...] = ("schemathesis",)
FIRST: tuple[str, ...] = ()
HERE = Path(__file__).parent
KEY = "admin-0123456789abc"
EXAMPLES = 100
SEED = 1
VARIABLES = {
    "SOFTPROMPT_API_KEY": "generate-0123456789",
    "SOFTPROMPT_ADMIN_KEY": KEY,
    "SOFTPROMPT_MAX_URL_BYTES": str(2**20),
}
"""Keys, so that routes have something to refuse; and room for queries that are as long as the document lets them be."""


def run(python: Path, work: Path) -> Found:
    with serving(work, (), **VARIABLES, SOFTPROMPT_JOBS=str(work / "jobs")) as url:
        report, log = work / "report.json", work / "schemathesis.log"
        called(command(python.parent / "st", url, report, "--max-examples", str(EXAMPLES)), log, HERE)
    return judged(json.loads(report.read_text(encoding="utf-8")))


def command(program: Path, url: str, report: Path, *more: str) -> list[str | Path]:
    """To be run in this folder, where the checks are found. `more`: which phases, how many examples of each."""
    return [
        program, "--config-file", HERE / "schemathesis.toml", "run", f"{url}/openapi.json",
        "--header", f"Authorization: Bearer {KEY}", "--checks", "all", "--seed", str(SEED), "--no-color",
        "--report", "json", "--report-json-path", report, "--generation-database", "none", *more,
    ]  # fmt: skip


def judged(report: dict[str, Any]) -> Found:
    """Failures, errors and operations that were not reached are faults."""
    operations = report["operations"]
    figures = {
        "operations": operations["total"],
        "operations tested": operations["tested"],
        "requests": report["test_cases"]["generated"],
        "failures": sum(one["count"] for one in report["failures"]),
        "errors": sum(one["count"] for one in report["errors"]),
        "seed": report["seed"],
    }
    faults = [f"{one['code']} {one['title']}: {', '.join(one['operations'])}" for one in report["failures"]]
    faults += [f"{one['title']}: {one['count']}" for one in report["errors"]]
    if not 0 < operations["total"] == operations["tested"]:
        faults.append(f"{operations['tested']} of {operations['total']} operations were tested")
    if report["exit_code"] and not faults:
        faults.append(f"it ended with {report['exit_code']}")
    return Found(figures, faults)
