"""What every answer tells a browser: run, load and guess nothing."""

import pytest

from server.api.headers import NOTHING, is_strict, with_safe_ones
from tests.server.site import Site

SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": NOTHING.decode(),
    "referrer-policy": "no-referrer",
}


@pytest.mark.parametrize(
    "path", ["/livez", "/tasks", "/info", "/metrics", "/openapi.json", "/nowhere", "/tasks/absent"]
)
def test_data_is_no_page(site: Site, path: str) -> None:
    """Answers, errors and the guard's refusals: the strictest policy, no sniffing, no referrer; without TLS no HSTS."""
    for answer in (site.http.get(path), site.http.get(path, headers={"Host": "evil.example"})):
        assert {name: answer.headers[name] for name in SAFE} == SAFE
        assert "strict-transport-security" not in answer.headers


def test_a_policy_of_its_own_stands() -> None:
    """Each header once."""
    own = [(b"Content-Security-Policy", b"default-src 'self'")]
    found = [name.lower() for name, _ in with_safe_ones(own, strict=False)]
    assert sorted(found) == [b"content-security-policy", b"referrer-policy", b"x-content-type-options"]


@pytest.mark.parametrize(
    ("scheme", "host", "wanted"),
    [
        ("https", "models.example", True),
        ("http", "models.example", False),
        ("https", "localhost", False),
        ("https", "127.0.0.1", False),
        ("https", "[::1]", False),
    ],
)
def test_browsers_are_told_to_keep_to_tls(scheme: str, host: str, wanted: bool) -> None:
    """Only under TLS, and never for this machine's names, whose other ports serve other things."""
    names = [name for name, _ in with_safe_ones([], strict=is_strict(scheme, [(b"host", host.encode())]))]
    assert (b"strict-transport-security" in names) == wanted
