"""The table of bypasses on the service alone; `tests/e2e/test_safety_bypass.py` has it on a running gateway."""

from __future__ import annotations

import gzip
import json

import pytest

from services.openai.texts import decode
from services.safety.canonical.check import Canonical
from services.safety.checks.rules import built_in
from services.safety.checks.ruleset import RuleSet
from tests.safety import bypass_replies, bypasses, kit
from tests.safety.bypasses import Outcome
from tests.safety.exchange import Exchange, error

KEYS = Canonical(RuleSet([rule for rule in built_in() if rule.id == "aws-access-key"]))
CODES = {
    Outcome.BLOCKED: {"secret", "blocklist"},
    Outcome.UNSCANNABLE: {"unscannable"},
    Outcome.REFUSED: {"undecodable"},
}


@pytest.fixture(scope="module")
def policies():
    """Compile the policy of the table once for each mode."""
    return {mode: kit.policies(bypasses.POLICY.replace("STREAM", mode)) for mode in ("exact", "window")}


@pytest.mark.parametrize("line", list(bypasses.prompts()), ids=lambda line: line.name)
async def test_no_way_round_the_filter_is_open_in_requests(policies, line):
    """Refused, masked, or known to be outside of what rules see."""
    exchange = Exchange(policies=policies["exact"])
    sent = await exchange.ask(line.body, path=line.path, headers=line.headers)
    if line.expected in CODES:
        code = json.loads(sent.rejected.body)["error"]
        assert sent.rejected.status == (400 if line.expected is Outcome.REFUSED else 403)
        assert code.get("code", "secret") in CODES[line.expected]
        return
    assert sent.rejected is None
    if line.expected is Outcome.MASKED:
        assert b"[REDACTED:card]" in sent.body
        decode(sent.body)
    else:
        assert sent.body == line.body


@pytest.mark.parametrize(
    ("reply", "mode"),
    [(reply, "exact") for reply in bypass_replies.replies()]
    + [(reply, "window") for reply in bypass_replies.windowed()],
    ids=lambda one: getattr(one, "name", one),
)
async def test_no_way_round_the_filter_is_open_in_answers(policies, reply, mode):
    """Nothing of the secret leaves, in whole answers and at each of the server's pieces."""
    exchange = Exchange(policies=policies[mode])
    await exchange.ask({"model": bypasses.MODEL, "messages": []}, path=reply.path)
    answer = await exchange.script.response_head(200, {"content-type": ""} | reply.headers)
    for piece in reply.pieces:
        if not (answer.rejected or answer.ended):
            answer = await exchange.script.response_chunk(piece)
    if not (answer.rejected or answer.ended):
        answer = await exchange.script.response_chunk(b"", end=True)
    if reply.expected in CODES:
        assert error(answer.rejected)["code"] in CODES[reply.expected]
        return
    check_left(reply, answer.body)


def check_left(reply, body):
    """Check what a client gets in place of `reply`: valid, and without the secret."""
    if reply.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    if not reply.name.startswith(("stream:", "window:")):
        decode(body)
        assert reply.secret not in body.decode()
        assert b"[REDACTED:aws-access-key]" in body
        return
    said = kit.said(body)
    assert reply.secret not in said
    if "arguments" in reply.name and reply.expected is Outcome.MASKED:
        json.loads(said)
    assert kit.SECRET.encode() not in body
    assert not KEYS.scan(said), "encoded or not, nothing of it can be read back"
    if reply.expected is Outcome.ENDED:
        assert said.removeprefix('{"k":"') == "see "
    else:
        assert "[REDACTED:aws-access-key]" in said
        assert b"content_filter" not in body
