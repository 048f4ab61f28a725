"""HTTP to judges: one session per provider, kept open; statuses become states; nothing is followed or guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import aiohttp
import msgspec

from services.safety.providers.base import Context, ProviderVerdict
from services.safety.providers.guard import Failure
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import HttpSettings, Secret
from services.safety.providers.shape import Call, Shape
from services.safety.verdict import State

_ANSWER_BYTES = 8 * 1024 * 1024  # masked texts come back whole; more is a wrong URL
_OK = 200
_TOO_LARGE = 413
_THROTTLED = 429
_SERVER_ERROR = 500


class Authorize(Protocol):
    """Credentials of one call."""

    def __call__(self, url: str, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove who asks; raise `ValueError` if there is nothing to prove it with."""


def by_header(secret: Secret | None, name: str = "authorization", prefix: str = "Bearer ") -> Authorize:
    """Return the headers of a secret that is sent as it is."""

    def authorize(url: str, body: bytes) -> Mapping[str, str]:  # noqa: ARG001 - signatures need them
        return {name: prefix + secret()} if secret else {}

    return authorize


class HttpJudge:
    """Asks one service."""

    def __init__(self, shape: Shape, settings: HttpSettings, authorize: Authorize) -> None:
        self.size = settings.size or shape.size
        self.items = shape.items
        self.alone = shape.alone
        self._shape = shape
        self._settings = settings
        self._authorize = authorize
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:
        """Return one verdict per piece; raise `Failure`."""
        answer = await self._post(self._shape.call(pieces, context))
        try:
            verdicts = self._shape.read(answer, pieces, context)
        except ValueError as error:
            raise Failure(State.ERROR, f"malformed answer: {type(error).__name__}") from error
        if len(verdicts) != len(pieces):
            raise Failure(State.ERROR, f"{len(verdicts)} verdicts on {len(pieces)} texts")
        return verdicts

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, call: Call) -> bytes:
        url = self._settings.url.rstrip("/") + call.path
        body = msgspec.json.encode(call.document)
        headers = {"content-type": "application/json", **self._settings.headers, **call.headers}
        try:
            headers |= self._authorize(url, body)
            post = self._open().post(url, data=body, headers=headers, allow_redirects=False)
            async with post as answer:
                _check(answer)
                return await _read(answer)
        except (aiohttp.ClientError, OSError) as error:
            raise Failure(State.ERROR, str(error) or type(error).__name__, again=True) from error
        except ValueError as error:
            raise Failure(State.ERROR, str(error)) from error

    def _open(self) -> aiohttp.ClientSession:
        """Return the session, made in the loop that uses it."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._settings.calls),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # the guard has the deadline
            )
        return self._session


def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status == _OK:
        return
    detail = f"status {answer.status}"
    if answer.status == _THROTTLED:
        raise Failure(State.THROTTLED, detail, retry_after=_seconds(answer.headers.get("retry-after", "")))
    if answer.status == _TOO_LARGE:
        raise Failure(State.LIMIT, detail)
    raise Failure(State.ERROR, detail, again=answer.status >= _SERVER_ERROR)


def _seconds(retry_after: str) -> float | None:
    return float(retry_after) if retry_after.isdecimal() else None  # the date form is left: a minute at most


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > _ANSWER_BYTES:
            raise Failure(State.ERROR, f"the answer is longer than {_ANSWER_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
