"""What is said without a route is written once for each thing that is said, and said of each request."""

from itertools import pairwise

import pytest

from server.api.words import word
from server.errors import Fault, Invalid, TooMany, Unavailable


def fault(kind: type[Fault], code: str, message: str = "m", param: str | None = None, **headers: str) -> Fault:
    found = kind(code, message, param)
    found.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return found


DIFFERENT = [
    (Invalid, "invalid_request", {}),
    (Invalid, "invalid_json", {}),
    (Invalid, "invalid_json", {"message": "another"}),
    (Invalid, "invalid_json", {"message": "another", "param": "inputs"}),
    (TooMany, "too_many_requests", {"Retry_After": "1"}),
    (TooMany, "too_many_requests", {"Retry_After": "2"}),
    (Unavailable, "queue_full", {}),
]


@pytest.mark.parametrize(("one", "other"), list(pairwise(DIFFERENT)))
def test_two_things_are_never_said_alike(
    one: tuple[type[Fault], str, dict[str, str]], other: tuple[type[Fault], str, dict[str, str]]
) -> None:
    """Whatever they differ in, and however often each is said."""
    ways = {"last": False, "pages": False, "strict": False}
    said = [word(fault(kind, code, **given), "id", **ways) for kind, code, given in (one, other) * 2]
    assert said[:2] == said[2:]
    assert said[0] != said[1]


def test_each_request_is_told_its_own_id_and_how_its_connection_goes_on() -> None:
    """The same fault, said to several."""
    full = fault(TooMany, "too_many_requests", Retry_After="3")
    ways = {"last": False, "pages": False, "strict": False}
    plain = word(full, "a-1", **ways)
    ends, page, secure = (word(full, "a-1", **{**ways, one: True}) for one in ways)
    assert word(full, "b-2", **ways) == plain.replace(b"a-1", b"b-2")
    assert ends.replace(b"connection: close\r\n", b"") == plain == page.replace(b"vary: Origin\r\n", b"")
    assert secure.replace(b"strict-transport-security: max-age=31536000\r\n", b"") == plain
    assert len({plain, ends, page, secure}) == 4
