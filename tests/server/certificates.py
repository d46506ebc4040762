"""Certificates for tests, as the files that settings name."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

PASSWORD = "correct horse"


def files(
    folder: Path,
    ca: trustme.CA,
    name: str = "own",
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> dict[str, str]:
    """`tls_cert` and `tls_key` of a certificate for this machine's names."""
    names = ("localhost", "127.0.0.1", "models.example")
    issued = ca.issue_cert(*names, not_before=not_before, not_after=not_after)
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return {"tls_cert": str(cert), "tls_key": str(key)}


def encrypted(found: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The same with the key encrypted, and the file of its password."""
    key: Any = load_pem_private_key(Path(found["tls_key"]).read_bytes(), None)
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode()))
    (folder / "encrypted.key").write_bytes(data)
    (folder / "password").write_text(f"{PASSWORD}\n", encoding="utf-8")
    own = {"tls_key": str(folder / "encrypted.key"), "tls_key_password_file": str(folder / "password")}
    return {**found, **own}
