"""Rows that were sent with each request, published once: `python docs/examples/from_prompt_embeds.py BASE`.

It makes four rows, publishes them as the task `rows`, asks for it with text alone, and compares with the base that is
shown rows and text as embeddings. SOFTPROMPT_URL names another server than the one of `make serve`.
"""

import os
import sys
from pathlib import Path
from typing import Any

import httpx
import torch
from safetensors.torch import save
from transformers import AutoModelForCausalLM, AutoTokenizer

URL = os.environ.get("SOFTPROMPT_URL", "http://127.0.0.1:8000")
TEXT, TOKENS = "the weather in paris is", 12


def publish(task: str, rows: torch.Tensor) -> None:
    """Rows [n, width of the base] in the shape of PEFT's own file."""
    data = save({"prompt_embeddings": rows.contiguous()})
    httpx.put(f"{URL}/tasks/{task}", content=data, timeout=60).raise_for_status()


def asked(task: str, text: str) -> str:
    body = {"model": task, "prompt": text, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    answer = httpx.post(f"{URL}/v1/completions", json=body, timeout=60)
    answer.raise_for_status()
    return str(answer.json()["choices"][0]["text"])


def shown(base: Path, rows: torch.Tensor, text: str) -> str:
    """The old way: embeddings of rows and text in one piece, greedily, a pass a token."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    embed = model.get_input_embeddings()
    ids = start = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        for _ in range(TOKENS):
            whole = torch.cat([rows[None], embed(ids)], dim=1)
            ids = torch.cat([ids, model(inputs_embeds=whole).logits[:, -1:].argmax(-1)], dim=1)
    return str(tokenizer.decode(ids[0, start.shape[1] :], skip_special_tokens=True))


def main(base: Path) -> None:
    torch.manual_seed(0)
    table = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).get_input_embeddings().weight.detach()
    rows = table[torch.randint(len(table), (4,))]
    publish("rows", rows)
    there, here = shown(base, rows, TEXT), asked("rows", TEXT)
    sys.stdout.write(f"as embeddings: {there!r}\nas a task:     {here!r}\n")
    sys.stdout.write("the same\n" if there == here else "NOT THE SAME\n")
    sys.exit(there != here)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
