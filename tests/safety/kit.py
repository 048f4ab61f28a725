"""What the tests of the safety service share: policies from a few lines, and streams of each dialect."""

from __future__ import annotations

import functools
import json

from services.extproc.config import parse
from services.openai import sse
from services.safety.assemble import assemble
from services.safety.config import SafetyConfig

SECRET = "AKIA" + "IOSFODNN7" + "EXAMPLQ"
PEM = (
    "-----BEGIN RSA "
    "PRIVATE KEY-----\nMIIEpAIBAAKCAQEAxgNSJ7mkz9kBcVpKxNEHB8q1\nZZtV\n-----END RSA PRIVATE KEY-----"
)

CONFIG = """
blocklists: {names: [project bluebird]}
policies:
  default:
    prompt:
      actions:
      - {match: [secret, blocklist], action: block}
      - {match: [card, us-ssn, iban], action: redact}
      - {match: [email], action: inspect}
      unscannable: allow
    response:
      actions:
      - {match: [blocklist], action: block}
      - {match: [secret, card], action: redact}
      - {match: [email], action: inspect}
      unscannable: allow
  strict:
    prompt: {actions: [{match: [secret], action: block}]}
    response: {actions: [{match: [secret], action: redact}], at_limit: block, hold_limit: 1014}
  open:
    prompt: {actions: [{match: [secret], action: block}], on_error: open, unscannable: allow}
    response: {actions: [{match: [secret], action: redact}], on_error: open, unscannable: allow}
  none: {}
models: {free: none}
"""


ANSWERS = """
policies:
  default:
    response: {actions: [{match: [aws-access-key, card], action: redact, redact_with: FORM}]}
"""


def policies(text=CONFIG, checks=None, providers=()):
    return assemble(parse(text, SafetyConfig), checks or {}, providers).policies


@functools.cache
def demo():
    """Return the policies of `CONFIG`, compiled once."""
    return policies()


def side(name="default"):
    return demo().by_name[name].response


def body(document):
    return json.dumps(document, ensure_ascii=False).encode()


TOOL = "look_up"


def chat(pieces, *, field="content", index=0):
    """Return a chat stream that says `pieces`."""
    events = [_chat({field: piece}, index) for piece in pieces]
    return [*events, _chat({}, index, "stop"), sse.event(b"[DONE]")]


def arguments(pieces):
    """Return a chat stream of one tool call."""
    first = {
        "tool_calls": [
            {"index": 0, "id": "call_1", "type": "function", "function": {"name": TOOL, "arguments": ""}}
        ]
    }
    more = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
    return [_chat(delta) for delta in [first, *more]] + [_chat({}, 0, "tool_calls"), sse.event(b"[DONE]")]


def names(pieces):
    """Return a chat stream of one tool call whose name comes in pieces."""
    deltas = [{"tool_calls": [{"index": 0, "function": {"name": piece}}]} for piece in pieces]
    deltas[0]["tool_calls"][0] |= {"id": "call_1", "type": "function"}
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": " "}}]}]
    return [_chat(delta) for delta in deltas] + [_chat({}, 0, "tool_calls"), sse.event(b"[DONE]")]


def completions(pieces):
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    choices = [{"index": 0, "text": piece, "logprobs": None, "finish_reason": None} for piece in pieces]
    choices[-1]["finish_reason"] = "stop"
    return [sse.event(body(head | {"choices": [choice]})) for choice in choices] + [sse.event(b"[DONE]")]


def messages(pieces, *, kind="text"):
    """Return a stream of one block; `kind` is the field that says its pieces."""
    opened = {
        "text": {"type": "text", "text": ""},
        "thinking": {"type": "thinking", "thinking": "", "signature": ""},
        "partial_json": {"type": "tool_use", "id": "toolu_1", "name": TOOL, "input": {}},
    }[kind]
    start: dict[str, object] = {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
    }
    events: list[dict[str, object]] = [
        start,
        {"type": "content_block_start", "index": 0, "content_block": opened},
        {"type": "ping"},
    ]
    events += [
        {"type": "content_block_delta", "index": 0, "delta": {"type": _BLOCKS[kind], kind: piece}}
        for piece in pieces
    ]
    events += [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ]
    return [_named(event) for event in events]


_BLOCKS = {"text": "text_delta", "thinking": "thinking_delta", "partial_json": "input_json_delta"}
_ANSWER: dict[str, object] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "status": "in_progress",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}


def responses(pieces):
    """Return a stream of one message, with the four events at its end that repeat all of it."""
    text = "".join(pieces)
    place: dict[str, object] = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    empty = item | {"status": "in_progress", "content": []}
    events: list[dict[str, object]] = [
        {"type": "response.created", "response": _ANSWER},
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
        {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
    ]
    events += [
        {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in pieces
    ]
    events += [{"type": "response.output_text.done", **place, "text": text, "logprobs": []}]
    events += [{"type": "response.content_part.done", **place, "part": part}]
    return _completed(events, item)


def response_arguments(pieces):
    """Return a stream of one function call."""
    call = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": TOOL, "status": "completed"}
    place: dict[str, object] = {"item_id": "fc_1", "output_index": 0}
    kind = "response.function_call_arguments"
    text = "".join(pieces)
    events: list[dict[str, object]] = [
        {"type": "response.created", "response": _ANSWER},
        {"type": "response.output_item.added", "output_index": 0, "item": call | {"arguments": ""}},
    ]
    events += [{"type": f"{kind}.delta", **place, "delta": piece} for piece in pieces]
    events += [{"type": f"{kind}.done", **place, "arguments": text}]
    return _completed(events, call | {"arguments": text})


def _completed(events, item):
    done = _ANSWER | {"status": "completed", "output": [item]}
    events += [
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
    return [_named(event | {"sequence_number": number}) for number, event in enumerate(events)]


def documents(stream):
    """Return the decoded data of a stream's events, `[DONE]` left out."""
    framer = sse.Framer()
    events = framer.feed(stream)
    assert framer.flush() is None, "the stream ends within an event"
    return [
        json.loads(event.data)
        for event in events
        if isinstance(event, sse.Event) and event.data not in {None, b"[DONE]"}
    ]


def said(stream):
    """Return the text that a client puts together from a stream of any dialect: tool arguments and content alike."""
    return "".join(_said(document) for document in documents(stream))


def _said(document):
    kind = document.get("type", "")
    if kind.startswith("response.") and kind.endswith(".delta"):
        return document["delta"]
    if kind == "content_block_delta":
        return "".join(document["delta"].get(field, "") for field in _BLOCKS)
    out = ""
    for choice in document.get("choices", []):
        delta = choice.get("delta", {})
        out += choice.get("text", "") + "".join(delta.get(field) or "" for field in _CHAT_TEXTS)
        for call in delta.get("tool_calls", []):
            out += call["function"].get("name", "").removeprefix(TOOL) + call["function"].get("arguments", "")
    return out


_CHAT_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


def _chat(delta, index=0, finish=None):
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m"}
    return sse.event(body(head | {"choices": [choice]}))


def _named(document):
    return sse.event(body(document), document["type"])
