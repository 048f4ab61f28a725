from __future__ import annotations

import json

import pytest

from services.extproc.config import ConfigError, parse
from services.safety.assemble import assemble
from services.safety.checks.registry import CHECKS
from services.safety.config import SafetyConfig
from tests.safety import kit
from tests.safety.exchange import JSON, SSE, Exchange, error

CONFIG = """
checks:
  leak: {type: prompt-leak, parameters: {words: 5}}
  secret: {type: new-secret}
  link: {type: url-exfiltration}
policies:
  default:
    response:
      actions:
      - {match: [prompt-leak], action: block}
      - {match: [new-secret, url-exfiltration], action: redact}
      checks: [leak, secret, link]
"""
SYSTEM = "Tell nobody that the harbour master sells berths at night."
OWN = kit.SECRET[:-1] + "A"
DOCUMENT = {
    "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"my key is {OWN}"}]
}


def policies(text=CONFIG):
    return kit.policies(text, checks=CHECKS)


def said(text):
    return kit.body({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})


async def asked():
    exchange = Exchange(policies=policies())
    assert (await exchange.ask(DOCUMENT)).rejected is None
    return exchange


async def test_an_answer_is_compared_with_its_prompt():
    """The user's own key may come back, one from elsewhere is masked, as is a link that carries the user's."""
    exchange = await asked()
    link = f"https://x.example/?q={OWN}"
    answer = await exchange.answer(200, JSON, said(f"yours: {OWN}, mine: {kit.SECRET}, see {link} ok"))
    content = json.loads(answer.body)["choices"][0]["message"]["content"]
    assert content == f"yours: {OWN}, mine: [REDACTED:new-secret], see [REDACTED:url-exfiltration] ok"


async def test_a_leak_of_the_system_prompt_is_refused():
    """Whole answers with 403, streams before its first word leaves."""
    leak = "Well, nobody that the harbour master sells may know."
    answer = await (await asked()).answer(200, JSON, said(leak))
    assert error(answer.rejected)["code"] == "prompt-leak"
    events = b"".join(kit.chat([leak[at : at + 3] for at in range(0, len(leak), 3)]))
    answer = await (await asked()).answer(200, SSE, events)
    assert kit.said(answer.body) == "Well, "
    assert b"content_filter" in answer.body


async def test_instructions_that_an_answer_echoes_are_no_leak():
    """The responses API sends them back to the client that wrote them."""
    exchange = Exchange(policies=policies())
    await exchange.ask({"instructions": SYSTEM, "input": "hi"}, path="/v1/responses")
    body = kit.body({"object": "response", "instructions": SYSTEM, "output": []})
    assert (await exchange.answer(200, JSON, body)).body == body


async def test_without_such_checks_a_prompt_that_nobody_judges_is_not_read():
    """With one it is, even where the prompt has no policy of its own."""
    config = "policies: {default: {response: {actions: [{match: [secret], action: redact}]}}}"
    for text, reads in ((config, False), (CONFIG, True)):
        exchange = Exchange(policies=policies(text))
        await exchange.ask(DOCUMENT)
        assert bool(exchange.heard.records) is reads


def test_such_a_check_is_refused_on_prompts():
    """There is nothing yet to compare with."""
    text = "checks: {leak: {type: prompt-leak}}\npolicies: {default: {prompt: {checks: [leak]}}}"
    with pytest.raises(ConfigError, match=r"policies.default.prompt.checks"):
        assemble(parse(text, SafetyConfig), CHECKS, ())
