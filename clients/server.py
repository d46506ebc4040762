"""The server that the tools ask, on the embedded base, with tasks that PEFT could have made; and what it counts.

Knows the command line and /metrics; no tool.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import torch
from peft import PromptTuningConfig
from prometheus_client.parser import text_string_to_metric_families
from safetensors.torch import load_file, save_file

from benchmarks.order import ROOT
from benchmarks.serving import CONSOLE_SCRIPT, running

TABLE = "model.embed_tokens.weight"
BASE = ROOT / "server" / "default" / "base"
LENGTH = 8
"""Pseudo-tokens of each task."""
LOUD = 1.2
"""How much longer than a word of the base a row is: a soft prompt that is heard."""


@dataclass(frozen=True, slots=True)
class Count:
    """Of one task: choices that have ended, ids of prompts with BOS, ids generated."""

    requests: int = 0
    prompt: int = 0
    generated: int = 0


def prompt(folder: Path, seed: int) -> Path:
    """A directory as PEFT saves prompt tuning: rows of the base's own table, drawn from `seed`."""
    where = json.loads((BASE / "model.safetensors.index.json").read_text(encoding="utf-8"))["weight_map"][TABLE]
    table = load_file(BASE / where)[TABLE].float()
    drawn = torch.randint(100, len(table), (LENGTH,), generator=torch.Generator().manual_seed(seed))
    folder.mkdir(parents=True)
    save_file({"prompt_embeddings": LOUD * table[drawn]}, folder / "adapter_model.safetensors")
    config = PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=LENGTH, base_model_name_or_path=str(BASE), inference_mode=True
    )
    config.save_pretrained(str(folder))
    return folder


@contextmanager
def serving(work: Path, tasks: Sequence[str], *options: str, **variables: str) -> Iterator[str]:
    """The address of a server that has these tasks, else the demo tasks. PEFT directories are in `work`, by name."""
    base = ["--model", str(BASE)] if tasks else []
    own = ["--store", "memory://", "--port", "0", "--device", "cpu", *options]
    with running(*base, *own, **{"SOFTPROMPT_JOBS": "", **variables}) as served:
        for seed, task in enumerate(tasks, 1):
            folder = prompt(work / task, seed)
            push = [sys.executable, "-c", CONSOLE_SCRIPT, "push", task, str(folder), "--url", served.url]
            subprocess.run(push, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        yield served.url


def counted(url: str) -> dict[str, Count]:
    """What the server has counted of each task so far."""
    text = httpx.get(f"{url}/metrics", trust_env=False).raise_for_status().text
    found: dict[str, dict[str, int]] = {}
    names = {
        "softprompt_request_success_total": "requests",
        "softprompt_prompt_tokens_total": "prompt",
        "softprompt_generation_tokens_total": "generated",
    }
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in names:
                of = found.setdefault(sample.labels["task"], dict.fromkeys(names.values(), 0))
                of[names[sample.name]] += int(sample.value)
    return {task: Count(**of) for task, of in found.items()}
