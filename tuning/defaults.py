"""What a task is learnt with where nobody says: the length, the objective, the metric, the start.

One answer for the command line, the Python call and the server's jobs. Knows settings; no examples, no base.
"""

from prompt_store.template import PART
from tuning.initial import Init
from tuning.metrics import METRICS
from tuning.objective import Objective

LENGTH = 20
"""Pseudo-tokens (Lester et al., arXiv 2104.08691: gains are small beyond 20)."""


def slots(template: str) -> int:
    """Pseudo-tokens that a template's slots add up to."""
    return sum(int(match["soft"]) for match in PART.finditer(template) if match["soft"])


def length_for(template: str, wanted: int | None) -> int:
    """Raises ValueError for a length that the template contradicts."""
    own = slots(template)
    if own and wanted not in {None, own}:
        raise ValueError(f"the length is {wanted}, but the template's slots add up to {own}")
    return own or wanted or LENGTH


def objective_for(labels: tuple[str, ...] | None, wanted: Objective | None) -> Objective:
    """Raises ValueError for labels' likelihoods without labels."""
    if wanted is None:
        return "lm" if labels is None else "labels"
    if wanted == "labels" and labels is None:
        raise ValueError("the objective labels needs labels")
    return wanted


def metric_for(labels: tuple[str, ...] | None, wanted: str | None) -> str:
    """Raises ValueError for a metric that does not exist, and for one of free text where there are labels."""
    if wanted is not None and wanted not in METRICS:
        raise ValueError(f"the metric must be one of {', '.join(METRICS)}")
    if labels is not None and wanted not in {None, "accuracy"}:
        raise ValueError("a task with labels is measured by accuracy")
    return wanted or ("bleu" if labels is None else "accuracy")


def init_for(labels: tuple[str, ...] | None, wanted: Init | None) -> Init:
    """From the labels' own words where there are labels."""
    return wanted or ("labels" if labels else "vocabulary")
