"""The tests."""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # a GPU's kernels, on any machine; Triton reads it when it is imported
