"""Make a checkpoint directory that anybody's transformers loads: bfloat16 shards, tokenizer, generation config.

`python -m pretraining.export --run DIR --to DIR`. Knows files; trains nothing and judges nothing.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import nn
from transformers import GenerationConfig

from pretraining.stream import BOS, BOS_ID, EOS, EOS_ID, PAD, PAD_ID
from pretraining.train import SHAPES, new_model
from prompt_store.base import write_sums

SHARD = "14MB"


def export(run: Path, to: Path, shape: str = "8m") -> Path:
    """The newest checkpoint of the training run in `run`, as a model directory `to`; the checkpoint's folder."""
    checkpoint = max(run.glob("step-*"))
    model = new_model(shape)
    load_model(model, str(checkpoint / "model.safetensors"))
    model.generation_config = GenerationConfig(bos_token_id=BOS_ID, eos_token_id=EOS_ID, pad_token_id=PAD_ID)
    nn.Module.to(model, torch.bfloat16)
    for old in to.glob("*.safetensors*"):
        old.unlink()
    model.save_pretrained(to, max_shard_size=SHARD)
    shutil.copy(run / "tokenizer.json", to / "tokenizer.json")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "model_max_length": model.config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
    }
    (to / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_sums(to)
    return checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--to", type=Path, required=True, help="folder of the exported base")
    parser.add_argument("--shape", choices=list(SHAPES), default="8m", help="as it was trained")
    given = parser.parse_args()
    export(given.run, given.to, given.shape)


if __name__ == "__main__":
    main()
