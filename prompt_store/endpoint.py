"""Where obstore finds a bucket that is not Amazon's: looked at before it looks, as it panics at what is no address."""

import os

VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")
SCHEMES = ("http://", "https://")


def check_endpoint() -> None:
    """Raises ValueError."""
    for name in VARIABLES:
        if not os.environ.get(name, SCHEMES[0]).startswith(SCHEMES):
            raise ValueError(f"{name} must begin with http:// or https://")
