"""AWS Signature Version 4, as much as a JSON POST needs. Pure: time comes in as an argument.

After "Create a signed AWS API request" of the IAM user guide; held to the published test vectors.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl, quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs."""

    access_key: str
    secret_key: str
    session_token: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signature is good for."""

    region: str
    service: str


def sign(
    method: str,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    who: Credentials,
    scope: Scope,
    at: datetime,
) -> dict[str, str]:
    """Return the headers to add: `authorization`, `x-amz-date` and a session token. `at` is in UTC.

    `headers` are signed too; `host` is taken from `url`.
    """
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": stamp}
    if who.session_token:
        added["x-amz-security-token"] = who.session_token
    parts = urlsplit(url)
    signed = {name.lower(): " ".join(value.split()) for name, value in {**headers, **added}.items()}
    signed["host"] = parts.netloc
    names = ";".join(sorted(signed))
    request = "\n".join((
        method, _path(parts.path), _query(parts.query),
        *(f"{name}:{signed[name]}" for name in sorted(signed)), "",
        names, hashlib.sha256(body).hexdigest(),
    ))  # fmt: skip
    place = f"{stamp[:8]}/{scope.region}/{scope.service}/aws4_request"
    to_sign = "\n".join((_ALGORITHM, stamp, place, hashlib.sha256(request.encode()).hexdigest()))
    signature = hmac.new(_key(who, stamp[:8], scope), to_sign.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={who.access_key}/{place}"
    return added | {
        "authorization": f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"
    }


def _key(who: Credentials, day: str, scope: Scope) -> bytes:
    key = f"AWS4{who.secret_key}".encode()
    for part in (day, scope.region, scope.service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _path(path: str) -> str:
    # Encoded once more than it is sent: every service but S3 wants that.
    return quote(path, safe="/-_.~") or "/"


def _query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return "&".join(
        sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    )
