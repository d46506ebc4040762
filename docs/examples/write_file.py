"""A prompt file by hand: `python docs/examples/write_file.py BASE`. The file is made with numpy and safetensors alone.

Four random rows, as wide as the base's embeddings, published as the task `written`. SOFTPROMPT_URL names another server
than the one of `make serve`.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import httpx
import numpy as np
from safetensors.numpy import save

URL = os.environ.get("SOFTPROMPT_URL", "http://127.0.0.1:8000")
ROWS = 4


def file_of(rows: np.ndarray) -> bytes:
    """Rows [p, d] of float32 in front of the one field of the template."""
    told = {
        "format": 1,
        "kind": "embeddings",
        "length": len(rows),
        "template": "{text}",
        "target_delimiter": " ",
        "labels": None,
        "defaults": {"max_new_tokens": 16},
        "base": None,
        "description": "four random rows, written by hand",
        "metrics": {},
        "tuning": None,
    }
    text = json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return save({"embeddings": rows}, metadata={"softprompt": text})


def main(base: Path) -> None:
    width = json.loads((base / "config.json").read_text())["hidden_size"]
    rows = np.random.default_rng(0).normal(0, 0.05, (ROWS, width)).astype(np.float32)
    data = file_of(rows)
    answer = httpx.put(f"{URL}/tasks/written", content=data, timeout=60)
    answer.raise_for_status()
    task = answer.json()
    same = task["digest"] == hashlib.sha256(data).hexdigest()
    sys.stdout.write(f"{task['id']} is version {task['version']}, {task['kind']} of {task['length']} pseudo-tokens\n")
    sys.stdout.write("the digest is ours\n" if same else "ANOTHER DIGEST\n")
    sys.exit(not same)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
