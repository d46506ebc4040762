"""A run on disk: one safetensors file, written whole or not at all, no pickle.

Holds what is learnt, the optimiser's moments, the best so far, and the run's numbers as JSON. Knows no model.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from prompt_store.durable import replace_file

RUNS = "lengths or seeds"
"""What runs of one sweep differ in: under this name an identity has them all."""


class CheckpointError(Exception):
    """A checkpoint that cannot be gone on from."""


def write(path: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Replace `path`, whole or not at all. `numbers` must be JSON. Raises OSError."""
    data = save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, {"run": json.dumps(numbers)})
    replace_file(path.resolve(), data)  # a link stays one


def keep(path: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> str | None:
    """`write`, or why it could not be written: whoever learns goes on."""
    try:
        write(path, tensors, numbers)
    except OSError as error:
        return error.strerror or type(error).__name__
    except SafetensorError:  # more tensors than its header may name
        return "it has become too large for its format"
    return None


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Raises CheckpointError for a file that is none, FileNotFoundError where there is no file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            numbers = json.loads((file.metadata() or {})["run"])
            return tensors, {"identity": numbers["identity"], "progress": numbers["progress"]}
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, TypeError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is not a checkpoint") from error


def resume(path: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and progress of a run with this identity; None where there is no checkpoint. Raises CheckpointError."""
    try:
        tensors, numbers = read(path)
    except FileNotFoundError:
        return None
    if numbers["identity"] != identity:
        other = ", ".join(differing(numbers["identity"], identity)) or "settings or data"
        raise CheckpointError(f"{path.name} belongs to a run with other {other}")
    return tensors, numbers["progress"]


def differing(one: Any, other: Any, name: str = "") -> list[str]:
    """Names of what two identities do not agree in, each once and without its place in them."""
    if one == other:
        return []
    if not (isinstance(one, dict) and isinstance(other, dict) and one.keys() & other.keys()):
        return [name]
    if name == RUNS and one.keys() != other.keys():
        return [name]
    found = [part for key in one.keys() | other.keys() for part in differing(one.get(key), other.get(key), str(key))]
    return sorted({part for part in found if part})


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as named tensors."""
    return {
        f"optimizer.{index}.{key}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def restore(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `moments`; other names are ignored."""
    whole = optimizer.state_dict()
    for name, tensor in tensors.items():
        owner, _, rest = name.partition(".")
        if owner == "optimizer":
            index, key = rest.split(".")
            whole["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(whole)
