"""One PEFT folder, asked through PEFT and through a server: `python docs/examples/from_peft.py BASE [FOLDER] [TEXT]`.

`pip install peft`. Without a folder it makes one, a prompt of random rows. The task is called `moved`. SOFTPROMPT_URL
names another server than the one of `make serve`, which must serve the same base.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import torch
from peft import PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

URL = os.environ.get("SOFTPROMPT_URL", "http://127.0.0.1:8000")
TOKENS = 12
COMMAND = Path(sys.executable).parent / "softprompt"


def made(base: Path, folder: Path) -> Path:
    """A folder as PEFT writes it."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    torch.manual_seed(0)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


def asked_of_peft(base: Path, folder: Path, text: str) -> str:
    """Greedily, one forward pass a token: right for every kind of prompt, and slow."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder)
    ids = start = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        for _ in range(TOKENS):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    return str(tokenizer.decode(ids[0, start.shape[1] :], skip_special_tokens=True))


def asked_of_the_server(folder: Path, text: str) -> str:
    push = [str(COMMAND), "push", "moved", str(folder), "--url", URL]
    subprocess.run(push, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - the command of this very installation
    body = {"model": "moved", "prompt": text, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    answer = httpx.post(f"{URL}/v1/completions", json=body, timeout=60)
    answer.raise_for_status()
    return str(answer.json()["choices"][0]["text"])


def main(base: Path, folder: Path | None = None, text: str = "the weather in paris is") -> None:
    with tempfile.TemporaryDirectory() as scratch:
        found = folder or made(base, Path(scratch))
        there, here = asked_of_peft(base, found, text), asked_of_the_server(found, text)
    sys.stdout.write(f"PEFT:   {there!r}\nserver: {here!r}\n{'the same' if there == here else 'NOT THE SAME'}\n")
    sys.exit(there != here)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(Path(name) for name in sys.argv[2:3]), *sys.argv[3:4])
