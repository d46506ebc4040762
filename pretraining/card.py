"""The model card of an exported base: recipe, curve, bits per byte beside its yardsticks, samples nobody chose.

`python -m pretraining.card --base DIR --run DIR --data DIR --reference DIR`. Every figure is measured here, on the
held-out part of each corpus (`tuning.splits`); nothing is written by hand.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from pretraining import train
from pretraining.bits import bits_per_byte
from pretraining.kneser_ney import KneserNey
from pretraining.stream import BOS_ID, COPIED, COPY_REPEATS, EOS_ID, PAD_ID, REPEATS, documents
from tuning.datasets import DATA_SETS
from tuning.splits import split

CONTEXT = 512
SAMPLES = 20
SAMPLE_TOKENS = 60
BAR = 0.75
"""Of the reference's bits per byte."""
CORPORA = tuple(name for name, data in DATA_SETS.items() if data.corpus)


@dataclass(frozen=True, slots=True)
class Rival:
    """A model directory, loaded in float32, with a tokenizer that puts a BOS in front."""

    model: PreTrainedModel
    tokenizer: Tokenizer

    @classmethod
    def load(cls, folder: Path) -> "Rival":
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        if not tokenizer.encode("").ids:
            opening = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["bos_token"]
            tokenizer.post_processor = TemplateProcessing(
                single=f"{opening} $A", special_tokens=[(opening, tokenizer.token_to_id(opening))]
            )
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return cls(model, tokenizer)

    def bits(self, texts: Sequence[str]) -> float:
        return bits_per_byte(self.model, self.tokenizer, texts, CONTEXT)


def five_gram(data: Path, tokenizer: Tokenizer) -> KneserNey:
    """Of the same text and the same tokens as the base, every document once."""
    encodings = tokenizer.encode_batch_fast([text for _, text in documents(data)])
    return KneserNey(([*e.ids, EOS_ID] for e in encodings), tokenizer.get_vocab_size(), BOS_ID)


def five_gram_bits(model: KneserNey, tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    encoded = (encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts)))
    return model.nats(encoded) / math.log(2) / sum(len(text.encode()) for text in texts)


def table(data: Path, base: Rival, reference: Rival) -> dict[str, dict[str, float]]:
    """Bits per byte by corpus, on the whole held-out part."""
    ngram = five_gram(data, base.tokenizer)
    found = {}
    for name in CORPORA:
        texts = [row["text"] for row in split(data, name).test]
        found[name] = {
            "base": base.bits(texts),
            "stories260K": reference.bits(texts),
            "five_gram": five_gram_bits(ngram, base.tokenizer, texts),
        }
    return found


@torch.inference_mode()
def samples(base: Rival) -> list[str]:
    """Seeds 0 .. 19 after BOS alone, temperature 0.8, the first 60 tokens, as they came."""
    found = []
    config = GenerationConfig(
        do_sample=True, temperature=0.8, top_k=0, max_new_tokens=SAMPLE_TOKENS, pad_token_id=PAD_ID, eos_token_id=EOS_ID
    )
    for seed in range(SAMPLES):
        torch.manual_seed(seed)
        ids = base.model.generate(torch.tensor([[BOS_ID]]), generation_config=config)  # type: ignore[operator]
        found.append(base.tokenizer.decode(ids[0].tolist()))
    return found


def draw_curve(curve: list[dict[str, float]], to: Path) -> None:
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    millions = [point["step"] * train.STEP_TOKENS / 1e6 for point in curve]
    axes.plot(millions, [point["loss"] for point in curve], linewidth=0.8)
    axes.set(xlabel="million tokens read", ylabel="training loss, nats per token", ylim=(2, 6))
    axes.grid(alpha=0.3)
    figure.savefig(to, format="svg", metadata={"Date": None})


def bits_table(figures: dict[str, dict[str, float]]) -> str:
    """Markdown: a row per corpus, and which of them miss the bar."""
    rows = "\n".join(
        f"| {name} | {f['base']:.3f} | {f['stories260K']:.3f} | {f['base'] / f['stories260K']:.2f}"
        f" | {f['five_gram']:.3f} | {f['base'] / f['five_gram']:.2f} |"
        for name, f in figures.items()
    )
    missed = "; ".join(
        f"{name} ({f['base'] / f['stories260K']:.2f} of stories260K, see `docs/log.md`)"
        for name, f in figures.items()
        if f["base"] > min(BAR * f["stories260K"], f["five_gram"])
    )
    return f"""| corpus | this base | stories260K | ratio | 5-gram | ratio |
|---|---|---|---|---|---|
{rows}

Wanted: at most {BAR:g} of stories260K, and less than the 5-gram. Missed: {missed or "nothing"}."""


def write(base: Path, figures: dict[str, dict[str, float]], texts: list[str], steps: int) -> None:
    quoted = "\n".join(f"{number}. {json.dumps(text, ensure_ascii=False)}" for number, text in enumerate(texts))
    repeats = ", ".join(f"{name} x{count}" for name, count in REPEATS.items())
    stages = ", ".join(f"{length} ids from {start:.0%} of the run on" for start, length in train.STAGES)
    (base / "README.md").write_text(
        f"""# The embedded base

A causal language model of 7.5 million parameters, trained from scratch for this project on two CPU cores. It is small
enough to be package data and real enough to learn tasks on; it knows little about the world.

- **Shape**: Llama, 8 layers, hidden 256, 8 heads / 4 KV heads, ffn 704, tied embeddings, bfloat16.
- **Tokenizer**: byte-level BPE of {train.VOCABULARY} ids, digits apart, `<s>` in front of every text.
- **Context**: 1,024 positions (rows of {stages}).
- **Text**: the train parts of `tuning/splits.py`, no labels, no test text. Read so often per epoch: {repeats}.
- **Copy exercises**, x{COPY_REPEATS}, each made of one text alone: some of its own words, shuffled, then the text.
  From {", ".join(COPIED)}.
- **Recipe**: {steps:,} steps of {train.STEP_TOKENS:,} tokens ({steps * train.STEP_TOKENS / 1e6:.1f} million in all);
  Muon {train.MATRIX_RATE} for matrices, AdamW {train.OTHER_RATE} for the rest, {train.WARMUP_STEPS} steps of warm-up,
  then constant, linear decay over the last {train.DECAY_PART:.0%}; bfloat16 autocast; seed {train.SEED}.
- **Again**: `make base`; **this card**: `make base-card`. **Licence**: of the weights Apache-2.0; of the texts, see the
  data sets' table in the project's README.

## Bits per byte on held-out text

Each text read alone in windows of {CONTEXT} tokens that overlap by half. `stories260K` is Karpathy's 260,032-parameter
model of TinyStories; the 5-gram is an interpolated modified Kneser-Ney model of the same training text and tokens.

{bits_table(figures)}

## Training loss

![Training loss by million tokens read](curve.svg)

## Twenty samples, seeds 0 to 19, temperature 0.8, not selected

{quoted}
""",
        encoding="utf-8",
    )


def steps_of(run: Path) -> int:
    """The last checkpoint's: the curve has every tenth step only."""
    return max(int(folder.name.removeprefix("step-")) for folder in run.glob("step-*"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the exported base; the card is written into it")
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run, for its curve")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds all data sets")
    parser.add_argument("--reference", type=Path, required=True, help="folder of the stories260K model")
    given = parser.parse_args()
    curve = [json.loads(line) for line in (given.run / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    curve = sorted({point["step"]: point for point in curve}.values(), key=lambda point: point["step"])
    base = Rival.load(given.base)
    draw_curve(curve, given.base / "curve.svg")
    write(given.base, table(given.data, base, Rival.load(given.reference)), samples(base), steps_of(given.run))


if __name__ == "__main__":
    main()
