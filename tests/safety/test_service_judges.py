"""What remote judges say, and what becomes of a prompt when they say nothing."""

from __future__ import annotations

import json

import pytest

from services.openai.texts import walk
from services.safety.providers.base import ProviderVerdict
from services.safety.verdict import UNJUDGED, Action, Finding, State
from tests.safety import kit
from tests.safety.exchange import Exchange, Judge, error, prompt

REMOTE = """
providers: {far: {type: far}}
policies:
  default:
    prompt:
      actions: [{match: [card], action: redact}]
      providers: [{name: far, timeout: 1}]
"""


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (ProviderVerdict(Action.ALLOW), None, None),
        (ProviderVerdict(Action.BLOCK, reason="violence"), 403, "violence"),
        (ProviderVerdict(Action.BLOCK, findings=((0, Finding("far", 0, 2, "hate")),)), 403, "hate"),
        (ProviderVerdict(Action.ALLOW, State.TIMEOUT), 503, UNJUDGED),
        (ProviderVerdict(Action.ALLOW, State.PARTIAL), 503, UNJUDGED),
        (ProviderVerdict(Action.ALLOW, State.SKIPPED), 503, UNJUDGED),
        (RuntimeError("broken"), 503, UNJUDGED),
        (TimeoutError(), 503, UNJUDGED),
    ],
)
async def test_a_remote_judge_decides_and_its_failure_is_never_clean(answer, status, code):
    """Closed by default: skipped, partial and late answers refuse, `on_error: open` lets them pass and says so."""
    for text, expected in (
        (REMOTE, status),
        (
            REMOTE.replace("timeout: 1}]", "timeout: 1}]\n      on_error: open"),
            None if status == 503 else status,
        ),
    ):
        judge = Judge(answer)
        exchange = Exchange(policies=kit.policies(text, providers={"far"}), providers={"far": judge})
        sent = await exchange.ask(prompt("hi 4111 1111 1111 1111"))
        assert (sent.rejected.status if sent.rejected else None) == expected
        assert judge.seen == ["hi [REDACTED:card]"]
        if sent.rejected and expected == status:
            assert error(sent.rejected)["code"] == code


@pytest.mark.parametrize(
    "answer",
    [
        ProviderVerdict(
            Action.REDACT, findings=((0, Finding("name", 3, 6, "pii")), (0, Finding("name", 5, 7, "pii")))
        ),
        ProviderVerdict(Action.REDACT, replacements={0: "hi [REDACTED:name]"}),
    ],
)
async def test_a_remote_judge_masks_by_spans_or_by_text(answer):
    """Both kinds of judge change the one value."""
    exchange = Exchange(policies=kit.policies(REMOTE, providers={"far"}), providers={"far": Judge(answer)})
    sent = await exchange.ask(prompt("hi jane"))
    assert [text.value for text in walk(json.loads(sent.body))] == ["hi [REDACTED:name]"]
