"""TLS on the listening socket: a certificate and a key as files, made into a context or refused with the reason.

Knows certificates and no HTTP. A context says nothing of its certificate, so it is shaken hands with once, in memory:
OpenSSL's own verdict on the dates comes back, in the words that clients will hear.
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from server.config import Settings

SOON_DAYS = 14
PROTOCOLS = ["http/1.1"]


@dataclass(frozen=True, slots=True)
class Tls:
    """`until`: when the certificate ends, where that could be read; `doubt`: why clients may refuse it, or None."""

    context: ssl.SSLContext
    until: datetime | None
    doubt: str | None


def tls(settings: Settings) -> Tls | None:
    """None where no certificate is named. Raises ValueError, in one line, for files that cannot serve."""
    if settings.tls_cert is None:
        return None
    cert, key = settings.tls_cert, settings.tls_key or settings.tls_cert
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(PROTOCOLS)
    _load(context, cert, key, _password(settings))
    until, doubt = _verdict(context, cert)
    if settings.tls_client_ca is not None:
        if not _certificates(settings.tls_client_ca, "tls_client_ca", context):
            raise ValueError(f"tls_client_ca: {settings.tls_client_ca} holds no certificate (PEM is wanted)")
        context.verify_mode = ssl.CERT_REQUIRED
    return Tls(context, until, doubt)


def _password(settings: Settings) -> str | None:
    file = settings.tls_key_password_file
    return None if file is None else _read(file, "tls_key_password_file").decode(errors="replace").rstrip("\r\n")


def _read(file: str, name: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: {file} cannot be read: {error.strerror}") from None


def _load(context: ssl.SSLContext, cert: str, key: str, password: str | None) -> None:
    asked = False

    def answer() -> str:  # without it OpenSSL would ask the terminal
        nonlocal asked
        asked = True
        return password or ""

    if key != cert:
        _read(key, "tls_key")
    if not _certificates(cert, "tls_cert", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)):
        raise ValueError(f"tls_cert: {cert} holds no certificate (PEM is wanted)")
    try:
        context.load_cert_chain(cert, key, answer)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(_why(error, cert, key, password if asked else "")) from None


def _why(error: Exception, cert: str, key: str, password: str | None) -> str:
    """`password` is "" where none was asked for, None where it was and there is none."""
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"tls_key: {key} is not the key of the certificate in {cert}"
    if password is None:
        return f"tls_key: {key} is encrypted, and no tls_key_password_file is named"
    if password:
        return f"tls_key: {key} is encrypted, and not with the password in tls_key_password_file"
    if getattr(error, "reason", None):
        return f"tls_cert: {cert} is not taken by OpenSSL: {getattr(error, 'reason', '')}"
    return f"tls_key: {key} holds no private key (PEM is wanted)"


def _certificates(file: str, name: str, context: ssl.SSLContext) -> int:
    """How many certificates of `file` the context has come to trust."""
    _read(file, name)
    before = context.cert_store_stats()["x509"]
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        return 0
    return context.cert_store_stats()["x509"] - before


def _verdict(context: ssl.SSLContext, cert: str) -> tuple[datetime | None, str | None]:
    """The end of the certificate, and what a client that trusts it has against it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cert)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is trusted, whoever signed it
    try:
        told = _shaken(context, client)
    except ssl.SSLCertVerificationError as error:
        return None, error.verify_message
    except ssl.SSLError as error:
        return None, error.reason
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(told["notAfter"])), UTC)
    days = (until - datetime.now(UTC)).days
    return until, f"certificate expires in {days} days" if days < SOON_DAYS else None


def _shaken(context: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, object]:
    """A handshake of the two in memory: what the client learns of the certificate. Raises ssl.SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(up, down, server_side=True)
    theirs = client.wrap_bio(down, up)
    waiting = [theirs, ours]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
    return dict(theirs.getpeercert() or {})
