"""What tells a store from an empty mount point, an emptied bucket, or a place that is somebody else's."""

import json

from prompt_store.errors import StoreUnavailable, StoreUnsuitable

MARKER = "softprompt-store.json"
MARKER_TEXT = b'{"format":1}\n'


def check_format(found: bytes) -> None:
    """Of a marker that is not ours. Raises StoreUnsuitable for another format's, else StoreUnavailable."""
    try:
        other = json.loads(found)
    except (ValueError, RecursionError):
        other = None
    if isinstance(other, dict) and "format" in other:
        raise StoreUnsuitable("the store is of another format than this server reads")
    raise StoreUnavailable("something else answers in the place of the store")
