"""The policies as a LiteLLM generic guardrail: texts in, texts or a block back.

The policy is the model's, or the one that the path names (`api_base: http://host:port/policies/NAME`): both are the
gateway's configuration. Parameters in the body are not read, since LiteLLM lets its clients add to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from aiohttp import web

from services.openai.texts import Json, Kind, Text, walk
from services.safety.facades.engine import Engine, Judged, context
from services.safety.policy import Policy
from services.safety.verdict import Action, Direction

PATH = "/beta/litellm_basic_guardrail_api"
NAMED_PATH = "/policies/{policy}" + PATH


class _Request(msgspec.Struct):
    input_type: Literal["request", "response"]
    texts: list[str] | None = None
    images: list[object] | None = None
    tools: list[object] | None = None
    tool_calls: list[object] | None = None
    structured_messages: list[dict[str, object]] | None = None
    model: str | None = None
    litellm_call_id: str | None = None


class LiteLLM:
    """Handles guardrail calls."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def judge(self, request: web.Request) -> web.Response:
        """Judge what one call of LiteLLM holds."""
        try:
            asked = msgspec.json.decode(await request.read(), type=_Request)
        except msgspec.DecodeError as error:
            return web.json_response({"error": str(error)}, status=400)
        policy = self._policy(request, asked)
        if policy is None:
            return web.json_response({"error": "there is no policy of that name"}, status=404)
        direction = Direction.PROMPT if asked.input_type == "request" else Direction.RESPONSE
        texts = _texts(asked, direction)
        about = context(direction, policy, asked.model or "", asked.litellm_call_id or "")
        judged = await self._engine.judge(texts, policy, about)
        if judged.failed:
            return web.json_response({"error": "the texts could not be judged"}, status=503)
        message = policy.side(direction).message
        return web.json_response(answer(judged, asked.texts or [], message))

    def _policy(self, request: web.Request, asked: _Request) -> Policy | None:
        if "policy" in request.match_info:
            return self._engine.policy(request.match_info["policy"])
        return self._engine.policy_of(asked.model or "")


def _texts(asked: _Request, direction: Direction) -> list[Text]:
    """Return all that can be judged: what may be changed under `texts`, what may not under its own field."""
    author = "user" if direction is Direction.PROMPT else "assistant"
    roles = _roles(asked.structured_messages or ())
    texts = [
        Text(("texts", at), ("texts", at), roles.get(value, author), Kind.CONTENT, value)
        for at, value in enumerate(asked.texts or ())
    ]
    known = set(asked.texts or ())
    beside = {
        "tools": asked.tools,
        "tool_calls": asked.tool_calls,
        "structured_messages": asked.structured_messages,
    }
    document: Json = msgspec.convert(
        {name: value for name, value in beside.items() if value}, dict[str, object]
    )  # type: ignore[assignment]  # JSON, as it was decoded
    texts += [text for text in walk(document, author) if text.value not in known]
    for at, image in enumerate(asked.images or ()):
        path = ("images", at)
        texts.append(Text(path, path, author, Kind.MEDIA, "", len(str(image))))
    return texts


def _roles(messages: Mapping[str, object] | tuple[()] | list[dict[str, object]]) -> dict[str, str]:
    return {
        content: role
        for message in messages
        if isinstance(message, dict)
        and isinstance(content := message.get("content"), str)
        and isinstance(role := message.get("role"), str)
    }


def answer(judged: Judged, texts: list[str], message: str) -> dict[str, object]:
    """Return LiteLLM's answer. What must be changed where the contract cannot change it, is blocked."""
    verdict = judged.verdict
    elsewhere = [path for path in judged.edits if path[0] != "texts"]
    if verdict.action is Action.BLOCK or elsewhere:
        category = verdict.reason or next(
            (one.finding.category for one in verdict.findings if one.action is Action.REDACT), "policy"
        )
        return {"action": "BLOCKED", "blocked_reason": message.format(category=category)}
    if not judged.edits:
        return {"action": "NONE"}
    changed = [judged.edits.get(("texts", at), text) for at, text in enumerate(texts)]
    return {"action": "GUARDRAIL_INTERVENED", "texts": changed}
