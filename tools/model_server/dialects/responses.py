"""POST /v1/responses, for one text output."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tools.model_server.dialects.generation import Dialect, Generation, Reply, decode, openai_error, sse
from tools.model_server.errors import bad_request
from tools.model_server.prompts import Message, Text, last_user_text, render_chat


class _Item(msgspec.Struct):
    type: str = "message"
    role: str = "tool"
    """Items that are no messages (calls and their outputs) have no role."""
    content: Text | None = None
    output: Text | None = None
    arguments: str | None = None


class _Body(msgspec.Struct):
    model: str
    input: str | list[_Item]
    instructions: str | None = None
    max_output_tokens: int | None = None
    stream: bool | None = None
    tools: msgspec.Raw = msgspec.Raw()


_BODY = msgspec.json.Decoder(_Body)


def parse(body: bytes) -> Generation:
    """Read a request."""
    b = decode(_BODY, body)
    if not b.input:
        raise bad_request("`input` is empty.", "input")
    if isinstance(b.input, str):
        messages = [Message("user", b.input)]
    else:
        messages = [Message(i.role, i.content or i.output or i.arguments) for i in b.input]
    return Generation(
        model=b.model,
        prompts=(render_chat(messages, system=b.instructions or "", tools=bytes(b.tools)),),
        instructions=(last_user_text(messages),),
        max_tokens=b.max_output_tokens,
        stream=bool(b.stream),
    )


class _OutputText(msgspec.Struct):
    text: str
    type: str = "output_text"
    annotations: list[str] = []
    logprobs: None = None


class _OutputMessage(msgspec.Struct, kw_only=True):
    id: str
    type: str = "message"
    role: str = "assistant"
    status: str
    content: list[_OutputText]


def _output(reply: Reply, status: str, content: list[_OutputText]) -> _OutputMessage:
    return _OutputMessage(id=f"msg_{reply.id}", status=status, content=content)


def _response(reply: Reply, status: str) -> dict[str, object]:
    done = status != "in_progress"
    usage = reply.usage
    text = reply.answers[0].text
    return {
        "id": reply.id,
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "model": reply.model,
        "output": [_output(reply, status, [_OutputText(text)])] if done else [],
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "error": None,
        "instructions": None,
        "metadata": {"served_by": reply.server},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt + usage.completion,
        }
        if done
        else None,
    }


def _status(reply: Reply) -> str:
    return "incomplete" if reply.answers[0].finish == "length" else "completed"


def whole(reply: Reply) -> bytes:
    """Write an answer that is not streamed."""
    return msgspec.json.encode(_response(reply, _status(reply)))


class Stream:
    """Writes the numbered, named events of one answer."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._sequence = 0
        self._at: dict[str, object] = {"item_id": f"msg_{reply.id}", "output_index": 0, "content_index": 0}

    def start(self) -> Iterable[bytes]:
        """Return the response without output, its only item and its only part."""
        response = _response(self._reply, "in_progress")
        yield self._event("response.created", {"response": response})
        yield self._event("response.in_progress", {"response": response})
        item = _output(self._reply, "in_progress", [])
        yield self._event("response.output_item.added", {"output_index": 0, "item": item})
        yield self._event("response.content_part.added", {**self._at, "part": _OutputText("")})

    def piece(self, index: int, text: str) -> Iterable[bytes]:  # noqa: ARG002 - there is one choice
        """Return one delta."""
        yield self._event("response.output_text.delta", {**self._at, "delta": text, "logprobs": []})

    def finish(self, index: int) -> Iterable[bytes]:
        """Return the text, the part and the item again, whole."""
        text = self._reply.answers[index].text
        yield self._event("response.output_text.done", {**self._at, "text": text, "logprobs": []})
        yield self._event("response.content_part.done", {**self._at, "part": _OutputText(text)})
        item = _output(self._reply, _status(self._reply), [_OutputText(text)])
        yield self._event("response.output_item.done", {"output_index": 0, "item": item})

    def end(self) -> Iterable[bytes]:
        """Return the whole response."""
        status = _status(self._reply)
        yield self._event(f"response.{status}", {"response": _response(self._reply, status)})

    def _event(self, kind: str, fields: dict[str, object]) -> bytes:
        number, self._sequence = self._sequence, self._sequence + 1
        return sse(msgspec.json.encode({"type": kind, "sequence_number": number, **fields}), kind)


DIALECT = Dialect("/v1/responses", "resp_", parse, whole, Stream, openai_error)
