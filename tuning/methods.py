"""Every method by its name: the kind it is served as, its learning rate, and how it begins on a base.

The table of the room: what is new to learn is added here. Knows settings and a base; no data beyond ids.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from prompt_store.metadata import Kind
from tuning import initial
from tuning.base import FrozenBase
from tuning.fine_tuning import FineTuning
from tuning.initial import Init
from tuning.inside import BottleneckAdapter, Lora
from tuning.llama_adapter import FAMILIES, LlamaAdapter, adapted
from tuning.method import Method
from tuning.p_tuning import Encoder, PTuning
from tuning.prefix_tuning import PrefixTuning
from tuning.prompt_tuning import PromptTuning

MethodName = Literal[
    "prompt_tuning", "p_tuning", "prefix_tuning", "llama_adapter", "lora", "bottleneck_adapter", "fine_tuning"
]


@dataclass(frozen=True, slots=True)
class Options:
    """What a method may be told besides its length. `init_text` for `init` "text".

    `encoder`: of p_tuning. `reparametrised`: prefix_tuning through an MLP. `gate_per_layer`: llama_adapter with one
    gate for all heads of a layer. `rank`: of lora. `units`: of bottleneck_adapter.
    """

    init: Init = "vocabulary"
    init_text: str = ""
    encoder: Encoder = "mlp"
    reparametrised: bool = False
    gate_per_layer: bool = False
    rank: int = 8
    units: int = 8


@dataclass(frozen=True, slots=True)
class Start:
    """What a method begins from: a base, `length` pseudo-tokens, and the ids of the training prompts."""

    base: FrozenBase
    options: Options
    length: int
    prompts: Sequence[Sequence[int]]
    labels: tuple[str, ...] | None
    delimiter: str
    seed: int

    def rows(self) -> Tensor:
        """First rows [length, hidden], as `options.init` says."""
        if self.options.init == "text":
            return initial.embedded(self.base, initial.text(self.base, self.options.init_text, self.length))
        if self.options.init == "random":
            return initial.noise(self.base, self.length, self.seed)
        ids = initial.vocabulary(self.prompts, self.length, self.seed)
        rows = initial.embedded(self.base, ids)
        if self.options.init == "labels":
            if self.labels is None:
                raise ValueError("only a task with labels can start from them")
            rows = initial.labels(self.base, self.labels, self.delimiter, rows)
        return rows


@dataclass(frozen=True, slots=True)
class Told:
    """One method. `kind` None: not served. `rate`: Adam's step by default, in the method's own units.

    `moved_rate`: the same where an encoder stands in front.
    """

    kind: Kind | None
    rate: float
    begin: Callable[[Start], Method]
    moved_rate: float | None = None

    def rate_for(self, options: Options) -> float:
        """With these options."""
        return self.moved_rate if self.moved_rate is not None and options.reparametrised else self.rate


def _prefix(start: Start) -> Method:
    deep = initial.keys_values(start.base, start.rows())
    hidden = start.base.base.hidden
    return PrefixTuning(deep, hidden, start.seed, reparametrised=start.options.reparametrised)


def _adapter(start: Start) -> Method:
    top = adapted(start.base.base.layers)
    heads = 1 if start.options.gate_per_layer else int(start.base.model.config.num_attention_heads)
    return LlamaAdapter(initial.attention_inputs(start.base, start.rows(), top), heads)


def lacking(base: FrozenBase, method: str) -> str | None:
    """Why a base cannot learn by a method; None when it can."""
    family = base.model.config.model_type
    if method == "llama_adapter" and family not in FAMILIES:
        return f"llama_adapter learns on {', '.join(FAMILIES)}; this base is {family}"
    return None


METHODS: Mapping[MethodName, Told] = {
    "prompt_tuning": Told("embeddings", 1.0, lambda start: PromptTuning(start.rows())),
    "p_tuning": Told("embeddings", 1e-2, lambda start: PTuning(start.rows(), start.options.encoder, start.seed)),
    "prefix_tuning": Told("prefix", 0.1, _prefix, moved_rate=2e-3),
    "llama_adapter": Told("adapter", 0.1, _adapter),
    "lora": Told(None, 1e-2, lambda start: Lora(start.base, start.options.rank, start.seed)),
    "bottleneck_adapter": Told(
        None, 1e-2, lambda start: BottleneckAdapter(start.base, start.options.units, start.seed)
    ),
    "fine_tuning": Told(None, 5e-4, lambda start: FineTuning(start.base)),
}
"""All that learn by gradient. `design` and `hard` write text: see their modules."""
