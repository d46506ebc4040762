"""Greedy ids behind a soft prompt, twice: by the base with explicit embeddings, and by PEFT's own `generate`.

Run by the harness's environment: `PYTHON explicit.py BASE PEFT ROWS LENGTH`. Imports nothing of this project.
Its last line on stdout is the result as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(base: str, peft: str, rows: str, length: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    soft = load_file(Path(peft) / "adapter_model.safetensors")["prompt_embeddings"]
    texts = [json.loads(line)["q"] for line in Path(rows).read_text(encoding="utf-8").splitlines()]
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    explicit = [greedy(model, soft, ids, int(length)) for ids in prompts]
    tuned = PeftModel.from_pretrained(model, peft).eval()
    own = [generated(tuned, ids, int(length)) for ids in prompts]
    words = [tokenizer.decode(ids, skip_special_tokens=True) for ids in explicit]
    sys.stdout.write(json.dumps({"explicit": explicit, "peft": own, "text": words}) + "\n")


@torch.no_grad()
def greedy(model: Any, soft: torch.Tensor, ids: list[int], length: int) -> list[int]:
    """The whole sequence anew for every id: no cache, no mask, no positions that could be wrong."""
    table = model.get_input_embeddings()
    found: list[int] = []
    for _ in range(length):
        embeddings = torch.cat([soft, table(torch.tensor(ids + found))])[None]
        found.append(int(model(inputs_embeds=embeddings).logits[0, -1].argmax()))
        if found[-1] == model.config.eos_token_id:
            break
    return found


@torch.no_grad()
def generated(tuned: Any, ids: list[int], length: int) -> list[int]:
    given = torch.tensor([ids])
    found = tuned.generate(
        input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=length, do_sample=False
    )
    answer: list[int] = found[0, len(ids) :].tolist()
    return answer


if __name__ == "__main__":
    main(*sys.argv[1:])
