"""A directory as PEFT saves it: the weights, and the kind that its type says. The server reads what is in them."""

import json
from collections.abc import Mapping
from pathlib import Path

from softprompt_client.answers import Kind

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
KINDS: Mapping[str, Kind] = {
    "PROMPT_TUNING": "embeddings",
    "P_TUNING": "embeddings",
    "CPT": "embeddings",
    "MULTITASK_PROMPT_TUNING": "embeddings",
    "PREFIX_TUNING": "prefix",
    "CARTRIDGE": "prefix",
    "ADAPTION_PROMPT": "adapter",
}


def read_directory(folder: Path) -> tuple[bytes, Kind]:
    """Raises ValueError for a directory that is none of PEFT's, or of a type that no server takes."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        data = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{folder}: a PEFT directory holds {CONFIG} and {WEIGHTS} (pickles are not read)") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{folder}: {CONFIG} is not JSON") from None
    kind = KINDS.get(str(config.get("peft_type"))) if isinstance(config, dict) else None
    if kind is None:
        raise ValueError(
            f"{folder}: the types that can be read are {', '.join(KINDS)}; LoRA and others change the base"
        )
    return data, kind
