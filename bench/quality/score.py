"""Counting: what the rules say about each sample against what its set says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from bench.quality.intervals import wilson
from bench.quality.sets import LabelledSet, Sample
from services.safety.checks.base import Check
from services.safety.verdict import Confidence, Finding

CHECKS: Mapping[str, frozenset[str]] = {
    "injection": frozenset({"injection", "jailbreak"}),
    "secrets": frozenset({"secret"}),
    "personal data": frozenset({"pii", "network"}),
    "invisible text": frozenset({"invisible"}),
}
"""What a table speaks of → categories of rules."""
KINDS: Mapping[str, frozenset[str]] = {
    "CREDIT_CARD": frozenset({"card", "card-12"}),
    "EMAIL_ADDRESS": frozenset({"email"}),
    "IBAN_CODE": frozenset({"iban"}),
    "IP_ADDRESS": frozenset({"ipv4", "ipv6"}),
    "PHONE_NUMBER": frozenset({"phone", "phone-national"}),
    "US_SSN": frozenset({"us-ssn"}),
}
"""Kind of a span → rules that are for it. For other kinds there are none."""
_RANK = {confidence: rank for rank, confidence in enumerate(Confidence)}


class Share(msgspec.Struct, frozen=True):
    """So many of so many, with the 95 % Wilson interval."""

    hits: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, total: int) -> Share:
        """Return the share with its interval."""
        low, high = wilson(hits, total)
        return cls(hits, total, round(low, 5), round(high, 5))


class Rate(msgspec.Struct, frozen=True):
    """How many samples a check flags: of attacks the recall, of other samples the false-positive rate."""

    set: str
    held_out: bool
    attack: bool
    check: str
    confidence: Confidence
    """Findings at least this sure."""
    flagged: Share


class Variant(msgspec.Struct, frozen=True):
    """How many attacks of one kind are found, at any confidence."""

    set: str
    held_out: bool
    variant: str
    found: Share


class Kind(msgspec.Struct, frozen=True):
    """How one kind of personal data is found."""

    set: str
    held_out: bool
    kind: str
    overlapping: Share
    """Marked spans of which something is found."""
    exact: Share
    """Marked spans that are found from end to end."""
    precision: Share
    """Findings of the kind's rules that overlap such a span."""


class FalsePositive(msgspec.Struct, frozen=True):
    """A finding where the set says there is none: where in the set's file, and by which rule."""

    set: str
    held_out: bool
    index: int
    rule: str
    text: str


class Scored(msgspec.Struct, frozen=True):
    """A set and the findings in its samples, in order."""

    name: str
    samples: Sequence[Sample]
    findings: Sequence[Sequence[Finding]]


def score(one: LabelledSet, check: Check) -> Scored:
    """Scan a set."""
    return Scored(one.name, one.samples, [list(check.scan(sample.text)) for sample in one.samples])


def rates(scored: Scored) -> Iterable[Rate]:
    """Yield recall and false-positive rate of each check at each confidence, for both halves."""
    for held_out in (False, True):
        for attack in (False, True):
            found = [
                findings
                for sample, findings in zip(scored.samples, scored.findings, strict=True)
                if (sample.held_out, sample.attack) == (held_out, attack)
            ]
            for check, categories in CHECKS.items() if found else ():
                if scored.samples[0].spans is not None and check == "personal data":
                    continue  # its samples are full of them: `kinds` tells
                for confidence in Confidence:
                    hits = sum(any(map(_sure(categories, confidence), findings)) for findings in found)
                    yield Rate(scored.name, held_out, attack, check, confidence, Share.of(hits, len(found)))


def _sure(categories: Collection[str], confidence: Confidence) -> Callable[[Finding], bool]:
    return lambda finding: finding.category in categories and _RANK[finding.confidence] >= _RANK[confidence]


def variants(scored: Scored) -> Iterable[Variant]:
    """Yield how many attacks of each kind are found, where the set tells kinds."""
    attacks: dict[tuple[bool, str], list[bool]] = {}
    for sample, findings in _pairs(scored):
        if sample.attack and sample.variant:
            found = any(map(_sure(CHECKS["injection"], Confidence.LOW), findings))
            attacks.setdefault((sample.held_out, sample.variant), []).append(found)
    for (held_out, variant), hits in sorted(attacks.items()):
        yield Variant(scored.name, held_out, variant, Share.of(sum(hits), len(hits)))


def kinds(scored: Scored) -> Iterable[Kind]:
    """Yield how each kind of marked data is found; nothing for a set without marks."""
    names = sorted({span.kind for sample in scored.samples for span in sample.spans or ()})
    for held_out in (False, True):
        half = [pair for pair in _pairs(scored) if pair[0].held_out is held_out]
        yield from (_kind(scored.name, name, held_out, half) for name in names)


def _kind(name: str, kind: str, held_out: bool, half: Sequence[tuple[Sample, Sequence[Finding]]]) -> Kind:
    rules = KINDS.get(kind, frozenset())
    spans = overlapping = exact = right = made = 0
    for sample, findings in half:
        marked = [(span.start, span.end) for span in sample.spans or () if span.kind == kind]
        mine = [(finding.start, finding.end) for finding in findings if finding.rule in rules]
        spans += len(marked)
        overlapping += sum(any(_overlap(span, found) for found in mine) for span in marked)
        exact += sum(span in mine for span in marked)
        made += len(mine)
        right += sum(any(_overlap(span, found) for span in marked) for found in mine)
    return Kind(
        name, held_out, kind, Share.of(overlapping, spans), Share.of(exact, spans), Share.of(right, made)
    )


def false_positives(scored: Scored) -> Iterable[FalsePositive]:
    """Yield the findings in samples that are no attack, except of personal data that the set has marked there."""
    for index, (sample, findings) in enumerate(_pairs(scored)):
        for finding in findings:
            if sample.attack or _marked(finding, sample):
                continue
            said = sample.text[finding.start : finding.end]
            yield FalsePositive(scored.name, sample.held_out, index, finding.rule, said[:80])


def _marked(finding: Finding, sample: Sample) -> bool:
    return any(
        finding.rule in KINDS.get(span.kind, ())
        and _overlap((finding.start, finding.end), (span.start, span.end))
        for span in sample.spans or ()
    )


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _pairs(scored: Scored) -> list[tuple[Sample, Sequence[Finding]]]:
    return list(zip(scored.samples, scored.findings, strict=True))
