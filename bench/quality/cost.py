"""What the rules cost on text that people have written.

re2 makes its automata while it reads: every other piece and the texts of the other kinds are read first, unmeasured.
Each measured piece is read once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from bench.quality.sets import LabelledSet
from services.safety.canonical.check import Canonical
from services.safety.checks.base import Check
from services.safety.checks.rules import built_in
from services.safety.checks.ruleset import RuleSet
from services.safety.checks.sieve import Engine, Re2Sieve
from services.safety.checks.sieve_hyperscan import Hyperscan

PIECE = 4096  # bytes


class Cost(msgspec.Struct, frozen=True):
    """CPU time in µs for one piece."""

    what: str
    engine: str
    pieces: int
    mean: float
    median: float
    p95: float


def costs(sets: Iterable[LabelledSet]) -> Iterator[Cost]:
    """Yield the costs of the rules, alone and behind the canonical view, on ASCII and on other text."""
    sets = list(sets)
    plain = [piece for piece in _pieces(sets, harmless=True) if piece.isascii()]
    if len(plain) < 2:
        return
    before = [*_pieces(sets, harmless=False), *plain[::2]]
    typed = [_typographic(piece) for piece in plain]
    engines: dict[str, Engine] = {"re2": Re2Sieve, "hyperscan": Hyperscan()}
    for name, engine in engines.items():
        yield _cost("rules alone", name, _bare(engine), before, plain[1::2])
        yield _cost("with the canonical view", name, Canonical(_bare(engine)), before, plain[1::2])
        yield _cost("typographic quotes", name, Canonical(_bare(engine)), [*before, *typed[::2]], typed[1::2])


def _bare(engine: Engine) -> RuleSet:
    """Return all rules with automata that have read nothing yet."""
    return RuleSet(built_in(), engine=engine)


def _pieces(sets: Iterable[LabelledSet], *, harmless: bool) -> Iterator[str]:
    """Yield pieces of the harmless texts that nobody has filled with personal data, or of the others."""
    samples = (sample for one in sets for sample in one.samples)
    chosen = (one for one in samples if (not one.attack and one.spans is None) is harmless)
    text = "\n\n".join(one.text for one in chosen)
    return (text[at : at + PIECE] for at in range(0, len(text) - PIECE + 1, PIECE))


def _typographic(text: str) -> str:
    return text.replace("'", "\u2019").replace('"', "\u201c").replace(" - ", " \u2013 ") + "\u2019"


def _cost(what: str, engine: str, check: Check, before: Sequence[str], pieces: Sequence[str]) -> Cost:
    for piece in before:
        check.scan(piece)
    times = [_microseconds(check, piece) for piece in pieces]
    if not times:
        return Cost(what, engine, 0, 0.0, 0.0, 0.0)
    high = statistics.quantiles(times, n=20)[-1] if len(times) > 1 else times[0]
    middle = [round(value, 1) for value in (statistics.mean(times), statistics.median(times), high)]
    return Cost(what, engine, len(times), *middle)


def _microseconds(check: Check, text: str) -> float:
    began = time.process_time()
    check.scan(text)
    return 1e6 * (time.process_time() - began)
