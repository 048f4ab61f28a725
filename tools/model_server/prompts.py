"""From messages to the bytes that the model would read: what a chat template does, in its simplest form.

The rendering of a conversation that grows begins with the rendering of the shorter one and the answer to it, so that
the next turn finds both in the cache.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence

import msgspec
import xxhash

Text = str | list[msgspec.Raw]
"""A string, or a list of typed parts."""


class Message(msgspec.Struct):
    """One turn, of any dialect."""

    role: str
    content: Text | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


def render_chat(messages: Iterable[Message], *, system: str = "", tools: bytes = b"") -> bytes:
    """Return the prompt: tools, system prompt, turns, and the start of the answer."""
    parts = [b"<|tools|>\n", tools, b"\n"] if tools else []
    if system:
        parts += [b"<|system|>\n", system.encode(), b"\n"]
    for message in messages:
        turn = f"<|{message.role}|>\n{plain(message.content)}"
        parts += [turn.encode(), bytes(message.tool_calls), b"\n"]
    parts.append(b"<|assistant|>\n")
    return b"".join(parts)


def last_user_text(messages: Sequence[Message]) -> str:
    """Return what the user said last: the text that may hold an `echo:` instruction."""
    return next((plain(m.content) for m in reversed(messages) if m.role == "user"), "")


def plain(content: Text | None) -> str:
    """Return the text of `content`; images and other parts become a mark with their digest."""
    if isinstance(content, str):
        return content
    return "".join(_part_text(part) for part in content or ())


def instructed_answer(text: str) -> str | None:
    """Return the answer that `echo: TEXT` or `echo-b64: BASE64` asks for; None without such an instruction."""
    if text.startswith("echo:"):
        return text[len("echo:") :].lstrip()
    if text.startswith("echo-b64:"):
        try:
            return base64.b64decode(text[len("echo-b64:") :].strip(), validate=True).decode(errors="replace")
        except binascii.Error:
            return None
    return None


def _part_text(raw: msgspec.Raw) -> str:
    part = msgspec.json.decode(raw, type=_Part)
    if part.text is not None:
        return part.text
    return f"<|{part.type} {xxhash.xxh3_128_hexdigest(bytes(raw))}|>"
