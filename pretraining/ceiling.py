"""How far the train part of one corpus can take the base: train on nothing else, look after every pass.

`python -m pretraining.ceiling --base DIR --data DIR --corpus NAME`. A figure that only rises says that this base has
had from the text what this recipe can take. `--dropout` tries another recipe; `--scratch` starts from new weights, and
with `--share` on a part of the text: figures at an eighth, a quarter, a half and all of it tell what more text would
bring. Writes no model. Knows nothing of the other corpora.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from pretraining import train
from pretraining.card import Rival
from pretraining.stream import BOS_ID, EOS_ID
from tuning.splits import split

ROW = 256
RATE = 0.5
"""Of the rates the base itself was trained with, falling to zero over all passes."""
WARMUP_STEPS = 20


def rows_of(encoded: list[list[int]], draw: random.Random) -> torch.Tensor:
    """(rows, ROW) ids of all documents in a new order, each between BOS and EOS; what fills no row is left out."""
    shuffled = draw.sample(encoded, len(encoded))
    ids = [one for document in shuffled for one in (BOS_ID, *document, EOS_ID)]
    return torch.tensor(ids[: len(ids) // ROW * ROW]).view(-1, ROW)


def drop_out(model: nn.Module, share: float) -> None:
    """Drop `share` of every block's two outputs and of the embedding's in training (Srivastava et al., 2014)."""

    def drop(module: nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(output, share, module.training)

    for name, module in model.named_modules():
        if name.endswith(("o_proj", "down_proj", "embed_tokens")):
            module.register_forward_hook(drop)


def losses(base: Rival, texts: list[str], passes: int, rate: float = RATE) -> Iterator[float]:
    """Mean training loss, nats per token, of each pass over `texts`; the base learns between two of them."""
    encoded = [one.ids for one in base.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    draw, batch = random.Random(train.SEED), train.STEP_TOKENS // ROW
    per_pass = len(rows_of(encoded, random.Random(0))) // batch
    optimizers, steps = train.Optimizers(base.model), passes * per_pass
    for number in range(passes):
        total = 0.0
        base.model.train()
        for index, rows in enumerate(rows_of(encoded, draw).split(batch)[:per_pass]):
            with torch.autocast("cpu", torch.bfloat16):
                loss = base.model(input_ids=rows, labels=rows, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(base.model.parameters(), train.CLIP)
            step = number * per_pass + index
            optimizers.step(rate * min(1.0, (step + 1) / WARMUP_STEPS) * (1 - step / steps))
            total += loss.item()
        base.model.eval()
        yield total / per_pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=RATE, help="of the rates the base itself was trained with")
    parser.add_argument("--scratch", action="store_true", help="new weights of the base's shape")
    parser.add_argument("--share", type=float, default=1.0, help="of the train part's documents")
    given = parser.parse_args()
    base, parts = Rival.load(given.base), split(given.data, given.corpus)
    held_out = [row["text"] for row in parts.test]
    texts = [row["text"] for row in parts.train]
    texts = texts[: round(given.share * len(texts))]
    torch.manual_seed(train.SEED)
    if given.scratch:
        base = Rival(train.new_model().eval(), base.tokenizer)
    drop_out(base.model, given.dropout)
    report(0, bytes=sum(len(one.encode()) for one in texts), bits_per_byte=base.bits(held_out))
    for number, loss in enumerate(losses(base, texts, given.passes, given.rate), start=1):
        report(number, loss=loss, bits_per_byte=base.bits(held_out))


def report(passes: int, **figures: float) -> None:
    sys.stdout.write(json.dumps({"pass": passes, **{name: round(value, 4) for name, value in figures.items()}}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
