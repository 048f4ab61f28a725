"""What cannot be judged, by rule and direction: refused, or let pass and counted."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.safety.checks.base import Windowed
from services.safety.metrics import PrometheusObserver
from services.safety.verdict import Action, Finding, State
from tests.safety import kit
from tests.safety.exchange import JSON, SSE, Exchange, error, prompt

CONFIG = """
checks: {fragile: {type: fragile}}
policies:
  default:
    DIRECTION:
      on_error: SIDE
      checks: [fragile]
      actions:
      - {match: [fragile, tone], action: redact, on_error: ENTRY}
"""


class Fragile:
    """Another package's check: finds a word, and falls over another."""

    max_length = 5

    def __init__(self, parameters):
        pass

    def scan(self, text):
        if "fall" in text:
            raise ZeroDivisionError
        at = text.find("LOUD")
        return [] if at < 0 else [Finding("loud", at, at + 4, "tone")]

    def scanner(self):
        return Windowed(self, self.max_length)


class FragileByPrompt:
    """One that falls over a prompt."""

    def __init__(self, parameters):
        pass

    def bind(self, prompt):
        raise ZeroDivisionError


def exchange(direction, side, entry, check=Fragile):
    text = CONFIG.replace("DIRECTION", direction).replace("SIDE", side).replace("ENTRY", entry)
    return Exchange(policies=kit.policies(text, checks={"fragile": check}))


def said(text):
    return kit.body({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})


MODES = pytest.mark.parametrize(
    ("side", "entry", "passes"),
    [("closed", "null", False), ("open", "null", True), ("closed", "open", True), ("open", "closed", False)],
)


def counted(records):
    """Return the fail-open passages that the metrics tell, by direction and reason."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, ["fragile"])
    for record in records:
        observer.verdict(record)
    samples = [one for metric in registry.collect() for one in metric.samples]
    return {
        (one.labels["direction"], one.labels["why"]): one.value
        for one in samples
        if one.name == "safety_unjudged_passed_total"
    }


@MODES
async def test_a_check_that_fails_on_a_prompt_does_what_its_entry_says(side, entry, passes):
    """503, or on it goes, counted under the check's name; the entry goes before the side."""
    one = exchange("prompt", side, entry)
    sent = await one.ask(prompt("do not fall"))
    (record,) = one.heard.records
    assert record.verdict.state is State.ERROR
    if passes:
        assert sent.rejected is None
        assert record.verdict.failed_open == ("fragile",)
        assert counted([record]) == {("prompt", "fragile"): 1.0}
    else:
        assert (sent.rejected.status, error(sent.rejected)["code"]) == (503, "unjudged")
        assert counted([record]) == {}


@MODES
async def test_a_check_that_fails_on_an_answer_does_what_its_entry_says(side, entry, passes):
    """Whole answers and streams, which end before what could not be judged."""
    one = exchange("response", side, entry)
    await one.ask(prompt("hi"))
    answer = await one.answer(200, JSON, said("do not fall"))
    assert (answer.rejected is None) is passes
    assert one.heard.records[-1].verdict.failed_open == (("fragile",) if passes else ())
    one = exchange("response", side, entry)
    await one.ask(prompt("hi"))
    answer = await one.answer(200, SSE, b"".join(kit.chat(["LOUD, ", "then ", "fa", "ll", " and on"])))
    one.script.close()
    text = kit.said(answer.body)
    assert text == ("[REDACTED:loud], then fall and on" if passes else "[REDACTED:loud], the")
    assert (b"content_filter" in answer.body) is not passes
    assert one.heard.records[-1].verdict.failed_open == (("fragile",) if passes else ())


@MODES
async def test_a_check_that_cannot_be_bound_to_its_prompt_has_failed(side, entry, passes):
    """It has an opinion on no answer."""
    one = exchange("response", side, entry, FragileByPrompt)
    await one.ask(prompt("hi"))
    answer = await one.answer(200, JSON, said("a"))
    assert (answer.rejected is None) is passes


@pytest.mark.parametrize(
    ("entries", "passes"),
    [
        ("[{match: [secret], action: block}]", False),
        ("[{match: [secret], action: block, on_error: open}]", True),
        ("[{match: [secret], action: block, on_error: open}, {match: [card], action: redact}]", False),
        ("[{match: [secret], action: block, on_error: open}, {match: [card], action: inspect}]", True),
    ],
)
async def test_a_body_that_nobody_can_read_passes_if_no_entry_needs_it_judged(entries, passes):
    """One rule that must be asked refuses it; those that only report do not count."""
    text = f"policies: {{default: {{prompt: {{actions: {entries}}}}}}}"
    one = Exchange(policies=kit.policies(text))
    sent = await one.ask(b"{oops")
    assert (sent.rejected is None) is passes
    (record,) = one.heard.records
    assert counted([record]) == ({("prompt", "undecodable"): 1.0} if passes else {})
    assert record.verdict.action is (Action.ALLOW if passes else Action.BLOCK)
