"""Ways round a filter, one line each: what is sent, and what must become of it.

The lines are those that published filters have been passed with. They are bytes on purpose: half of them are about
bytes that two readers take differently.
"""

from __future__ import annotations

import base64
import enum
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.safety import kit, tricks
from tests.safety.kit import SECRET, body

MODEL = "m"
CARD = "4111 1111 1111 1111"
POLICY = """
blocklists: {names: [project bluebird]}
policies:
  default:
    prompt:
      actions:
      - {match: [secret, blocklist], action: block}
      - {match: [card], action: redact}
    response:
      actions:
      - {match: [blocklist], action: block}
      - {match: [secret, card], action: redact}
      stream: STREAM
"""
"""Nothing is allowed that the default refuses: what no check reads is blocked."""


class Outcome(enum.Enum):
    """What must become of a line."""

    BLOCKED = "a finding refuses it"
    MASKED = "it goes on without what was found"
    UNSCANNABLE = "no check reads it: the policy's `unscannable` refuses it"
    REFUSED = "two readers may read it differently: it is no request"
    ENDED = "the stream ends before it, as streams of its dialect end"
    OUTSIDE = "no rule sees it; a judge that understands text must"


@dataclass(frozen=True, slots=True)
class Line:
    """One request."""

    name: str
    body: bytes
    expected: Outcome = Outcome.BLOCKED
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)
    earlier: bool = False
    """The gateway refuses it before the filter sees it: it has no route, or no model that can be found."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a model server, in the pieces in which it sends it."""

    name: str
    pieces: tuple[bytes, ...]
    expected: Outcome = Outcome.MASKED
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    secret: str = SECRET
    """How the secret is written in it: these characters must not leave."""


def prompts() -> Iterator[Line]:
    """Yield the requests."""
    yield from _dialects()
    yield from _tricks()
    yield from _fields()
    yield from _unscannable()
    yield from _bytes()
    yield from _sizes()
    yield from _switches()


def _chat(content: object, **more: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **more}


def _dialects() -> Iterator[Line]:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": SECRET}]}
    documents: list[tuple[str, str, dict[str, object]]] = [
        ("chat", "/v1/chat/completions", _chat(SECRET)),
        ("chat, system", "/v1/chat/completions", {"messages": [{"role": "system", "content": SECRET}]}),
        ("chat on a path of another vendor", "/openai/deployments/x/chat/completions", _chat(SECRET)),
        ("completions", "/v1/completions", {"prompt": SECRET}),
        ("completions, a list", "/v1/completions", {"prompt": ["a", SECRET]}),
        ("completions, suffix", "/v1/completions", {"prompt": "a", "suffix": SECRET}),
        ("responses", "/v1/responses", {"input": SECRET}),
        ("responses, items", "/v1/responses", {"input": [item]}),
        ("responses, instructions", "/v1/responses", {"input": "a", "instructions": SECRET}),
        ("responses, prompt variables", "/v1/responses", {"prompt": {"id": "p", "variables": {"a": SECRET}}}),
        ("messages", "/v1/messages", _chat(SECRET, max_tokens=9)),
        ("messages, system", "/v1/messages", _chat("a", max_tokens=9, system=SECRET)),
        ("count_tokens", "/v1/messages/count_tokens", _chat(SECRET)),
        ("embeddings", "/v1/embeddings", {"input": SECRET}),
        ("embeddings, a list", "/v1/embeddings", {"input": ["a", SECRET]}),
        ("rerank", "/v1/rerank", {"query": "a", "documents": [SECRET]}),
        ("score", "/v1/score", {"text_1": "a", "text_2": [SECRET]}),
        ("tokenize", "/tokenize", {"prompt": SECRET}),
        ("images", "/v1/images/generations", {"prompt": SECRET}),
        ("speech", "/v1/audio/speech", {"input": SECRET, "voice": "x"}),
    ]
    for name, path, document in documents:
        routed = path.startswith("/v1/")
        yield Line(f"dialect: {name}", body({"model": MODEL, **document}), path=path, earlier=not routed)
    unknown = body({"model": MODEL, "x": SECRET})
    yield Line("dialect: a path nobody knows", unknown, path="/v1/next/year", earlier=True)


def _tricks() -> Iterator[Line]:
    seen = {**tricks.SINGLE, **tricks.ESCAPED, **tricks.WRAPPED, **tricks.CIPHERS}
    for name, trick in seen.items():
        yield Line(f"trick: {name}", body(_chat(f"key {trick(SECRET)} ok")))
    for name, trick in tricks.LEET.items():
        yield Line(f"trick: {name}", body(_chat(f"about {trick('project bluebird')}, please")))
    for name, trick in tricks.UNSEEN.items():
        yield Line(f"trick: {name}", body(_chat(trick(SECRET))), Outcome.OUTSIDE)
    escaped = "".join(f"\\u{ord(char):04x}" for char in SECRET)
    yield Line("trick: JSON escapes of the body", body(_chat("X")).replace(b'"X"', f'"{escaped}"'.encode()))
    yield Line("trick: a card in other digits", body(_chat("\u0664" + "\u0661" * 15)), Outcome.MASKED)


def _fields() -> Iterator[Line]:
    arguments = json.dumps({"k": SECRET})
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    named = {"id": "call_1", "type": "function", "function": {"name": SECRET, "arguments": "{}"}}
    escaped = "".join(f"\\u{ord(char):04x}" for char in SECRET)
    hidden = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": f'{{"k":"{escaped}"}}'},
    }
    tool = {"type": "function", "function": {"name": "f", "description": SECRET, "parameters": {}}}
    schema = {"type": "object", "properties": {"a": {"type": "string", "enum": [SECRET]}}}
    turns: list[tuple[str, dict[str, object]]] = [
        ("arguments of a tool call", {"role": "assistant", "tool_calls": [call]}),
        ("arguments in escapes", {"role": "assistant", "tool_calls": [hidden]}),
        ("name of a called function", {"role": "assistant", "tool_calls": [named]}),
        ("legacy function_call", {"role": "assistant", "function_call": call["function"]}),
        ("result of a tool", {"role": "tool", "tool_call_id": "call_1", "content": SECRET}),
        ("legacy result", {"role": "function", "name": "f", "content": SECRET}),
        ("reasoning_content", {"role": "assistant", "content": "a", "reasoning_content": SECRET}),
        ("reasoning", {"role": "assistant", "content": "a", "reasoning": SECRET}),
        ("refusal", {"role": "assistant", "refusal": SECRET}),
        ("name of a speaker", {"role": "user", "name": SECRET, "content": "a"}),
        ("a role that is none", {"role": f"user {SECRET}", "content": "a"}),
        ("content_blocks", {"role": "user", "content": "a", "content_blocks": [{"type": "text", "text": SECRET}]}),
        ("tool_call_id", {"role": "tool", "tool_call_id": SECRET, "content": "a"}),
    ]  # fmt: skip
    for name, turn in turns:
        yield Line(f"field: {name}", body({"model": MODEL, "messages": [turn]}))
    fields: list[tuple[str, dict[str, object]]] = [
        ("description of a tool", {"tools": [tool]}),
        ("legacy functions", {"functions": [{"name": "f", "description": SECRET}]}),
        ("schema of a tool", {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}),
        ("response_format", {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}),
        ("prediction", {"prediction": {"type": "content", "content": SECRET}}),
        ("suffix", {"suffix": SECRET}),
        ("user", {"user": SECRET}),
        ("metadata", {"metadata": {"a": SECRET}}),
        ("a key of metadata", {"metadata": {SECRET: "a"}}),
        ("stop", {"stop": [SECRET]}),
        ("stream_options", {"stream": True, "stream_options": {"include_usage": True, "x": SECRET}}),
        ("a field nobody knows", {"next_year": [{"deep": SECRET}]}),
        ("chat_template_kwargs", {"chat_template_kwargs": {"system": SECRET}}),
        ("guided_json", {"guided_json": schema}),
    ]  # fmt: skip
    for name, more in fields:
        yield Line(f"field: {name}", body(_chat("a", **more)))
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": SECRET}]}
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {"deep": [SECRET]}}
    output = {"type": "function_call_output", "call_id": "c", "output": SECRET}
    yield Line("field: Anthropic's tool result", body(_chat([result], max_tokens=9)), path="/v1/messages")
    yield Line("field: Anthropic's tool use", body(_chat([use], max_tokens=9)), path="/v1/messages")
    yield Line("field: output of a function", body({"model": MODEL, "input": [output]}), path="/v1/responses")
    half = [{"type": "text", "text": SECRET[:9]}, {"type": "text", "text": SECRET[9:]}]
    picture = {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}
    yield Line("field: parts", body(_chat([{"type": "text", "text": SECRET}])))
    yield Line("field: a text over two parts", body(_chat(half)))
    yield Line("field: the same around a picture", body(_chat([half[0], picture, half[1]])))
    link = {"type": "image_url", "image_url": {"url": f"https://a.example/{SECRET}"}}
    yield Line("field: address of a picture", body(_chat([link])))


def _unscannable() -> Iterator[Line]:
    data = base64.b64encode(b"\x89PNG").decode()
    parts: list[tuple[str, dict[str, object]]] = [
        ("a picture by address", {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}),
        ("a picture in place", {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}),
        ("sound", {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}),
        ("a file by id", {"type": "file", "file": {"file_id": "file-1"}}),
        ("a file in place", {"type": "file", "file": {"file_data": data, "filename": "x.pdf"}}),
    ]
    for name, part in parts:
        yield Line(f"unscannable: {name}", body(_chat([part])), Outcome.UNSCANNABLE)
    for name, prompt in (("token ids", [9, 8, 7]), ("lists of token ids", [[9, 8], [7]])):
        yield Line(
            f"unscannable: {name}",
            body({"model": MODEL, "prompt": prompt}),
            Outcome.UNSCANNABLE,
            "/v1/completions",
        )
    for path in ("/v1/embeddings",):
        yield Line(
            "unscannable: token ids to embed",
            body({"model": MODEL, "input": [1, 2]}),
            Outcome.UNSCANNABLE,
            path,
        )
    encrypted = {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "gAAAA"}
    yield Line(
        "unscannable: encrypted reasoning",
        body({"model": MODEL, "input": [encrypted]}),
        Outcome.UNSCANNABLE,
        "/v1/responses",
    )


def _bytes() -> Iterator[Line]:
    plain = body(_chat(SECRET))
    for encoding in ("br", "zstd"):
        headers = {"content-encoding": encoding}
        yield Line(f"bytes: {encoding}", b"\x01\x02", Outcome.UNSCANNABLE, headers=headers, earlier=True)
    packed = {"content-encoding": "gzip"}
    yield Line("bytes: gzip", gzip.compress(plain), headers=packed, earlier=True)
    yield Line(
        "bytes: gzip of nothing that is JSON",
        gzip.compress(b"{"),
        Outcome.REFUSED,
        headers=packed,
        earlier=True,
    )
    twice = {"content-encoding": "gzip, gzip"}
    yield Line(
        "bytes: gzip twice",
        gzip.compress(gzip.compress(plain)),
        Outcome.UNSCANNABLE,
        headers=twice,
        earlier=True,
    )
    text = plain.decode()
    for name, data in (
        ("UTF-16", text.encode("utf-16")),
        ("Latin-1", body(_chat("caf\u00e9")).decode().encode("latin-1")),
        ("a byte-order mark", b"\xef\xbb\xbf" + plain),
        (
            "a key twice",
            plain[:-1] + b', "messages": [{"role": "user", "content": "a"}], "messages": ' + b"[]}",
        ),
        (
            "a key twice, once in escapes",
            plain.replace(b'"content"', b'"content": "a", "c\\u006fntent"'),
        ),
        (
            "deep nesting",
            plain[:-1] + b', "x": ' + b"[" * 500 + f'"{SECRET}"'.encode() + b"]" * 500 + b"}",
        ),
        ("NaN", plain[:-1] + b', "x": NaN}'),
        ("a huge number", plain[:-1] + b', "x": ' + b"9" * 5000 + b"}"),
        ("two documents", plain + plain),
        ("a comment", b"/* */" + plain),
    ):
        yield Line(f"bytes: {name}", data, Outcome.REFUSED)
    yield Line(
        "bytes: charset", plain, headers={"content-type": "application/json; charset=utf-16"}, earlier=True
    )
    yield Line("bytes: another type", plain, headers={"content-type": "text/plain"}, earlier=True)
    yield Line("bytes: a number that is a card", body(_chat("a", x=4111111111111111)), Outcome.MASKED)


def _sizes() -> Iterator[Line]:
    yield Line("size: one word", body(_chat(SECRET)))
    yield Line("size: behind 300 KB", body(_chat("harbour " * 40_000 + SECRET)))
    turns: list[dict[str, object]] = [{"role": "user", "content": f"turn {n}"} for n in range(400)]
    turns[7]["content"] = SECRET
    yield Line("size: early in a long conversation", body({"model": MODEL, "messages": turns}))


def _switches() -> Iterator[Line]:
    switches: list[tuple[str, dict[str, object]]] = [
        ("guardrails: []", {"guardrails": []}),
        ("metadata.guardrails", {"metadata": {"guardrails": {"off": True}, "disable_global_guardrail": True}}),
        ("litellm_metadata", {"litellm_metadata": {"applied_guardrails": []}}),
        ("safety_settings", {"safety_settings": [{"category": "x", "threshold": "BLOCK_NONE"}]}),
        ("stream", {"stream": True}),
        ("stream and its options", {"stream": True, "stream_options": {"include_usage": True}}),
    ]  # fmt: skip
    for name, more in switches:
        yield Line(f"switch: {name}", body(_chat(SECRET, **more)))
    for header in ("x-safety-policy", "x-litellm-disable-guardrails", "x-gateway-safety-policy", "no-log"):
        yield Line(f"switch: header {header}", body(_chat(SECRET)), headers={header: "off"})


SSE = {"content-type": "text/event-stream"}
CHAT, TEXT, RESPONSES, MESSAGES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
)


def replies() -> Iterator[Reply]:
    """Yield the answers; a client must get none of their secrets."""
    yield from _whole()
    yield from _streams()
    yield from _streamed_fields()
    yield from _other_bytes()


def whole(message: object, **more: object) -> dict[str, object]:
    """Return a chat answer."""
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None, **more}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}


def _whole() -> Iterator[Reply]:
    said = {"role": "assistant", "content": "a"}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"k": SECRET})}}
    named = {"id": "c", "type": "function", "function": {"name": SECRET, "arguments": "{}"}}
    messages: list[tuple[str, dict[str, object]]] = [
        ("content", {"content": f"it is {SECRET}."}),
        ("arguments", {"content": None, "tool_calls": [call]}),
        ("name of a function", {"content": None, "tool_calls": [named]}),
        ("legacy function_call", {"content": None, "function_call": call["function"]}),
        ("reasoning_content", {"content": "a", "reasoning_content": SECRET}),
        ("reasoning", {"content": "a", "reasoning": SECRET}),
        ("refusal", {"content": None, "refusal": SECRET}),
        ("parts", {"content": [{"type": "text", "text": SECRET}]}),
        ("annotations", {"content": "a", "annotations": [{"type": "url_citation", "url_citation": {"title": SECRET}}]}),
        ("a field nobody knows", {"content": "a", "next_year": {"x": SECRET}}),
    ]  # fmt: skip
    for name, message in messages:
        yield Reply(f"whole: {name}", (body(whole({"role": "assistant", **message})),))
    two = whole(said)
    second = whole({"role": "assistant", "content": SECRET}, index=1)
    yield Reply("whole: second choice", (body({**two, "choices": [*_list(two), *_list(second)]}),))
    tokens = {"content": [{"token": SECRET[at], "logprob": -1, "bytes": [65]} for at in range(4)]}
    yield Reply(
        "whole: logprobs beside it",
        (body(whole({"role": "assistant", "content": SECRET}, logprobs=tokens)),),
    )
    completion = {
        "object": "text_completion",
        "model": MODEL,
        "choices": [{"index": 0, "text": SECRET, "finish_reason": "stop"}],
    }
    yield Reply("whole: completions", (body(completion),), path=TEXT)
    part = {"type": "output_text", "text": SECRET, "annotations": []}
    outputs: list[tuple[str, dict[str, object]]] = [
        ("output", {"type": "message", "id": "m", "role": "assistant", "content": [part]}),
        ("summary", {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": SECRET}]}),
        ("arguments", {"type": "function_call", "name": "f", "arguments": json.dumps({"k": SECRET})}),
        ("refusal", {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": SECRET}]}),
    ]  # fmt: skip
    for name, output in outputs:
        answer = {"id": "r", "object": "response", "model": MODEL, "output": [output]}
        yield Reply(f"whole: responses, {name}", (body(answer),), path=RESPONSES)
    blocks: list[tuple[str, dict[str, object]]] = [
        ("text", {"type": "text", "text": SECRET}),
        ("thinking", {"type": "thinking", "thinking": SECRET, "signature": "s"}),
        ("tool use", {"type": "tool_use", "id": "t", "name": "f", "input": {"k": [SECRET]}}),
    ]
    for name, block in blocks:
        answer = {"type": "message", "role": "assistant", "model": MODEL, "content": [block]}
        yield Reply(f"whole: messages, {name}", (body(answer),), path=MESSAGES)
    for name, trick in {**tricks.SINGLE, **tricks.ESCAPED, **tricks.WRAPPED, **tricks.CIPHERS}.items():
        tricked = whole({"role": "assistant", "content": f"it is {trick(SECRET)} ok"})
        yield Reply(f"whole: {name}", (body(tricked),), secret=trick(SECRET))
    blocked = body(whole({"role": "assistant", "content": "on Project Bluebird"}))
    yield Reply("whole: a word that blocks", (blocked,), Outcome.BLOCKED)


def _list(answer: Mapping[str, object]) -> list[object]:
    choices = answer["choices"]
    assert isinstance(choices, list)
    return choices


STREAMS = {
    "chat": (CHAT, kit.chat),
    "reasoning": (CHAT, lambda pieces: kit.chat(pieces, field="reasoning_content")),
    "reasoning, short": (CHAT, lambda pieces: kit.chat(pieces, field="reasoning")),
    "refusal": (CHAT, lambda pieces: kit.chat(pieces, field="refusal")),
    "second choice": (CHAT, lambda pieces: kit.chat(pieces, index=1)),
    "arguments": (CHAT, lambda pieces: kit.arguments(['{"k":"', *pieces, '"}'])),
    "names": (CHAT, kit.names),
    "completions": (TEXT, kit.completions),
    "messages": (MESSAGES, kit.messages),
    "messages, thinking": (MESSAGES, lambda pieces: kit.messages(pieces, kind="thinking")),
    "messages, tool": (MESSAGES, lambda pieces: kit.messages(['{"k":"', *pieces, '"}'], kind="partial_json")),
    "responses": (RESPONSES, kit.responses),
    "responses, arguments": (RESPONSES, lambda pieces: kit.response_arguments(['{"k":"', *pieces, '"}'])),
}
"""Streams that say pieces of one text, by the field that says them."""


def _streams() -> Iterator[Reply]:
    for name, (path, stream) in STREAMS.items():
        for size in (1, 7, 99):
            text = f"né {SECRET} \U0001f600 ok"
            events = stream([text[at : at + size] for at in range(0, len(text), size)])
            yield Reply(f"stream: {name}, {size} characters a time", tuple(events), path=path, headers=SSE)
        joined = b"".join(stream(["é it", f" is {SECRET[:5]}", f"{SECRET[5:]} \U0001f600"]))
        bytewise = tuple(bytes([byte]) for byte in joined)
        yield Reply(f"stream: {name}, byte by byte", bytewise, path=path, headers=SSE)
        word = stream(["see ", "Pro", "ject Blue", "bird", " more"])
        yield Reply(
            f"stream: {name}, a word that blocks",
            tuple(word),
            Outcome.ENDED,
            path,
            SSE,
            secret="Project Bluebird",
        )


def _streamed_fields() -> Iterator[Reply]:
    half, rest = kit.chat([SECRET[:9], SECRET[9:]]), kit.chat(["a", "b"], index=1)
    mixed = [half[0], rest[0], half[1], rest[1], *half[2:]]
    yield Reply("stream: choices that take turns", tuple(mixed), headers=SSE)
    plain = b"".join(kit.chat(["it is ", SECRET, " ok"]))
    escaped = "".join(f"\\u{ord(char):04x}" for char in SECRET).encode()
    written = plain.replace(SECRET.encode(), escaped)
    for size in (3, 64):
        pieces = tuple(written[at : at + size] for at in range(0, len(written), size))
        yield Reply(f"stream: JSON escapes, {size} bytes a time", pieces, headers=SSE)
    yield Reply("stream: CRLF", (plain.replace(b"\n", b"\r\n"),), headers=SSE)
    yield Reply("stream: no space after the colon", (plain.replace(b"data: ", b"data:"),), headers=SSE)
    yield Reply("stream: comments between", (plain.replace(b"\n\n", b"\n: x\n\n"),), headers=SSE)
    lines = plain.replace(b'"choices": ', b'"choices":\ndata: ')
    yield Reply("stream: data over two lines", (lines,), headers=SSE)
    last = kit.chat(["a"])[0].replace(
        b'"logprobs": null', b'"logprobs": {"content": [{"token": "%b"}]}' % SECRET.encode()
    )
    yield Reply("stream: logprobs", (last, *kit.chat([SECRET])), headers=SSE)
    for name, trick in {**tricks.SINGLE, **tricks.ESCAPED}.items():
        text = f"it is {trick(SECRET)} ok"
        for size in (1, 5):
            events = kit.chat([text[at : at + size] for at in range(0, len(text), size)])
            yield Reply(
                f"stream: {name}, {size} characters a time", tuple(events), headers=SSE, secret=trick(SECRET)
            )


def _other_bytes() -> Iterator[Reply]:
    plain = body(whole({"role": "assistant", "content": f"it is {SECRET}"}))
    json_type = {"content-type": "application/json"}
    yield Reply("bytes: gzip", (gzip.compress(plain),), headers=json_type | {"content-encoding": "gzip"})
    for encoding in ("br", "zstd"):
        headers = json_type | {"content-encoding": encoding}
        yield Reply(f"bytes: {encoding}", (b"\x01",), Outcome.UNSCANNABLE, headers=headers)
    for name, headers in {"text": {"content-type": "text/plain"}, "no type": {}}.items():
        yield Reply(f"bytes: {name}", (plain,), Outcome.UNSCANNABLE, headers=headers)
    events = b"".join(kit.chat([SECRET]))
    yield Reply("bytes: gzip events", (gzip.compress(events),), Outcome.UNSCANNABLE, headers=SSE | {"content-encoding": "gzip"})  # fmt: skip
    yield Reply("bytes: events that call themselves JSON", (events,), Outcome.REFUSED)
    yield Reply("bytes: a key twice", (plain[:-1] + b', "choices": []}',), Outcome.REFUSED)
    yield Reply("bytes: a byte-order mark", (b"\xef\xbb\xbf" + plain,), Outcome.REFUSED)
    yield Reply("bytes: a problem type", (plain,), headers={"content-type": "application/problem+json"})


def windowed() -> Iterator[Reply]:
    """Yield streams whose secret only a window shows."""
    for name, trick in {**tricks.WRAPPED, **tricks.CIPHERS}.items():
        text = f"it is {trick(SECRET)} ok"
        for size in (1, 9):
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            streams = {"": kit.chat(pieces)}
            if text.isascii() and text.isprintable():
                streams[", arguments"] = kit.arguments(['{"k":"', *pieces, '"}'])
            for where, events in streams.items():
                title = f"window: {name}{where}, {size} characters a time"
                yield Reply(title, tuple(events), headers=SSE, secret=trick(SECRET))
