"""Judge a whole body, of a request or an answer: rules first, then the remote judges, which see only what the rules have left."""

from __future__ import annotations

from collections.abc import Sequence

from services.extproc.errors import BadRequest
from services.extproc.events import Headers, Request
from services.openai.edits import replace_values
from services.openai.errors import PeekError, Reason
from services.openai.peek import field_text
from services.openai.texts import Json, Path, Text, Undecodable, decode, walk
from services.safety.answer import Ask
from services.safety.encoded import TooLarge, is_readable, pack, unpack
from services.safety.holdback import LIMIT
from services.safety.judge import UNDECODABLE, UNSCANNABLE, Tally, judge, without_logprobs
from services.safety.policy import Side
from services.safety.remote import as_edited
from services.safety.verdict import State


async def judge_prompt(request: Request, side: Side, asker: Ask, tally: Tally) -> bytes | None:
    """Judge `request` into `tally` and return the body to send in its place, None for the one that came."""
    body, encoding = request.body, encoding_of(request.headers)
    if body is None or (why := _unreadable(request.headers)):
        _skip(side, tally, "body_not_seen" if body is None else why, len(body or b""))
        return None
    if (plain := _unpacked(body, encoding, side, tally)) is None:
        return None
    try:
        document = decode(plain)
        texts = tally.prompt = walk(document, labels=True)
    except Undecodable:
        _undecodable(request, side, tally)
        return None
    edits = await _judged(texts, side, asker, tally)
    return _packed(replace_values(plain, edits), encoding) if edits and not tally.block else None


def model_of(request: Request) -> str:
    """Return the model that the body names, empty where it names none; raise `BadRequest` for one that names two."""
    try:
        return field_text(request.body or b"", "model", request.headers.get("content-type") or "") or ""
    except PeekError as error:
        if (
            error.reason is Reason.DUPLICATE_FIELD
        ):  # the server may take the other one, and another policy was meant
            raise BadRequest(error.message) from error
        return ""  # what cannot be read is refused, or passes, as the default policy says


async def judge_answer(body: bytes, side: Side, asker: Ask, tally: Tally, encoding: str = "") -> bytes | None:
    """Judge a whole answer into `tally` and return the body to send in its place, None for the one that came."""
    if (plain := _unpacked(body, encoding, side, tally)) is None:
        return None
    try:
        document = decode(plain)
        texts = walk(document, "assistant", labels=True)
    except Undecodable:
        tally.not_judged(UNDECODABLE, len(body), side, State.SKIPPED)
        return None
    edits = await _judged(texts, side, asker, tally)
    if edits and side.drop_logprobs:
        edits |= without_logprobs(texts, document)
    return _packed(replace_values(plain, edits), encoding) if edits and not tally.block else None


async def _judged(texts: Sequence[Text], side: Side, asker: Ask, tally: Tally) -> dict[Path, Json]:
    edits = judge(texts, side, tally)
    if side.providers and not tally.block:
        edits |= await asker(as_edited(texts, edits), True)
    return edits


def media_type(headers: Headers) -> str:
    """Return the content type without parameters, in lower case."""
    return (headers.get("content-type") or "").partition(";")[0].strip().lower()


def encoding_of(headers: Headers) -> str:
    """Return the content encoding in lower case; empty for a body whose bytes are its text."""
    return (headers.get("content-encoding") or "").strip().lower().removeprefix("identity")


def _unreadable(headers: Headers) -> str:
    encoding = encoding_of(headers)
    if encoding and not is_readable(encoding):
        return "encoded"
    return "content_type" if media_type(headers).startswith("multipart/") else ""


def _unpacked(body: bytes, encoding: str, side: Side, tally: Tally) -> bytes | None:
    """Return the bytes of the text; None, with the reason in the tally, where there are none or too many."""
    if not encoding:
        return body
    try:
        return unpack(body, encoding)
    except TooLarge:
        tally.not_judged(LIMIT, len(body), side, State.LIMIT)
    except ValueError:
        tally.not_judged(UNDECODABLE, len(body), side, State.SKIPPED)
    return None


def _packed(body: bytes, encoding: str) -> bytes:
    return pack(body, encoding) if encoding else body


def _undecodable(request: Request, side: Side, tally: Tally) -> None:
    """Tell what claims to be JSON and is not, an error, from a type that nobody here can read."""
    kind, size = media_type(request.headers), len(request.body or b"")
    if "json" not in kind and kind:
        _skip(side, tally, "content_type", size)
        return
    tally.not_judged(UNDECODABLE, size, side, State.SKIPPED)


def _skip(side: Side, tally: Tally, why: str, size: int) -> None:
    tally.skip(why, size)
    if not side.allow_unscannable:
        tally.block = UNSCANNABLE
