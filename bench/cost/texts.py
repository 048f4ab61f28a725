"""Safety's scan of unseen text, and the framing of streamed answers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.chain.backend import EVENTS, STREAM_EVENTS
from bench.cost.prompts import unseen
from bench.cost.timing import Case
from services.openai.sse import Framer
from services.safety.checks.base import Check
from services.safety.checks.rules import built_in
from services.safety.checks.ruleset import RuleSet

SCANNED = 4096  # bytes; the unit of the figures in the design


def cases() -> Iterator[Case]:
    """Yield the rules at once, the rules as a stream follows them, and server-sent events."""
    rules = RuleSet(built_in())
    texts = unseen(SCANNED)
    yield Case(
        "safety", f"scan 4 KB of unseen text, {len(built_in())} rules", lambda: rules.scan(next(texts))
    )
    words = next(texts).split(" ")
    pieces = [f"{word} " for word in words]
    yield Case("safety", "follow a stream, per word", partial(_follow, rules, pieces), units=len(pieces))
    events = [event.partition(b"\r\n")[2][:-2] for event in STREAM_EVENTS]
    yield Case("SSE", "frame, per event in a chunk of its own", partial(_frame, events), units=EVENTS)
    whole = b"".join(events)
    yield Case("SSE", f"frame, per event of {EVENTS} in one chunk", partial(_frame, [whole]), units=EVENTS)


def _follow(check: Check, pieces: list[str]) -> None:
    scanner = check.scanner()
    for piece in pieces:
        scanner.feed(piece)


def _frame(chunks: list[bytes]) -> None:
    framer = Framer()
    for chunk in chunks:
        framer.feed(chunk)
