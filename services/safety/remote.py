"""Asking remote judges: all at once, within one deadline, and no failure taken for a clean answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from services.openai.texts import Json, Path, Text
from services.safety import policy
from services.safety.judge import Tally, mask_spans
from services.safety.policy import Combine, Side
from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.pieces import changed
from services.safety.verdict import UNJUDGED, Action, Finding, Located, Report, State

_MASKED = "masked"
"""Rule and category of a change that a judge made without saying why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one provider said."""

    use: policy.Provider
    verdict: ProviderVerdict
    seconds: float = 0.0


async def ask(
    providers: Mapping[str, Provider], side: Side, texts: Sequence[Text], context: Context
) -> list[Answer]:
    """Ask every provider of `side` about `texts`. One that raises or is late gives a state, not an exception."""
    end = asyncio.get_running_loop().time() + side.deadline
    asked = (_ask(providers[use.name], use, texts, context, end) for use in side.providers)
    return list(await asyncio.gather(*asked))


async def _ask(
    provider: Provider, use: policy.Provider, texts: Sequence[Text], context: Context, end: float
) -> Answer:
    clock = asyncio.get_running_loop().time
    began = clock()
    deadline = min(began + use.timeout, end)
    try:
        async with asyncio.timeout_at(deadline):
            verdict = await provider.judge(texts, context, deadline)
        _check(verdict, len(texts))
    except TimeoutError:
        verdict = ProviderVerdict(Action.ALLOW, State.TIMEOUT)
    except Exception:  # noqa: BLE001 - somebody else's code: its bug is a state of this judge, not ours
        structlog.get_logger("safety.providers").exception("provider failed", provider=use.name)
        verdict = ProviderVerdict(Action.ALLOW, State.ERROR)
    return Answer(use, verdict, clock() - began)


def _check(verdict: ProviderVerdict, count: int) -> None:
    indexes = {index for index, _ in verdict.findings} | set(verdict.replacements)
    if not indexes <= set(range(count)):
        raise ValueError(f"the verdict is about texts {sorted(indexes)}, expected 0 to {count - 1}")


def merge(answers: Sequence[Answer], texts: Sequence[Text], side: Side, tally: Tally) -> dict[Path, Json]:
    """Take the providers' answers into `tally` and return the values to put in place of texts.

    Each answer is a vote: to block, not to block, or none where the judge failed and may. `side.combine` counts them;
    what was found by who is outvoted is reported. Masks of any judge are applied.
    """
    opinions = [_Opinion.of(answer, texts, side) for answer in answers]
    category = _count(opinions, side)
    masks = _Masks(texts, side)
    for opinion in opinions:
        tally.reported.append(opinion.report())
        if opinion.answer.verdict.state is not State.JUDGED:
            tally.state = opinion.answer.verdict.state
        for index, finding, wanted in opinion.findings:
            action = Action.INSPECT if wanted is Action.BLOCK and not category else wanted
            tally.findings.append(Located(finding, texts[index].path, action))
            if action is Action.REDACT:
                masks.span(index, finding)
        for index, text in opinion.answer.verdict.replacements.items():
            masks.text(index, text)
    tally.block = tally.block or category
    return masks.edits()


@dataclass(frozen=True, slots=True)
class _Opinion:
    """One answer as the policy reads it: a finding that the policy names is treated as it says, else as the judge."""

    answer: Answer
    findings: tuple[tuple[int, Finding, Action], ...]
    category: str
    """Why it wants to block; empty if it does not."""

    @classmethod
    def of(cls, answer: Answer, texts: Sequence[Text], side: Side) -> _Opinion:
        verdict = answer.verdict
        findings = tuple(
            (index, found, _action(found, verdict, side, texts[index].role))
            for index, found in verdict.findings
        )
        reasons = [found.category for _, found, action in findings if action is Action.BLOCK]
        if verdict.action is Action.BLOCK and not findings:
            reasons.append(verdict.reason or answer.use.name)
        if verdict.state is not State.JUDGED and verdict.state not in answer.use.open_states:
            reasons.append(UNJUDGED)
        return cls(answer, findings, reasons[0] if reasons else "")

    @property
    def absent(self) -> bool:
        return not self.category and self.answer.verdict.state is not State.JUDGED

    def report(self) -> Report:
        verdict = self.answer.verdict
        return Report(
            self.answer.use.name, verdict.state, verdict.action, self.answer.seconds, failed_open=self.absent
        )


def _action(finding: Finding, verdict: ProviderVerdict, side: Side, role: str) -> Action:
    reaction = side.reaction(finding, role)
    return verdict.action if reaction is None else reaction.action


def _count(opinions: Sequence[_Opinion], side: Side) -> str:
    """Return the category that blocks, empty if the votes do not."""
    present = [opinion for opinion in opinions if not opinion.absent]
    blocking = [opinion for opinion in present if opinion.category]
    if not blocking:
        return ""
    share = sum(_weight(opinion) for opinion in blocking) / sum(_weight(opinion) for opinion in present)
    needed = {Combine.ANY: 0.0, Combine.ALL: 1.0, Combine.WEIGHTED: side.threshold}[side.combine]
    if share < needed - _ROUNDING:
        return ""
    judged = [opinion.category for opinion in blocking if opinion.category != UNJUDGED]
    return judged[0] if judged else UNJUDGED


_ROUNDING = 1e-9  # ten votes of 0.1 are a whole


def _weight(opinion: _Opinion) -> float:
    return opinion.answer.use.weight


class _Masks:
    """What judges want changed. Two that change one text are laid over each other, so that neither undoes the other."""

    def __init__(self, texts: Sequence[Text], side: Side) -> None:
        self._texts = texts
        self._side = side
        self._spans: dict[int, list[Finding]] = {}
        self._replaced: dict[int, list[str]] = {}

    def span(self, index: int, finding: Finding) -> None:
        self._spans.setdefault(index, []).append(finding)

    def text(self, index: int, text: str) -> None:
        self._replaced.setdefault(index, []).append(text)

    def edits(self) -> dict[Path, Json]:
        indexes = self._spans.keys() | self._replaced.keys()
        return {self._texts[index].path: self._edit(index) for index in sorted(indexes)}

    def _edit(self, index: int) -> str:
        before, spans, replaced = (
            self._texts[index].value,
            self._spans.get(index, []),
            self._replaced.get(index, []),
        )
        if not spans and len(replaced) == 1:
            return replaced[0]
        found = [changed(before, after) for after in replaced]
        spans = spans + [Finding(_MASKED, *span, _MASKED) for span in found if span]
        return mask_spans(before, spans, self._side)


def as_edited(texts: Sequence[Text], edits: Mapping[Path, Json]) -> list[Text]:
    """Return the scannable texts as they will leave: what is redacted here is not shown to a judge elsewhere."""
    return [
        replace(text, value=str(edits[text.path])) if text.path in edits else text
        for text in texts
        if text.scannable
    ]
