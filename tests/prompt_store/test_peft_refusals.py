"""PEFT's files that are refused: other methods, other bases, other shapes, damage."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from prompt_store.container import write
from prompt_store.errors import PromptError
from prompt_store.metadata import Base
from prompt_store.peft import CONFIG, WEIGHTS, convert, read_directory, to_peft
from tests.prompt_store.make import embeddings, tensor, text_task

BASE = Base("ab" * 32, "tiny", hidden=16, layers=3, kv_heads=2, head_dim=4)


def rows_of(width: int, rows: int = 5) -> bytes:
    """A bare PEFT file of some width."""
    return save({"prompt_embeddings": torch.ones(rows, width)}, {"format": "pt"})


def bare(**shapes: tuple[int, ...]) -> bytes:
    """A file of these tensors, their names' dots written as `__`."""
    return write({}, {name.replace("__", "."): tensor(*shape) for name, shape in shapes.items()})


LAYER = "model__layers__{}__self_attn__adaption_{}"
ADAPTED = {LAYER.format(2, "prompt"): (1, 4, 16), LAYER.format(2, "gate"): (1,)}
ABUSES: dict[str, tuple[bytes, str]] = {
    "no tensor": (bare(), "wrong_tensors"),
    "LoRA": (bare(lora_A=(2, 16)), "wrong_tensors"),
    "one tensor too many": (bare(prompt_embeddings=(5, 16), x=(1,)), "wrong_tensors"),
    "another width": (bare(prompt_embeddings=(5, 17)), "wrong_shape"),
    "rank 1": (bare(prompt_embeddings=(16,)), "wrong_shape"),
    "rank 3": (bare(prompt_embeddings=(1, 5, 16)), "wrong_shape"),
    "no rows": (bare(prompt_embeddings=(0, 16)), "wrong_shape"),
    "too many rows": (bare(prompt_embeddings=(16_385, 16)), "wrong_shape"),
    "factors that do not fit": (
        bare(prompt_embeddings=(5, 16), prefix_task_cols=(3, 5, 2), prefix_task_rows=(3, 1, 16)),
        "wrong_shape",
    ),
    "factors without tasks": (
        bare(prompt_embeddings=(5, 16), prefix_task_cols=(0, 5, 2), prefix_task_rows=(0, 2, 16)),
        "wrong_shape",
    ),
    "factors of rank 2": (
        bare(prompt_embeddings=(5, 16), prefix_task_cols=(5, 2), prefix_task_rows=(2, 16)),
        "wrong_shape",
    ),
    "an adapter that is not on top": (
        bare(**{LAYER.format(0, "prompt"): (1, 4, 16), LAYER.format(0, "gate"): (1,)}),
        "wrong_tensors",
    ),
    "an adapter without its gate": (bare(**{LAYER.format(2, "prompt"): (1, 4, 16)}), "wrong_tensors"),
    "an adapter above the base": (
        bare(**ADAPTED, **{LAYER.format(3, "prompt"): (1, 4, 16), LAYER.format(3, "gate"): (1,)}),
        "wrong_tensors",
    ),
    "an adapter of another width": (bare(**{**ADAPTED, LAYER.format(2, "prompt"): (1, 4, 8)}), "wrong_shape"),
    "an adapter of rank 2": (bare(**{**ADAPTED, LAYER.format(2, "prompt"): (4, 16)}), "wrong_shape"),
    "an adapter with a wide gate": (bare(**{**ADAPTED, LAYER.format(2, "gate"): (2,)}), "wrong_shape"),
}


@pytest.mark.parametrize("name", ABUSES)
def test_other_files_are_refused(name: str) -> None:
    """What no prompt method of PEFT writes for this base is refused with its code."""
    data, code = ABUSES[name]
    with pytest.raises(PromptError) as caught:
        convert(data, BASE)
    assert caught.value.code == code


def test_non_finite_rows_are_refused() -> None:
    """NaN in a PEFT file, or out of a product of its factors, never becomes a file of ours."""
    rows = torch.ones(5, 16)
    rows[4, 15] = float("nan")
    with pytest.raises(PromptError, match="NaN"):
        convert(save({"prompt_embeddings": rows}), BASE)
    factors = {"prompt_embeddings": torch.full((5, 16), 1e38), "prefix_task_cols": torch.full((1, 5, 1), 1e38)}
    with pytest.raises(PromptError):
        convert(save({**factors, "prefix_task_rows": torch.ones(1, 1, 16)}), BASE, task_index=0)


def test_task_index_needs_a_multitask_file() -> None:
    """An index without tasks is refused, not ignored."""
    with pytest.raises(PromptError) as caught:
        convert(rows_of(16), BASE, task_index=0)
    assert caught.value.code == "bad_task_index"


def test_only_leading_rows_are_written_for_peft(tmp_path: Path) -> None:
    """A template with a slot behind text, and the kinds that PEFT has no directory for, are refused before writing."""
    for file, code in ((embeddings(3, template="{a}{soft:3}"), "bad_template"), (text_task(), "unsupported_kind")):
        with pytest.raises(PromptError) as caught:
            to_peft(file, tmp_path / "made")
        assert caught.value.code == code
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ("{", "bad_directory"),
        ("[]", "unsupported_kind"),
        ('{"peft_type":"LORA"}', "unsupported_kind"),
        ("{}", "unsupported_kind"),
    ],
)
def test_directories_of_other_methods_are_refused(config: str, code: str, tmp_path: Path) -> None:
    """The type in adapter_config.json must be one whose file can be read."""
    (tmp_path / WEIGHTS).write_bytes(rows_of(16))
    (tmp_path / CONFIG).write_text(config)
    with pytest.raises(PromptError) as caught:
        read_directory(tmp_path)
    assert caught.value.code == code


def test_directory_with_a_pickle_is_refused(tmp_path: Path) -> None:
    """adapter_model.bin is never opened."""
    (tmp_path / CONFIG).write_text(json.dumps({"peft_type": "PROMPT_TUNING"}))
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(PromptError, match="pickles"):
        read_directory(tmp_path)
