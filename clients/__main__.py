"""`make clients`: programs of others ask a real server, each from an environment of its own, and are judged.

Ends with 1 when any of them found something amiss.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.order import ROOT
from clients.aiperf import run as aiperf
from clients.environment import HOME, prepared, versions
from clients.lm_eval import run as lm_eval
from clients.results import HELD, write
from clients.schemathesis import run as schemathesis
from clients.tool import Tool
from clients.vllm import run as vllm

TOOLS: Mapping[str, Tool] = {"schemathesis": schemathesis, "lm-eval": lm_eval, "aiperf": aiperf, "vllm": vllm}


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m clients", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=TOOLS, default=list(TOOLS), help="which; default all")
    parser.add_argument("--out", type=Path, default=ROOT / "clients" / "results", help="where results are written")
    given, amiss = parser.parse_args(words), 0
    here = machine(1, [], program="clients")  # before the first result changes the checkout
    for name in given.only:
        tool = TOOLS[name]
        python = prepared(name, tool.FIRST)
        work = HOME / f"{name}-work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        found = tool.run(python, work)
        where = {**here, "command": f"{here['command']} --only {name}"}
        write(name, found, versions(python, tool.PACKAGES), where, given.out)
        sys.stdout.write("\n".join([f"{name}: {fault}" for fault in found.faults] or [f"{name}: {HELD}"]) + "\n")
        sys.stdout.flush()
        amiss += bool(found.faults)
    return 1 if amiss else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
