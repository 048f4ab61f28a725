"""An answer that is judged anyway also tells what it cost."""

from __future__ import annotations

import json

from services.openai import sse
from services.safety.usage import Toll
from tests.safety import kit
from tests.safety.exchange import JSON, SSE, Exchange, prompt

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 20,
    "total_tokens": 31,
    "prompt_tokens_details": {"cached_tokens": 8},
}
COUNTS = {"prompt": 11, "completion": 20, "cached": 8}


async def test_a_whole_answer_tells_its_tokens():
    """As metadata with the answer, which changes by no byte for it."""
    exchange = Exchange()
    await exchange.ask(prompt("hi"))
    body = kit.body({"choices": [{"index": 0, "message": {"content": "hello"}}], "usage": USAGE})
    got = await exchange.answer(200, JSON, body)
    assert got.body == body
    assert got.metadata == {"gw.safety": {"usage": COUNTS}}


async def test_a_stream_tells_its_tokens_and_when_it_began():
    """With its last piece, wherever the network cut it."""
    exchange = Exchange()
    await exchange.ask(prompt("hi"))
    events = kit.chat(["hel", "lo"])
    last = sse.event(json.dumps({"choices": [], "usage": USAGE}).encode())
    body = b"".join([*events[:-1], last, events[-1]])
    got = await exchange.answer(200, SSE, body, cut=range(7, len(body), 7))
    assert got.body == body
    told = got.metadata["gw.safety"]["usage"]
    assert {name: told[name] for name in COUNTS} == COUNTS
    assert 0 <= told["first"] < 60


def test_the_first_event_is_timed_from_the_head():
    """Servers send the head of a stream before its first token."""
    toll = Toll(10.0, stream=True)
    assert toll.feed(b"", 10.2, end=False) == {}
    assert toll.feed(b"data: {}\n\n", 10.75, end=False) == {}
    assert toll.feed(b"data: [DONE]\n\n", 12.0, end=True) == {"gw.safety": {"usage": {"first": 0.75}}}


def test_an_answer_without_usage_says_nothing():
    """A stream whose client did not ask for it, an answer that is no JSON."""
    assert Toll(0.0, stream=False).feed(b"{}", 0.0, end=True) == {}
    assert Toll(0.0, stream=False).feed(b"nonsense", 0.0, end=True) == {}
