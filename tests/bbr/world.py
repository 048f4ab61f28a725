"""A BBR with the demo's kind of rules, and an observer that remembers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.bbr.chain import Chain, Link
from services.bbr.plugins import OnError, RequestPlugin, ResponsePlugin
from services.bbr.records import PluginId, Point, RequestRecord
from services.bbr.rules import BaseModel, FixedRules, Resolution, Rules, RuleSource, UnknownModels
from services.bbr.service import Bbr
from services.extproc.events import Headers, Request

MODELS = (BaseModel("llama", adapters=("food",)), BaseModel("chatbot"))
ALIASES = {"l": "llama", "f": "food"}


@dataclass
class Notes:
    """An observer for tests."""

    records: list[RequestRecord] = field(default_factory=list)
    runs: list[tuple[Point, str, float]] = field(default_factory=list)
    failures: list[tuple[Point, str, Exception]] = field(default_factory=list)

    def request(self, record: RequestRecord) -> None:
        self.records.append(record)

    def plugin_ran(self, point: Point, plugin: PluginId, seconds: float) -> None:
        self.runs.append((point, plugin.name, seconds))

    def plugin_failed(self, point: Point, plugin: PluginId, error: Exception) -> None:
        self.failures.append((point, plugin.name, error))


def bbr(
    *,
    source: RuleSource | None = None,
    rules: Rules | None = None,
    unknown: UnknownModels = UnknownModels.REJECT,
    notes: Notes | None = None,
    plugins: Sequence[RequestPlugin | ResponsePlugin | Link] = (),
    answer_limit: int = 1 << 20,
) -> Bbr:
    notes = notes or Notes()
    source = source or FixedRules(rules or Rules(MODELS, ALIASES, unknown))
    return Bbr(
        source,
        notes,
        chance=random.Random(7),
        chain=chain(*plugins, notes=notes) if plugins else None,
        answer_limit=answer_limit,
    )


def chain(*plugins: RequestPlugin | ResponsePlugin | Link, notes: Notes) -> Chain:
    """Return a chain; a plugin that is no link fails closed. Its clock moves a second with every look."""
    ticks = iter(range(1_000_000))
    links = [plugin if isinstance(plugin, Link) else link(plugin) for plugin in plugins]
    return Chain(links, notes, lambda: next(ticks))


def link(plugin: RequestPlugin | ResponsePlugin, on_error: OnError = OnError.CLOSED) -> Link:
    name = type(plugin).__name__
    return Link(PluginId(name, name), plugin, on_error)


def way(rules: Rules, model: str, key: Callable[[str], str] = lambda _: "") -> Resolution | None:
    """Resolve `model` for a request with these sticky keys."""
    return rules.resolve(model, key, random.Random(3))


def asking(
    body: bytes | None, path: str = "/v1/chat/completions", method: str = "POST", **headers: str
) -> Request:
    named = ((name.replace("_", "-"), value) for name, value in headers.items())
    return Request(Headers([(":method", method), (":path", path), *named]), body)


def chat(model: object = "llama", **fields: object) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}).encode()
