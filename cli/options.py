"""What `softprompt tune` may be told, an option a line. Knows names, bounds and help; the command knows the rest."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from tuning.compare import ALL
from tuning.hard import MAX_BUDGET
from tuning.initial import Init
from tuning.metrics import METRICS
from tuning.objective import Objective
from tuning.p_tuning import Encoder
from tuning.plan import Precision

Train = Annotated[Path, Argument(help="Rows to learn from: .jsonl or .csv, fields by name.", exists=True)]
Model = Annotated[str, Option(help="The frozen base: a directory or a Hub id.")]
Revision = Annotated[str | None, Option(help="Revision of a Hub id.")]
TemplateText = Annotated[str, Option("--template", help=r"Text with {fields} and {soft:n}; \n is a line feed.")]
Out = Annotated[Path, Option(help="The prompt file to write; checkpoint and report stand beside it.")]
Eval = Annotated[Path | None, Option("--eval", help="Held-out rows; without it a tenth of the inputs.", exists=True)]
Target = Annotated[str, Option(help="The field that holds the answer.")]
Delimiter = Annotated[str, Option("--target-delimiter", help="Stands between prompt and answer.")]
Methods = Annotated[
    str, Option("--method", help="One, several (a,b) or all: " + ", ".join(ALL) + ". See docs/tune.md.")
]
Instructions = Annotated[str, Option(help="What design and hard begin with: a sentence that tells the task.")]
Shots = Annotated[int, Option(help="Exemplars of design.", min=0)]
Draws = Annotated[int, Option(help="Draws of exemplars that design tries.", min=1)]
Scored = Annotated[int, Option("--budget", help="Rows that hard may read.", min=1, max=MAX_BUDGET)]
Flip = Annotated[bool, Option("--hotflip", help="Let the base's gradient propose words to hard.")]
Lengths = Annotated[str | None, Option(help="Several lengths to compare: 1,2,5,10,20.")]
Seeds = Annotated[int, Option(help="So many seeds from --seed on, learnt together; error bars need two.", min=1)]
Rank = Annotated[int, Option(help="Of lora.", min=1)]
Units = Annotated[int, Option(help="Of each bottleneck_adapter.", min=1)]
EncoderName = Annotated[Encoder, Option(help="What p_tuning puts rows through while learning.")]
Through = Annotated[bool, Option("--mlp", help="prefix_tuning through an MLP that is thrown away.")]
OneGate = Annotated[bool, Option("--gate-per-layer", help="llama_adapter as PEFT has it: one gate for all heads.")]
Labels = Annotated[str, Option(help="auto, none, or the closed set of answers: a,b,c.")]
Aim = Annotated[Objective | None, Option(help="labels: choose among them; lm: write the answer. By the labels.")]
Length = Annotated[int | None, Option(help="Pseudo-tokens; the template's slots say it where it has any.", min=1)]
Start = Annotated[Init | None, Option(help="First rows: labels where there are any, else vocabulary.")]
StartText = Annotated[str, Option(help="The text that --init text starts from.")]
Steps = Annotated[int, Option(help="Optimiser steps at most.", min=1)]
BatchSize = Annotated[int, Option(help="Rows a step.", min=1)]
Rate = Annotated[
    float | None, Option(help="Adam's step, in units of where learning begins; by the method.", min=1e-9, max=1e6)
]
Warmup = Annotated[int, Option(help="Steps until the full learning rate; afterwards it falls to zero.", min=0)]
EvalEvery = Annotated[int, Option(help="Steps between evaluations.", min=1)]
Patience = Annotated[int, Option(help="Evaluations without a better one before stopping.", min=1)]
Products = Annotated[Precision, Option("--precision", help="Of the matrix products while learning.")]
Metric = Annotated[str | None, Option(help="What to keep the best of: " + ", ".join(METRICS) + ".")]
NewTokens = Annotated[int, Option("--max-new-tokens", help="Longest answer when free text is evaluated.", min=1)]
Description = Annotated[str | None, Option(help="A sentence that goes into the file.")]
Seed = Annotated[int, Option(help="The same seed gives the same file on one machine.", min=0)]
Threads = Annotated[int | None, Option(help="CPU threads.", min=1)]
Device = Annotated[str, Option(help="auto, cpu or cuda.")]
SaveSeconds = Annotated[float, Option(help="Seconds between checkpoints.", min=0)]
KeepAll = Annotated[
    bool,
    Option("--keep-all", help="Write every run's file, its method, length and seed in the name, not the best alone."),
]
Resume = Annotated[bool, Option("--resume", help="Go on from the checkpoint beside --out, where there is one.")]
AsJson = Annotated[bool, Option("--json", help="Events as lines of JSON on standard output.")]
Push = Annotated[str | None, Option(help="Publish the file as this task.")]
