"""The policies as Model Armor templates: `sanitizeUserPrompt` and `sanitizeModelResponse`, in Google's JSON.

A template's id is a policy's name; project and location may be anything. A caller blocks on `MATCH_FOUND`, so that
is said for what the policy blocks or redacts, and not for what it only inspects.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

import msgspec
from aiohttp import web

from services.openai.texts import Kind, Text
from services.safety.facades.engine import Engine, Judged, context
from services.safety.verdict import Action, Direction, Finding, State

PATH = (
    r"/v1/projects/{project:[^/]+}/locations/{location:[^/]+}/templates/{template:[^/:]+}"
    r":{method:sanitizeUserPrompt|sanitizeModelResponse}"
)
_TEXTS = frozenset({"PLAINTEXT_UTF8", "TXT", "CSV"})
_INJECTION = frozenset({"injection", "jailbreak", "pi-and-jailbreak", "prompt-attack"})
_LINKS = frozenset({"url", "malicious-uris"})
_RAI = {
    "hate": "hate_speech",
    "hate-speech": "hate_speech",
    "harassment": "harassment",
    "sexual": "sexually_explicit",
    "sexually-explicit": "sexually_explicit",
    "violence": "dangerous",
    "dangerous": "dangerous",
}
"""Category → the type of Google's responsible-AI filter that is nearest."""
_RAN = {"executionState": "EXECUTION_SUCCESS", "matchState": "MATCH_FOUND"}


class _Bytes(msgspec.Struct):
    byteDataType: str  # noqa: N815 - Google's names, here and below
    byteData: str  # noqa: N815


class _Data(msgspec.Struct):
    text: str | None = None
    byteItem: _Bytes | None = None  # noqa: N815


class _Request(msgspec.Struct):
    userPromptData: _Data | None = None  # noqa: N815
    modelResponseData: _Data | None = None  # noqa: N815


class ModelArmor:
    """Handles sanitize calls."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def sanitize(self, request: web.Request) -> web.Response:
        """Judge one text."""
        prompt = request.match_info["method"] == "sanitizeUserPrompt"
        policy = self._engine.policy(request.match_info["template"])
        if policy is None:
            return _error(404, "NOT_FOUND", "there is no policy of the template's name")
        try:
            value = _text(await request.read(), prompt=prompt)
        except ValueError as error:
            return _error(400, "INVALID_ARGUMENT", str(error))
        direction = Direction.PROMPT if prompt else Direction.RESPONSE
        text = Text(("text",), ("text",), "user" if prompt else "assistant", Kind.CONTENT, value)
        judged = await self._engine.judge([text], policy, context(direction, policy))
        if judged.failed:
            return _error(503, "UNAVAILABLE", "the text could not be judged")
        return web.json_response({"sanitizationResult": result(judged, value)})


def _text(body: bytes, *, prompt: bool) -> str:
    asked = msgspec.json.decode(body, type=_Request)
    data = asked.userPromptData if prompt else asked.modelResponseData
    if data is None:
        raise ValueError(f"{'userPromptData' if prompt else 'modelResponseData'} is missing")
    if data.text is not None:
        return data.text
    if data.byteItem is None or data.byteItem.byteDataType not in _TEXTS:
        raise ValueError("expected text, or a byteItem of text: files are not judged here")
    try:
        return base64.b64decode(data.byteItem.byteData, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("byteData: expected UTF-8 in base64") from error


def result(judged: Judged, value: str) -> dict[str, object]:
    """Return the `sanitizationResult` of a verdict on `value`."""
    verdict = judged.verdict
    acted = [one.finding for one in verdict.findings if one.action in {Action.REDACT, Action.BLOCK}]
    categories = {finding.category for finding in acted} | ({verdict.reason} if verdict.reason else set())
    filters: dict[str, object] = {}
    for category in sorted(categories):
        _add(filters, category)
    if "sdp" in filters:
        after = judged.edits.get(("text",), value)
        blocked = verdict.action is Action.BLOCK
        filters["sdp"] = {"sdpFilterResult": _inspected(acted) if blocked else _deidentified(after, acted)}
    return {
        "filterMatchState": "MATCH_FOUND" if filters else "NO_MATCH_FOUND",
        "invocationResult": "SUCCESS" if verdict.state is State.JUDGED else "PARTIAL",
        "filterResults": filters,
        "sanitizationMetadata": {},
    }


def _add(filters: dict[str, object], category: str) -> None:
    if category in _INJECTION:
        filters["pi_and_jailbreak"] = {"piAndJailbreakFilterResult": {**_RAN, "confidenceLevel": "HIGH"}}
    elif category in _LINKS:
        filters["malicious_uris"] = {"maliciousUriFilterResult": dict(_RAN)}
    elif category == "csam":
        filters["csam"] = {"csamFilterFilterResult": dict(_RAN)}
    elif category in _RAI:
        types = {_RAI[category]: {"confidenceLevel": "HIGH", "matchState": "MATCH_FOUND"}}
        filters["rai"] = {"raiFilterResult": {**_RAN, "raiFilterTypeResults": types | _types(filters)}}
    else:
        filters["sdp"] = {}


def _types(filters: dict[str, object]) -> dict[str, object]:
    match filters.get("rai"):
        case {"raiFilterResult": {"raiFilterTypeResults": dict() as types}}:
            return types
        case _:
            return {}


def _inspected(acted: Iterable[Finding]) -> dict[str, object]:
    found = [
        {
            "infoType": finding.rule,
            "likelihood": "VERY_LIKELY",
            "location": {"codepointRange": {"start": str(finding.start), "end": str(finding.end)}},
        }
        for finding in acted
    ]
    return {"inspectResult": {**_RAN, "findings": found}}


def _deidentified(after: object, acted: Iterable[Finding]) -> dict[str, object]:
    kinds = sorted({finding.rule for finding in acted})
    return {"deidentifyResult": {**_RAN, "data": {"text": after}, "infoTypes": kinds}}


def _error(code: int, status: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message, "status": status}}, status=code)
