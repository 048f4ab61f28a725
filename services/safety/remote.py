"""Asking remote judges: all at once, within one deadline, and no failure taken for a clean answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.openai.texts import Json, Path, Text
from services.safety import policy
from services.safety.judge import UNJUDGED, Tally, mask_spans
from services.safety.policy import Side
from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.verdict import Action, Finding, Located, State

Answer = tuple[str, ProviderVerdict]
"""A provider's name and what it said."""


async def ask(
    providers: Mapping[str, Provider],
    uses: Sequence[policy.Provider],
    texts: Sequence[Text],
    context: Context,
) -> list[Answer]:
    """Ask every provider in `uses` about `texts`. One that raises or is late gives a state, not an exception."""
    answers = await asyncio.gather(*(_ask(providers[use.name], use, texts, context) for use in uses))
    return [(use.name, answer) for use, answer in zip(uses, answers, strict=True)]


async def _ask(
    provider: Provider, use: policy.Provider, texts: Sequence[Text], context: Context
) -> ProviderVerdict:
    deadline = asyncio.get_running_loop().time() + use.timeout
    try:
        async with asyncio.timeout_at(deadline):
            return await provider.judge(texts, context, deadline)
    except TimeoutError:
        return ProviderVerdict(Action.ALLOW, State.TIMEOUT)
    except Exception:  # noqa: BLE001 - somebody else's code: its bug is a state of this judge, not ours
        return ProviderVerdict(Action.ALLOW, State.ERROR)


def merge(answers: Sequence[Answer], texts: Sequence[Text], side: Side, tally: Tally) -> dict[Path, Json]:
    """Take the providers' answers into `tally` and return the values to put in place of texts.

    A judge's own `BLOCK` blocks; a finding that the policy names is treated as the policy says, any other as the
    judge says. A state other than `JUDGED` blocks unless the side fails open.
    """
    edits: dict[Path, Json] = {}
    spans: dict[int, list[Finding]] = {}
    for name, answer in answers:
        tally.reported.append(f"{name}:{answer.state}")
        if answer.state is not State.JUDGED:
            tally.state = answer.state
        for index, finding in answer.findings:
            action = side.action(finding)
            action = answer.action if action is Action.ALLOW else action
            tally.findings.append(Located(finding, texts[index].path, action))
            if action is Action.REDACT:
                spans.setdefault(index, []).append(finding)
            elif action is Action.BLOCK:
                tally.block = tally.block or finding.category
        if answer.action is Action.BLOCK:
            tally.block = tally.block or answer.reason or name
        edits |= {texts[index].path: text for index, text in answer.replacements.items()}
    if any(answer.state is not State.JUDGED for _, answer in answers):
        tally.block = tally.block or ("" if side.fail_open else UNJUDGED)
    edits |= {
        texts[index].path: mask_spans(texts[index].value, found, side) for index, found in spans.items()
    }
    return edits


def as_edited(texts: Sequence[Text], edits: Mapping[Path, Json]) -> list[Text]:
    """Return the scannable texts as they will leave: what is redacted here is not shown to a judge elsewhere."""
    return [
        replace(text, value=str(edits[text.path])) if text.path in edits else text
        for text in texts
        if text.scannable
    ]
