"""What BBR reports of each request, and to whom; counting is an adapter's work."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from services.openai.dialects import Dialect
from services.openai.errors import Reason


class Result(enum.StrEnum):
    """What became of a request."""

    ROUTED = "routed"
    """It has a model header now."""
    LISTED = "listed"
    """It asked for the models, and was answered."""
    PASSED = "passed"
    """It is none of BBR's business."""
    REFUSED = "refused"


class Refusal(enum.StrEnum):
    """Why a request is refused although its body can be read. With `Reason`, a closed set."""

    MODEL_NOT_FOUND = "model_not_found"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    """It exists, but not for this consumer, or for nobody."""
    UNKNOWN_PATH = "unknown_path"
    CONTENT_ENCODING = "content_encoding"
    BODY_NOT_SEEN = "body_not_seen"
    PLUGIN_FAILED = "plugin_failed"


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What a rule made of a name, the same name included. All three are of closed sets."""

    rule: str
    asked: str
    """`OTHER_NAME` where a generic rule took a name that nothing lists."""
    target: str


OTHER_NAME = "other"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request, as far as BBR goes."""

    dialect: Dialect
    result: Result
    rewritten: bool = False
    """The server is asked for another name than the client wrote."""
    reason: Reason | Refusal | None = None
    """Set when it is refused."""
    field: str = ""
    """The field at fault, of those that the dialects name."""
    body_bytes: int = 0
    rewriting: Rewriting | None = None
    """Set when a rule other than the name itself decided."""


class Point(enum.StrEnum):
    """Where a plugin runs."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class PluginId:
    """A plugin of the chain: both words are the configuration's."""

    type: str
    name: str


class Observer(Protocol):
    """Hears of every request, once, and of every run of a plugin."""

    def request(self, record: RequestRecord) -> None:
        """Take note of `record`, at once."""

    def plugin_ran(self, point: Point, plugin: PluginId, seconds: float) -> None:
        """Take note of a run, a failed one included."""

    def plugin_failed(self, point: Point, plugin: PluginId, error: Exception) -> None:
        """Hear what a plugin raised."""
