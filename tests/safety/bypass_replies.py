"""Ways round a filter of answers, one line each: what a model server sends, and what a client may get of it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.safety import kit, tricks
from tests.safety.bypasses import MODEL, Outcome
from tests.safety.exchange import SSE
from tests.safety.kit import SECRET, body

CHAT, TEXT, RESPONSES, MESSAGES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
)


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
