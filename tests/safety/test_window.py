from __future__ import annotations

import json

import pytest

from services.safety.providers.base import ProviderVerdict
from services.safety.verdict import Action, Finding, State
from tests.safety import kit
from tests.safety.exchange import SSE, Exchange, prompt
from tests.safety.test_stream import DIALECTS

CONFIG = """
providers: {far: {type: far}}
policies:
  default:
    response:
      actions: [{match: [secret], action: redact}]
      providers: [{name: far}]
      stream: MODE
      window: 8
      overlap: 4
"""
TEXT = f"one badword two {kit.SECRET} three badword four, é😀 and so on until the end"
MASKED = "one [REDACTED:word] two [REDACTED:aws-access-key] three [REDACTED:word] four, é😀 and so on until the end"


class Words:
    """A judge that finds one word, and keeps what it was shown."""

    def __init__(self, action, *, late_from=None):
        self.action, self.late_from, self.seen = action, late_from, []

    async def judge(self, texts, context, deadline):
        self.seen.append([text.value for text in texts])
        if self.late_from is not None and len(self.seen) > self.late_from:
            return ProviderVerdict(Action.ALLOW, State.TIMEOUT)
        found = [
            (index, Finding("word", at, at + len("badword"), "word"))
            for index, text in enumerate(texts)
            for at in range(len(text.value))
            if text.value.startswith("badword", at)
        ]
        return ProviderVerdict(self.action if found else Action.ALLOW, findings=tuple(found))

    async def close(self):
        pass


async def run(parts, judge, mode="window", text=CONFIG):
    policies = kit.policies(text.replace("MODE", mode), providers={"far"})
    exchange = Exchange(policies=policies, providers={"far": judge})
    await exchange.ask(prompt("hi"))
    await exchange.script.response_head(200, SSE)
    for part in parts:
        answer = await exchange.script.response_chunk(part)
        if answer.ended:
            break
    else:
        answer = await exchange.script.response_chunk(b"", end=True)
    exchange.script.close()
    return answer.body, exchange.heard.records


def cut(text, size):
    return [text[at : at + size] for at in range(0, len(text), size)]


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "names"])
@pytest.mark.parametrize("size", [1, 5, 11, 200])
async def test_what_a_judge_masks_in_a_window_is_masked_in_the_stream(dialect, size):
    """Rules and judges, in every dialect, however the model cuts its pieces: the overlap shows whole words."""
    stream, _ = await run(DIALECTS[dialect](cut(TEXT, size)), Words(Action.REDACT))
    said = kit.said(stream).removeprefix('{"k":"').removesuffix('"}')
    assert kit.SECRET not in said
    assert said.count("[REDACTED:word]") == said.count("[REDACTED:") - 1 == 2
    assert said.endswith(" four, é😀 and so on until the end")
    if size > len(TEXT) // 2:  # a word over the edge of a window is masked where it is seen whole: its end
        assert said == MASKED


async def test_no_more_than_a_window_waits():
    """Eight tokens of four characters: four leave when the eighth has come and is judged, four wait for the next window."""
    judge = Words(Action.ALLOW)
    stream, _ = await run(kit.chat(cut("x" * 100, 4)), judge)
    assert kit.said(stream) == "x" * 100
    assert [len(text) for (text,) in judge.seen] == [32, 32, 32, 32, 32, 20]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_verdict_ends_the_stream_and_nothing_of_the_window_leaves(dialect):
    """Valid in every dialect; what was judged before has left."""
    text = "y" * 40 + " badword " + "z" * 40
    stream, (record,) = await run(DIALECTS[dialect](cut(text, 10)), Words(Action.BLOCK))
    said = kit.said(stream).removeprefix('{"k":"')
    assert said
    assert set(said) == {"y"}
    assert record.verdict.action is Action.BLOCK
    assert record.enforced


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_block_in_the_first_window_is_a_valid_stream(dialect):
    """What opens the answer leaves, no text does."""
    stream, _ = await run([b"".join(DIALECTS[dialect](["badword"]))], Words(Action.BLOCK))
    documents = kit.documents(stream)
    assert kit.said(stream) in {"", '{"k":"'}
    assert documents
    kinds = [document.get("type") for document in documents]
    if dialect == "messages":
        assert kinds == [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    if dialect == "responses":
        assert kinds == [
            "response.created",
            "response.output_item.added",
            "response.content_part.added",
            "response.incomplete",
        ]


async def test_a_late_judge_ends_the_stream_where_the_policy_is_closed():
    """A state of its own, with its own policy."""
    chunks = kit.chat(cut("x" * 100, 4))
    stream, (record,) = await run(chunks, Words(Action.ALLOW, late_from=1))
    assert kit.said(stream) == "x" * 16
    assert record.verdict.reason == "unjudged"
    opened = CONFIG.replace("stream:", "on_error: open\n      stream:")
    stream, (record,) = await run(chunks, Words(Action.ALLOW, late_from=1), text=opened)
    assert kit.said(stream) == "x" * 100
    assert [report.failed_open for report in record.reported] == [False, True, True, True, True, True]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_audit_changes_nothing_and_reports_all(dialect):
    """Byte for byte, at once; the record says what would have been done, and that it was not."""
    chunks = DIALECTS[dialect](cut(TEXT, 7))
    judge = Words(Action.BLOCK)
    stream, (record,) = await run(chunks, judge, "audit")
    assert stream == b"".join(chunks)
    assert not record.enforced
    assert record.verdict.action is Action.BLOCK
    assert {"aws-access-key", "word"} <= set(record.verdict.rules)


async def test_a_judge_sees_whole_answers_too():
    """Not only streams."""
    policies = kit.policies(CONFIG.replace("MODE", "window"), providers={"far"})
    exchange = Exchange(policies=policies, providers={"far": Words(Action.REDACT)})
    await exchange.ask(prompt("hi"))
    body = kit.body({"choices": [{"message": {"content": TEXT}}]})
    answer = await exchange.answer(200, {"content-type": "application/json"}, body)
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == MASKED
