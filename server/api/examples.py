"""What answers look like, for the OpenAPI document: a question to the demo task `intent`. Knows shapes alone."""

from typing import Any

from pydantic import ConfigDict

DIGEST = "29d4a3d0858b08119abee3d42900a55cdf12d82b18942ef4bbd04a77820086e9"
NAMED = {"task": "intent", "version": 1, "digest": DIGEST}

GENERATED = NAMED | {
    "generated_text": "music",
    "finish_reason": "length",
    "usage": {"prompt_tokens": 6, "soft_tokens": 20, "cached_tokens": 1, "completion_tokens": 1, "total_tokens": 7},
    "seed": 7,
}
CLASSIFIED = NAMED | {
    "label": "music",
    "scores": [
        {"label": "music", "logprob": -0.21, "probability": 0.98},
        {"label": "playlist", "logprob": -4.1, "probability": 0.02},
    ],
}
RENDERED = NAMED | {
    "text": "play",
    "ids": [1, 442],
    "slots": [{"position": 0, "row": 0, "length": 10}, {"position": 12, "row": 10, "length": 10}],
    "counts": {"prompt_tokens": 2, "soft_tokens": 20, "total_tokens": 22, "context": 1024},
}
TASK = {
    "object": "task",
    "id": "intent",
    "version": 1,
    "kind": "embeddings",
    "length": 20,
    "digest": DIGEST,
    "bytes": 21416,
    "template": "{soft:10}{text}{soft:10}",
    "target_delimiter": " ",
    "labels": ["music", "playlist"],
    "defaults": {"max_new_tokens": 1},
    "description": None,
    "metrics": {"test_accuracy": 0.9571},
    "base": None,
    "verified": True,
    "servable": True,
    "created": 1796000000,
    "resident": True,
}
NEAREST = {"data": [{"row": 0, "tokens": [{"id": 3021, "text": " mus", "cosine": 0.31}]}]}


def like(example: dict[str, Any]) -> ConfigDict:
    """A model that shows `example`."""
    return ConfigDict(json_schema_extra={"examples": [example]})
