"""The headers that make a write conditional, checked, repeatable: If-Match, If-None-Match, Content-Digest (RFC 9530)
and Idempotency-Key.

Knows their grammar; the store knows what they mean.
"""

import base64
import hashlib
import hmac
import re
import uuid

from starlette.requests import Request

from server.errors import Invalid, Unacceptable

ETAG = re.compile(r'"([!#-\[\]-~]*)"')
BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
DIGEST = re.compile(rf"([a-z0-9*][a-z0-9_.*-]*)=:({BASE64}):")
DIGESTS = rf"{DIGEST.pattern}([ \t]*,[ \t]*{DIGEST.pattern})*"
"""All of them in one header."""
OPERATION_ID = re.compile("[!-~]{1,255}")
HASHES = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


def operation_id(request: Request) -> str:
    """The client's Idempotency-Key, or one drawn for it. Raises Invalid."""
    given = request.headers.get("idempotency-key")
    if given is None:
        return uuid.uuid4().hex
    if not OPERATION_ID.fullmatch(given):
        raise Invalid("invalid_request", "an Idempotency-Key has 1 to 255 visible ASCII characters", "Idempotency-Key")
    return given


def is_given(request: Request) -> bool:
    """Whether the client chose the operation's id."""
    return "idempotency-key" in request.headers


def if_match(request: Request) -> str | None:
    """The one digest that must be current. Raises Invalid for lists, weak tags and `*`."""
    given = request.headers.get("if-match")
    if given is None:
        return None
    match = ETAG.fullmatch(given.strip())
    if match is None:
        raise Invalid("invalid_request", 'If-Match takes one digest: "<digest>"', "If-Match")
    return match[1]


def if_none_match(request: Request) -> bool:
    """Whether there must be no current version. Raises Invalid for anything but `*`."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    if given.strip() != "*":
        raise Invalid("invalid_request", "If-None-Match takes *", "If-None-Match")
    return True


def check_content_digest(request: Request, body: bytes) -> None:
    """Raises Invalid for a header that is none, Unacceptable when the bytes are others."""
    given = request.headers.get("content-digest")
    if given is None:
        return
    for member in given.split(","):
        match = DIGEST.fullmatch(member.strip())
        if match is None:
            raise Invalid("invalid_request", "Content-Digest must read like sha-256=:<base64>:", "Content-Digest")
        algorithm, encoded = match.groups()
        expected = base64.b64decode(encoded, validate=True)
        hashed = HASHES.get(algorithm)
        if hashed is not None and not hmac.compare_digest(hashed(body).digest(), expected):
            raise Unacceptable("digest_mismatch", "the body is not the one that Content-Digest names", "Content-Digest")
