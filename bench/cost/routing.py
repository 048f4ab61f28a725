"""BBR and a body of a megabyte: the exchange as it is, what of it the transport takes, and a full decode in its place."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import partial

import msgspec

from bench.chain.workload import MODEL
from bench.cost.prompts import body
from bench.cost.protocol import body as body_message
from bench.cost.protocol import request_headers
from bench.cost.services import Stage
from bench.cost.timing import Case
from services.bbr.metrics import PrometheusObserver
from services.bbr.rules import BaseModel, FixedRules, Rules
from services.bbr.service import Bbr
from services.extproc.decisions import Forward, Reject, RequestDecision
from services.extproc.errors import ExtProcError
from services.extproc.events import Request
from services.extproc.exchange import Exchange, FailMode
from services.extproc.lifecycle import Parts
from services.openai.answer_model import EventRenamer, rename

MEGABYTE = 1_000_000
EVENT = b'data: {"id":"c-1","object":"chat.completion.chunk","created":1,"model":"%s","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
EVENTS = 100


def cases() -> Iterator[Case]:
    """Yield the request's cases at a megabyte, then an answer's renaming."""
    raw = body(MEGABYTE)
    messages = [request_headers("BUFFERED"), body_message(raw, end=True)]
    for what, aliases in (("model as it is", {}), ("model rewritten", {MODEL: "base"})):
        names = (BaseModel("base"),) if aliases else (BaseModel(MODEL),)
        stage, parts = _stage(Rules(names, aliases))
        changed = raw.replace(MODEL.encode(), b"base", 1) if aliases else None
        alone = Stage(_Fixed(Forward(body=changed, reroute=True)), parts)
        yield Case("router", f"BBR, 1 MB, {what}", partial(stage.exchange, messages))
        yield Case("router", f"transport alone, 1 MB, {what}", partial(alone.exchange, messages))
    yield Case("router", "full decode of 1 MB, json", partial(json.loads, raw))
    yield Case("router", "full decode of 1 MB, msgspec", partial(msgspec.json.decode, raw))
    yield Case("router", "full decode and encode of 1 MB, json", lambda: json.dumps(json.loads(raw)).encode())
    stream = (EVENT % MODEL.encode()) * EVENTS
    yield Case("router", "rename, per event", lambda: EventRenamer("asked").feed(stream, end=True), EVENTS)
    yield Case("router", "rename a plain answer of 1 MB", partial(rename, raw, "asked"))


class _Fixed(Exchange):
    """A service that decides without looking, to see what the transport takes."""

    name = "bbr"
    fail_mode = FailMode.CLOSED

    def __init__(self, decision: Forward) -> None:
        self._decision = decision

    def open(self, context: object) -> _Fixed:  # noqa: ARG002 - it looks at nothing
        return self

    async def request(self, request: Request) -> RequestDecision:  # noqa: ARG002
        return self._decision

    def refuse(self, error: ExtProcError, request: Request | None) -> Reject:
        raise AssertionError(request) from error


def _stage(rules: Rules) -> tuple[Stage, Parts]:
    parts = Parts()
    observer = PrometheusObserver(parts.registry, version="bench", log=print)
    return Stage(Bbr(FixedRules(rules), observer, chance=random.Random(0)), parts), Parts()
