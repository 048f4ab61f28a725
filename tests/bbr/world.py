"""A BBR with the demo's kind of rules, and an observer that remembers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from services.bbr.records import RequestRecord
from services.bbr.rules import BaseModel, FixedRules, Rules, RuleSource, UnknownModels
from services.bbr.service import Bbr
from services.extproc.events import Headers, Request

MODELS = (BaseModel("llama", adapters=("food",)), BaseModel("chatbot"))
ALIASES = {"l": "llama", "f": "food"}


@dataclass
class Notes:
    """An observer for tests."""

    records: list[RequestRecord] = field(default_factory=list)

    def request(self, record: RequestRecord) -> None:
        self.records.append(record)


def bbr(
    *,
    source: RuleSource | None = None,
    unknown: UnknownModels = UnknownModels.REJECT,
    notes: Notes | None = None,
) -> Bbr:
    return Bbr(source or FixedRules(Rules(MODELS, ALIASES, unknown)), notes or Notes())


def asking(
    body: bytes | None, path: str = "/v1/chat/completions", method: str = "POST", **headers: str
) -> Request:
    named = ((name.replace("_", "-"), value) for name, value in headers.items())
    return Request(Headers([(":method", method), (":path", path), *named]), body)


def chat(model: object = "llama", **fields: object) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}).encode()
