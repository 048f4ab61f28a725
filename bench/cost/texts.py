"""Safety's scan of unseen text, and the framing of streamed answers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.chain.backend import EVENTS, STREAM_EVENTS
from bench.cost.prompts import unseen
from bench.cost.timing import Case
from services.openai.sse import Framer
from services.safety.canonical.check import Canonical
from services.safety.canonical.encodings import is_wrapped
from services.safety.checks.base import Check
from services.safety.checks.rules import built_in
from services.safety.checks.ruleset import RuleSet
from services.safety.checks.sieve_hyperscan import HyperscanSieve

SCANNED = 4096  # bytes; the unit of the figures in the design
LONG = 200_000


def cases() -> Iterator[Case]:
    """Yield the rules at once, the rules as a stream follows them, and server-sent events."""
    rules, other = RuleSet(built_in()), RuleSet(built_in(), engine=HyperscanSieve)
    texts, typed = unseen(SCANNED), (text.replace("a", "\u2019") for text in unseen(SCANNED))
    for name, check in (("re2", rules), ("hyperscan", other)):
        what = f"4 KB of unseen text, {len(built_in())} rules, {name}"
        yield Case("safety", f"scan {what}", partial(_scan, check, texts))
        yield Case("safety", f"scan {what}, with canonical view", partial(_scan, Canonical(check), texts))
    yield Case("safety", "the same of text that is not ASCII, re2", partial(_scan, Canonical(rules), typed))
    long = next(unseen(LONG))
    yield Case("safety", "ask 200 KB whether anything is encoded", partial(is_wrapped, long))
    words = next(texts).split(" ")
    pieces = [f"{word} " for word in words]
    yield Case("safety", "follow a stream, per word", partial(_follow, rules, pieces), units=len(pieces))
    events = [event.partition(b"\r\n")[2][:-2] for event in STREAM_EVENTS]
    yield Case("SSE", "frame, per event in a chunk of its own", partial(_frame, events), units=EVENTS)
    whole = b"".join(events)
    yield Case("SSE", f"frame, per event of {EVENTS} in one chunk", partial(_frame, [whole]), units=EVENTS)


def _scan(check: Check, texts: Iterator[str]) -> None:
    check.scan(next(texts))


def _follow(check: Check, pieces: list[str]) -> None:
    scanner = check.scanner()
    for piece in pieces:
        scanner.feed(piece)


def _frame(chunks: list[bytes]) -> None:
    framer = Framer()
    for chunk in chunks:
        framer.feed(chunk)
