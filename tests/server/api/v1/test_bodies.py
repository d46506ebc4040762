"""The bodies of OpenAI's routes, checked."""

import pytest
from pydantic import ValidationError

from server.api.v1.bodies import DetokenizeBody


def test_of_many_that_are_no_ids_one_is_told() -> None:
    """To tell a million apart took seconds, in which nobody else was answered."""
    with pytest.raises(ValidationError) as refused:
        DetokenizeBody.model_validate({"tokens": [{}] * 1000})
    assert refused.value.error_count() == 1
