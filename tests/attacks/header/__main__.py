"""`make fuzz-header`: our header parser against the safetensors library on coverage-guided inputs, for some minutes.

Goes on from the corpus under build/ that an earlier run found. Writes what it counted to --record, with the machine
and the commit; on a difference the input stays in the folder that is named, and the exit code is 1.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from tests.attacks.header.mutations import LONGEST, SEEDS

ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / "build" / "fuzz-header"
MEMORY_MB = 1024
"""Of the whole fuzzer, its corpus included; one allocation may take an eighth."""
INPUT_SECONDS = 5
STATE = re.compile(r"^#\d+.*?cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)", re.MULTILINE)
STATISTIC = re.compile(r"^stat::(\w+):\s+(\d+)$", re.MULTILINE)


def commit() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return told.stdout.strip()


def machine() -> str:
    """The processor's name where Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else []
    return f"{next(iter(names), platform.processor())}, {os.cpu_count()} cores"


def corpus() -> Path:
    folder = HOME / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(SEEDS):
        (folder / f"seed-{number}").write_bytes(data)
    return folder


def run(minutes: float, seed: int) -> tuple[int, str]:
    """The exit code and everything that libFuzzer said."""
    (HOME / "found").mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": round(60 * minutes),
        "max_len": LONGEST,
        "rss_limit_mb": MEMORY_MB,
        "malloc_limit_mb": MEMORY_MB // 8,
        "timeout": INPUT_SECONDS,
        "seed": seed,
        "print_final_stats": 1,
        "artifact_prefix": f"{HOME / 'found'}{os.sep}",
    }
    command = [sys.executable, "-m", "tests.attacks.header.target", str(corpus())]
    said = HOME / "log"
    with said.open("wb") as log:
        arguments = [*command, *(f"-{name}={value}" for name, value in options.items())]
        code = subprocess.run(arguments, cwd=ROOT, stdout=log, stderr=log, check=False).returncode
    return code, said.read_text(encoding="utf-8", errors="replace")


def counted(said: str) -> dict[str, object]:
    """libFuzzer's last line of state, its statistics, and our own tally."""
    coverage, features, inputs, size = STATE.findall(said)[-1]
    tally = json.loads(re.findall(r"^tally: (.+)$", said, re.MULTILINE)[-1])
    statistics = {name: int(value) for name, value in STATISTIC.findall(said)}
    return {
        "executions": statistics["number_of_executed_units"],
        "peak_rss_mb": statistics["peak_rss_mb"],
        "coverage": {"edges": int(coverage), "features": int(features)},
        "corpus": {"inputs": int(inputs), "size": size},
        "refused_by_both": tally["refused"],
        "refused_by_us_alone": tally["stricter"],
        "read_alike": tally["agreed"],
        "slowest_ms": round(1000 * tally["slowest"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    began, of = time.monotonic(), commit()
    code, said = run(options.minutes, options.seed)
    if code:
        sys.stderr.write(said[-4000:])
        sys.exit(1)
    found = {
        "command": f'make fuzz-header ARGS="--minutes {options.minutes:g} --seed {options.seed}"',
        "machine": machine(),
        "commit": of,
        "python": platform.python_version(),
        "atheris": version("atheris"),
        "safetensors": version("safetensors"),
        "seconds": round(time.monotonic() - began),
        **counted(said),
    }
    text = json.dumps(found, indent=2) + "\n"
    sys.stdout.write(text)
    if options.record is not None:
        options.record.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
