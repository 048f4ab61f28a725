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
    UNKNOWN_PATH = "unknown_path"
    CONTENT_ENCODING = "content_encoding"
    BODY_NOT_SEEN = "body_not_seen"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request, as far as BBR goes."""

    dialect: Dialect
    result: Result
    rewritten: bool = False
    reason: Reason | Refusal | None = None
    """Set when it is refused."""
    field: str = ""
    """The field at fault, of those that the dialects name."""


class Observer(Protocol):
    """Hears of every request, once."""

    def request(self, record: RequestRecord) -> None:
        """Take note of `record`, at once."""
