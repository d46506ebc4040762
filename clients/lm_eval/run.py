"""lm-evaluation-harness, twice over the same local rows: its API client on the server, and its own model with PEFT.

Knows the harness's command line and files; `judge` says what is equal.
"""

import json
from pathlib import Path
from typing import Any

from clients.environment import called
from clients.lm_eval import judge
from clients.server import BASE, serving
from clients.tool import Found

PACKAGES: tuple[str, ...] = ("lm_eval", "peft", "transformers", "torch")
FIRST: tuple[str, ...] = ("torch==2.13.0",)
HERE = Path(__file__).parent
TASK = "lm"
ROWS = ("local_mc", "local_roll", "local_gen")
LENGTH = 24
"""Ids generated, as tasks/gen.yaml says."""
WINDOW = 512
"""Ids of a text that are scored at once."""
KEPT = 2
"""How many fewer the API client scores at once than its `max_length` says: one is for an answer, one for context."""


def run(python: Path, work: Path) -> Found:
    with serving(work, [TASK], "--dtype", "float32") as url:
        remote = (
            f"model={TASK},base_url={url}/v1/completions,tokenizer_backend=remote,num_concurrent=4,"
            f"max_length={WINDOW + KEPT},custom_prefix_token_id=0"
        )
        ours = _samples(python, work / "api", "local-completions", remote)
    local = (
        f"pretrained={BASE},peft={work / TASK},dtype=float32,max_length={WINDOW},add_bos_token=False,prefix_token_id=0"
    )
    theirs = _samples(python, work / "hf", "hf", local, "--device", "cpu")
    explicit = _explicit(python, work)
    faults: list[str] = []
    figures: dict[str, Any] = {}
    for task in ROWS[:2]:
        found = judge.differences(ours[task], theirs[task])
        figures[f"{task}: rows"] = len(ours[task])
        figures[f"{task}: largest difference of a log-likelihood, nats"] = max(apart for apart, _ in found)
        faults += judge.unlike(task, found)
    heard, own = judge.texts(ours["local_gen"]), judge.texts(theirs["local_gen"])
    figures["local_gen: rows"] = len(heard)
    figures["local_gen: equal to the harness's own model"] = sum(a == b for a, b in zip(heard, own, strict=False))
    figures["explicit embeddings: equal to PEFT's generate"] = sum(
        a == b for a, b in zip(explicit["explicit"], explicit["peft"], strict=True)
    )
    faults += judge.unequal("PEFT's generate against explicit embeddings", explicit["peft"], explicit["explicit"])
    until = [text.split("\n")[0] for text in explicit["text"]]
    figures["local_gen: equal to explicit embeddings"] = sum(a == b for a, b in zip(heard, until, strict=False))
    faults += judge.unequal("generation against the harness's own model", heard, own)
    faults += judge.unequal("generation against explicit embeddings", heard, until)
    return Found(figures, faults)


def _samples(python: Path, out: Path, model: str, arguments: str, *more: str) -> dict[str, Any]:
    """What the harness logged of each row, by task. Raises RuntimeError when it has failed."""
    command: list[str | Path] = [
        python, "-m", "lm_eval", "run", "--model", model, "--model_args", arguments, "--include_path", "tasks",
        "--tasks", ",".join(ROWS), "--batch_size", "1", "--log_samples", "--output_path", out, *more,
    ]  # fmt: skip
    log = out.with_suffix(".log")
    if called(command, log, HERE):
        raise RuntimeError(f"the harness has failed: {log}")
    return {task: _lines(next(out.rglob(f"samples_{task}_*.jsonl"))) for task in ROWS}


def _explicit(python: Path, work: Path) -> dict[str, Any]:
    rows, log = HERE / "tasks" / "gen.jsonl", work / "explicit.log"
    if called([python, HERE / "explicit.py", BASE, work / TASK, rows, str(LENGTH)], log):
        raise RuntimeError(f"the reference has failed: {log}")
    found: dict[str, Any] = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    return found


def _lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
