"""PEFT's methods that are no soft prompts, told by the names of their tensors, so that a refusal can say what came.

Knows names alone; no tensors, no shapes.
"""

import re
from collections.abc import Iterable, Mapping

METHODS: Mapping[str, str] = {
    "adamss_": "AdaMSS",
    "beft_": "BEFT",
    "boft_": "BOFT",
    "c3a_": "C3A",
    "deft_": "DEFT",
    "delora_": "DeLoRA",
    "fourierft_": "FourierFT",
    "frod_": "FRoD",
    "glora_": "GLoRA",
    "gralora_": "GraLoRA",
    "hada_": "LoHa",
    "hira_": "HiRA",
    "hra_": "HRA",
    "ia3_": "IA3",
    "lily_": "Lily",
    "ln_tuning_": "LN tuning",
    "lokr_": "LoKr",
    "lora_E": "AdaLoRA",
    "lora_": "LoRA",
    "miss_": "MiSS",
    "oft_": "OFT",
    "osf_": "OSF",
    "peanut_": "PEANuT",
    "poly_": "Poly",
    "psoft_": "PSOFT",
    "pvera_lambda_": "PVeRA",
    "randlora_": "RandLoRA",
    "road_": "RoAd",
    "shadow_": "Shadow",
    "shira_": "SHiRA",
    "supertuning_": "Supertuning",
    "tinylora_": "TinyLoRA",
    "trainable_tokens_": "trainable tokens",
    "unilora_": "UniLoRA",
    "vblora_": "VB-LoRA",
    "vera_lambda_": "VeRA",
    "waveft_": "WaveFT",
    "xlora_": "X-LoRA",
}
"""How each begins the names of what it adds to a layer, the more telling before the less."""
ADDED = re.compile(rf"(?:^|\.)({'|'.join(METHODS)})")
INSIDE = "base_model.model."
"""How every PEFT file names a tensor that belongs into a layer of the base."""


def method_of(names: Iterable[str]) -> str | None:
    """What a file of these tensors is called; None for names that are nothing of PEFT's."""
    known = list(names)
    found = {match[1] for name in known if (match := ADDED.search(name))}
    named = next((METHODS[prefix] for prefix in METHODS if prefix in found), None)
    if named is None and any(name.startswith(INSIDE) for name in known):
        return "a method with tensors inside of the base's layers"
    return named
