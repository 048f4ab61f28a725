from __future__ import annotations

import asyncio

import pytest

from services.openai.texts import Kind, Text
from services.safety.judge import Tally
from services.safety.policy import Combine, Provider, Reaction, Side
from services.safety.providers.base import Context, ProviderVerdict
from services.safety.remote import Answer, ask, merge
from services.safety.verdict import UNJUDGED, Action, Direction, Finding, State

TEXT = Text(("input",), ("input",), "user", Kind.CONTENT, "my name is Jane")
BLOCK = ProviderVerdict(Action.BLOCK, reason="hate")
CLEAN = ProviderVerdict(Action.ALLOW)
LATE = ProviderVerdict(Action.ALLOW, State.TIMEOUT)
OPEN = frozenset({State.TIMEOUT})


def votes(*verdicts, combine="any", threshold=0.5, weights=(1, 1, 1), open_states=frozenset()):
    uses = [Provider(f"p{n}", 1.0, weights[n], open_states) for n in range(len(verdicts))]
    side = Side(combine=Combine(combine), threshold=threshold)
    answers = [Answer(use, verdict) for use, verdict in zip(uses, verdicts, strict=True)]
    tally = Tally()
    merge(answers, [TEXT], side, tally)
    return tally


@pytest.mark.parametrize(
    ("combine", "verdicts", "category"),
    [
        ("any", [CLEAN, CLEAN], ""),
        ("any", [CLEAN, BLOCK], "hate"),
        ("any", [LATE, CLEAN], UNJUDGED),
        ("any", [LATE, BLOCK], "hate"),
        ("all", [CLEAN, BLOCK], ""),
        ("all", [BLOCK, BLOCK], "hate"),
        ("all", [LATE, BLOCK], "hate"),
        ("all", [LATE, CLEAN], ""),
        ("all", [LATE, LATE], UNJUDGED),
        ("weighted", [BLOCK, CLEAN, CLEAN], ""),
        ("weighted", [BLOCK, BLOCK, CLEAN], "hate"),
    ],
)
def test_judges_vote(combine, verdicts, category):
    """One that failed, and may not, votes to block; a judged reason is named before that."""
    assert votes(*verdicts, combine=combine).block == category


@pytest.mark.parametrize(
    ("combine", "verdicts", "category"),
    [
        ("any", [LATE, CLEAN], ""),
        ("any", [LATE, LATE], ""),
        ("all", [LATE, BLOCK], "hate"),
        ("all", [LATE, LATE], ""),
        ("weighted", [LATE, BLOCK, CLEAN], "hate"),
    ],
)
def test_a_judge_that_may_fail_has_no_vote(combine, verdicts, category):
    """And is reported as let through."""
    tally = votes(*verdicts, combine=combine, open_states=OPEN)
    assert tally.block == category
    assert [report.failed_open for report in tally.reported] == [verdict is LATE for verdict in verdicts]


def test_weights_count():
    """A heavy judge outweighs two light ones, and a share that is reached exactly blocks."""
    assert votes(BLOCK, CLEAN, CLEAN, combine="weighted", weights=(5, 2, 2)).block == "hate"
    assert votes(BLOCK, CLEAN, CLEAN, combine="weighted", weights=(1, 2, 2)).block == ""
    assert votes(BLOCK, CLEAN, combine="weighted", threshold=0.1, weights=(0.1, 0.9)).block == "hate"


def test_who_is_outvoted_is_reported():
    """The finding stays in the record, and does nothing."""
    found = ProviderVerdict(Action.BLOCK, findings=((0, Finding("r", 0, 2, "hate")),))
    tally = votes(found, CLEAN, combine="all")
    assert [(located.finding.rule, located.action) for located in tally.findings] == [("r", Action.INSPECT)]


def test_two_masks_of_one_text_are_laid_over_each_other():
    """The second does not bring back what the first hid."""
    answers = [
        Answer(Provider("a", 1.0), ProviderVerdict(Action.REDACT, replacements={0: "my **** is Jane"})),
        Answer(Provider("b", 1.0), ProviderVerdict(Action.REDACT, replacements={0: "my name is ****"})),
    ]
    (after,) = merge(answers, [TEXT], Side(), Tally()).values()
    assert after == "my [REDACTED:masked] is [REDACTED:masked]"


HATE = ProviderVerdict(Action.BLOCK, findings=((0, Finding("r", 0, 2, "hate")),), reason="hate")


@pytest.mark.parametrize(
    ("names", "roles", "action", "blocks"),
    [
        ("hate", "", Action.INSPECT, ""),
        ("r", "", Action.ALLOW, ""),
        ("other", "", Action.INSPECT, "hate"),
        ("hate", "user", Action.INSPECT, ""),
        ("hate", "tool", Action.INSPECT, "hate"),
    ],
)
def test_what_the_policy_names_is_treated_as_it_says(names, roles, action, blocks):
    """By rule, category and role; anything else as the judge says."""
    reaction = Reaction(frozenset([names]), action, frozenset([roles]) if roles else frozenset())
    tally = Tally()
    merge([Answer(Provider("p", 1.0), HATE)], [TEXT], Side(actions=(reaction,)), tally)
    assert tally.block == blocks


class Never:
    async def judge(self, texts, context, deadline):
        await asyncio.Event().wait()

    async def close(self):
        pass


class Says(Never):
    def __init__(self, verdict):
        self.verdict, self.deadline = verdict, 0.0

    async def judge(self, texts, context, deadline):
        self.deadline = deadline
        return self.verdict


def sides(*uses, deadline=10.0):
    return Side(providers=uses, deadline=deadline)


CONTEXT = Context(Direction.PROMPT, "m", "p")


async def test_all_judges_share_a_deadline():
    """A judge's own patience ends with it."""
    quickly = Says(CLEAN)
    judges = {"slow": Never(), "quick": quickly}
    began = asyncio.get_running_loop().time()
    side = sides(Provider("slow", 60.0), Provider("quick", 60.0), deadline=0.05)
    async with asyncio.timeout(30):
        slow, quick = await ask(judges, side, [TEXT], CONTEXT)
    assert (slow.verdict.state, quick.verdict.state) == (State.TIMEOUT, State.JUDGED)
    assert quickly.deadline - began < 1.0


@pytest.mark.parametrize(
    "verdict",
    [
        ProviderVerdict(Action.REDACT, findings=((1, Finding("r", 0, 1, "c")),)),
        ProviderVerdict(Action.REDACT, replacements={-1: "x"}),
    ],
)
async def test_a_verdict_about_a_text_that_was_not_asked_about_is_none(verdict):
    """Another package's judge may be wrong; the request does not fail for it."""
    (answer,) = await ask({"p": Says(verdict)}, sides(Provider("p", 1.0)), [TEXT], CONTEXT)
    assert answer.verdict == ProviderVerdict(Action.ALLOW, State.ERROR)
