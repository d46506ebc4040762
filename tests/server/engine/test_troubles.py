"""What an exception says of the device."""

import pytest

from server.engine.troubles import Trouble, trouble_of


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ("Triton Error [CUDA]: an illegal memory access was encountered", Trouble.DEVICE),
        ("Triton Error [CUDA]: misaligned address", Trouble.DEVICE),
        ("Triton Error [CUDA]: unspecified launch failure", Trouble.DEVICE),
        ("Triton Error [CUDA]: out of memory", Trouble.MEMORY),
        ("Triton Error [CUDA]: invalid argument", Trouble.OTHER),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", Trouble.MEMORY),
    ],
)
def test_what_a_launch_says_is_understood(said: str, trouble: Trouble) -> None:
    """After some of it nothing works there any more; the rest is one launch's."""
    assert trouble_of(RuntimeError(said)) is trouble
