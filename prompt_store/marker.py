"""What tells a store from an empty mount point, an emptied bucket, or a place that is somebody else's."""

MARKER = "softprompt-store.json"
MARKER_TEXT = b'{"format":1}\n'
