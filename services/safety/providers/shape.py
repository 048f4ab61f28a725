"""A provider's words: how a question is put over HTTP and how an answer is read. Pure, one small class per service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import msgspec

from services.safety.providers.base import Context, ProviderVerdict
from services.safety.providers.pieces import Piece
from services.safety.verdict import Action, Confidence, Finding, State


class Malformed(ValueError):
    """An answer that is not what the service documents."""


@dataclass(frozen=True, slots=True)
class Call:
    """One POST."""

    path: str
    """After the base address."""
    document: object
    """Becomes JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)


class Shape(Protocol):
    """Questions and answers of one service."""

    @property
    def size(self) -> int:
        """Characters that the service judges at once."""

    @property
    def items(self) -> int:
        """Texts that one call can hold."""

    @property
    def alone(self) -> bool:
        """Whether each text gets a verdict of its own, whatever stands beside it: only then it may be remembered."""

    def call(self, pieces: Sequence[Piece], context: Context) -> Call:
        """Put the question."""

    def read(self, body: bytes, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:
        """Return one verdict per piece, its indexes all 0. Raise `ValueError` for what is not an answer."""


T = TypeVar("T")

CLEAN = ProviderVerdict(Action.ALLOW)


def category(name: str) -> str:
    """Return a service's name for something as policies write it: `SELF_HARM`, `Self Harm` and `self/harm` alike."""
    return "-".join("".join(char if char.isalnum() else " " for char in name.lower()).split()) or "unnamed"


def flagged(
    service: str, names: Sequence[str], piece: Piece, confidence: Confidence = Confidence.HIGH
) -> ProviderVerdict:
    """Return the verdict that blocks for `names`, each a finding over the whole text; clean if there are none."""
    if not names:
        return CLEAN
    found = [category(name) for name in names]
    return ProviderVerdict(
        Action.BLOCK,
        findings=tuple(
            (0, Finding(f"{service}/{name}", 0, len(piece.value), name, confidence)) for name in found
        ),
        reason=found[0],
    )


def masked(piece: Piece, text: str, reason: str = "") -> ProviderVerdict:
    """Return the verdict that puts `text` in the piece's place; clean if it is the same."""
    if text == piece.value:
        return CLEAN
    return ProviderVerdict(Action.REDACT, replacements={0: text}, reason=reason)


def blocked(reason: str) -> ProviderVerdict:
    """Return the verdict that blocks without saying where."""
    return ProviderVerdict(Action.BLOCK, reason=category(reason))


def unjudged(state: State) -> ProviderVerdict:
    """Return the verdict that is none."""
    return ProviderVerdict(Action.ALLOW, state)


def decode(body: bytes, kind: type[T]) -> T:
    """Return JSON `body` as `kind`; raise `Malformed`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error
