"""Certificates and keys as files: what serves, and what is refused in one line before anything is loaded."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from pydantic import ValidationError

from server.config import Settings
from server.tls import Tls, tls
from tests.server.certificates import encrypted, files

NOW = datetime.now(UTC)
CA = trustme.CA()


def loaded(given: dict[str, str]) -> Tls:
    found = tls(Settings(store="memory://", **given))  # type: ignore[arg-type]  # settings of text
    assert found is not None
    return found


def refusal(given: dict[str, str]) -> str:
    with pytest.raises(ValueError, match=r"\Atls_") as refused:
        loaded(given)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_without_a_certificate_there_is_no_tls() -> None:
    """And what belongs to one is refused."""
    assert tls(Settings(store="memory://")) is None
    for name in ("tls_key", "tls_key_password_file", "tls_client_ca"):
        with pytest.raises(ValidationError, match="tls_cert"):
            Settings(store="memory://", **{name: "x"})  # type: ignore[arg-type]  # one at a time


def test_a_certificate_and_its_key_serve(tmp_path: Path) -> None:
    """TLS 1.2 at least, HTTP/1.1 only; no doubt; in two files or in one, the key encrypted or not."""
    given = files(tmp_path, CA)
    both = tmp_path / "both.pem"
    both.write_bytes(Path(given["tls_key"]).read_bytes() + Path(given["tls_cert"]).read_bytes())
    hidden = encrypted(given, tmp_path)
    together = tmp_path / "together.pem"
    together.write_bytes(Path(hidden["tls_key"]).read_bytes() + Path(given["tls_cert"]).read_bytes())
    hidden_together = {"tls_cert": str(together), "tls_key_password_file": hidden["tls_key_password_file"]}
    for found in (loaded(given), loaded(hidden), loaded({"tls_cert": str(both)}), loaded(hidden_together)):
        assert found.context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert found.context.verify_mode is ssl.CERT_NONE
        assert found.doubt is None
        assert found.until is not None
        assert found.until > NOW


def test_clients_may_be_asked_for_a_certificate(tmp_path: Path) -> None:
    """Of the authority that is named, and no other."""
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    found = loaded({**files(tmp_path, CA), "tls_client_ca": str(tmp_path / "ca.pem")})
    assert found.context.verify_mode is ssl.CERT_REQUIRED
    assert len(found.context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("begins", "ends", "doubt"),
    [
        (-60, -1, "certificate has expired"),
        (1, 60, "certificate is not yet valid"),
        (-60, 3.5, "certificate expires in 3 days"),
    ],
)
def test_a_certificate_out_of_its_time_is_doubted(tmp_path: Path, begins: float, ends: float, doubt: str) -> None:
    """It is served, since a clock may be wrong, and a warning says what clients will."""
    given = files(tmp_path, CA, not_before=NOW + timedelta(days=begins), not_after=NOW + timedelta(days=ends))
    assert loaded(given).doubt == doubt


def test_files_that_cannot_serve_are_named(tmp_path: Path) -> None:
    """Absent, no PEM, of another certificate, encrypted without the password: one line, setting and file."""
    own, other = files(tmp_path, CA), files(tmp_path, CA, "other")
    hidden = encrypted(own, tmp_path)
    junk = tmp_path / "junk"
    junk.write_text("junk", encoding="utf-8")
    absent = str(tmp_path / "absent")
    assert "absent cannot be read: No such file" in refusal({**own, "tls_cert": absent})
    assert "absent cannot be read: No such file" in refusal({**own, "tls_key": absent})
    assert refusal({"tls_cert": absent}).startswith("tls_cert: "), "no key was named"
    assert "junk holds no certificate" in refusal({**own, "tls_cert": str(junk)})
    assert "junk holds no private key" in refusal({**own, "tls_key": str(junk)})
    assert "own.key holds no certificate" in refusal({"tls_cert": own["tls_key"]})
    assert "own.pem holds no private key" in refusal({"tls_cert": own["tls_cert"]})
    assert "other.key is not the key of the certificate in" in refusal({**own, "tls_key": other["tls_key"]})
    assert "encrypted, and no tls_key_password_file" in refusal({**own, "tls_key": hidden["tls_key"]})
    assert "not with the password" in refusal({**hidden, "tls_key_password_file": str(junk)})
    assert "absent cannot be read" in refusal({**hidden, "tls_key_password_file": absent})
    assert "junk holds no certificate" in refusal({**own, "tls_client_ca": str(junk)})
    assert "absent cannot be read" in refusal({**own, "tls_client_ca": absent})
