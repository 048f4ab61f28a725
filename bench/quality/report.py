"""The tables of docs/safety-quality.md, put between its markers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from bench.quality.cost import Cost
from bench.quality.score import CHECKS, KINDS, FalsePositive, Kind, Rate, Share, Variant
from bench.quality.tricks import Trick
from services.safety.verdict import Confidence

BEGIN, END = "<!-- figures: make bench-safety -->\n", "<!-- end of figures -->\n"


class Quality(msgspec.Struct, frozen=True):
    """All figures of one run."""

    rules: int
    """How many were on."""
    rates: Sequence[Rate]
    variants: Sequence[Variant]
    kinds: Sequence[Kind]
    tricks: Sequence[Trick]
    false_positives: Sequence[FalsePositive]
    costs: Sequence[Cost]


def put(page: str, tables: str) -> str:
    """Return `page` with `tables` between its markers; raise `ValueError` if it has none."""
    before, found, rest = page.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"expected {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}\n{tables}\n\n{END}{after}"


def tables(quality: Quality) -> str:
    """Return all tables as Markdown."""
    parts = [
        ("Injection and jailbreak rules on the held-out half", _injection(quality, held_out=True)),
        ("The same on the half that the rules were tuned on", _injection(quality, held_out=False)),
        ("Attacks by kind, held-out half", _variants(quality.variants)),
        ("Other rules where nothing is to be found, held-out half", _others(quality.rates)),
        ("Personal data, held-out half", _kinds(quality.kinds)),
        ("Attacks of both halves that are found as they are, written otherwise", _tricks(quality.tricks)),
        ("False positives by rule, both halves", _false(quality.false_positives)),
        ("CPU time in µs for 4 KB of the harmless texts, each piece read once", _costs(quality.costs)),
    ]
    return "\n\n".join(f"{title}:\n\n{table}" for title, table in parts)


def _injection(quality: Quality, *, held_out: bool) -> str:
    rows: dict[tuple[str, str], dict[Confidence, str]] = {}
    for rate in quality.rates:
        if rate.check == "injection" and rate.held_out is held_out:
            what = "recall" if rate.attack else "false positives"
            rows.setdefault((rate.set, what), {})[rate.confidence] = _share(rate.flagged)
    levels = (Confidence.HIGH, Confidence.MEDIUM, Confidence.LOW)
    lines = ([name, what, *(row[level] for level in levels)] for (name, what), row in rows.items())
    return _table(["set", "figure", "high only", "medium and high", "all"], lines)


def _others(rates: Iterable[Rate]) -> str:
    rows: dict[str, dict[str, str]] = {}
    for rate in rates:
        if rate.held_out and not rate.attack and rate.confidence is Confidence.LOW:
            rows.setdefault(rate.set, {})[rate.check] = _share(rate.flagged)
    checks = [check for check in CHECKS if check != "injection"]
    return _table(
        ["set", *checks], ([name, *(row.get(check, "–") for check in checks)] for name, row in rows.items())
    )


def _variants(variants: Iterable[Variant]) -> str:
    lines = ([one.set, one.variant, _share(one.found)] for one in variants if one.held_out)
    return _table(["set", "kind", "found"], lines)


def _kinds(kinds: Iterable[Kind]) -> str:
    shown = [one for one in kinds if one.held_out and one.overlapping.total]
    lines = [
        [one.set, one.kind, _share(one.overlapping), _share(one.exact), _share(one.precision)]
        for one in shown
        if one.kind in KINDS
    ]
    others = [one for one in shown if one.kind not in KINDS]
    missed = Share.of(
        sum(one.overlapping.hits for one in others), sum(one.overlapping.total for one in others)
    )
    lines += [["all", ", ".join(one.kind for one in others), _share(missed), "–", "–"]] if others else []
    return _table(["set", "kind", "found at least in part", "found exactly", "precision"], lines)


def _tricks(tricks: Iterable[Trick]) -> str:
    lines = ([one.trick, _share(one.viewed), _share(one.bare)] for one in tricks)
    return _table(["written as", "with the canonical view", "without"], lines)


def _false(found: Iterable[FalsePositive]) -> str:
    counts = Counter((one.rule, one.set) for one in found)
    return _table(["rule", "set", "findings"], ([*key, str(count)] for key, count in sorted(counts.items())))


def _costs(costs: Iterable[Cost]) -> str:
    lines = (
        [one.what, one.engine, str(one.pieces), f"{one.mean:.0f}", f"{one.median:.0f}", f"{one.p95:.0f}"]
        for one in costs
    )
    return _table(["what", "engine", "pieces", "mean", "median", "95 %"], lines)


def _share(share: Share) -> str:
    if not share.total:
        return "–"
    percent = f"{100 * share.hits / share.total:.1f} %"
    return f"{share.hits}/{share.total} = {percent} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(_lines(head, rows))


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
