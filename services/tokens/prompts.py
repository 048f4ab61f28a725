"""What of a body has to be tokenized. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from services.openai.dialects import Dialect


@dataclass(frozen=True, slots=True)
class Ids:
    """A prompt that came as tokens."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plain:
    """A prompt that no template changes."""

    text: str
    special: bool = True
    """With the tokens that the model begins a text with."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, and all else that the template looks at, as a body for vLLM's `/tokenize`."""

    body: bytes
    odd: bool = False
    """Only a server can render it: a template of the client's own, or a message to be continued."""
    special: bool = False
    """With the tokens that the model begins a text with; templates write those themselves."""


class RenderError(ValueError):
    """A template refuses a conversation, or is none. The message says why."""


Prompt = Ids | Plain | Conversation


class _Completion(msgspec.Struct):
    prompt: str | list[int | str | list[int]] | None = None
    add_special_tokens: bool | None = None
    prompt_embeds: msgspec.Raw = msgspec.Raw()
    truncate_prompt_tokens: int | None = None


class _Part(msgspec.Struct):
    type: str = "text"


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None


class _Chat(msgspec.Struct):
    messages: msgspec.Raw
    truncate_prompt_tokens: int | None = None
    documents: msgspec.Raw = msgspec.Raw()
    reasoning_effort: str | None = None


class _Template(msgspec.Struct, omit_defaults=True):
    """The fields that chat completions and vLLM's `/tokenize` share."""

    messages: msgspec.Raw
    model: str = ""
    tools: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    add_generation_prompt: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    continue_final_message: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    add_special_tokens: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    chat_template: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    chat_template_kwargs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_COMPLETION = msgspec.json.Decoder(_Completion)
_CHAT = msgspec.json.Decoder(_Chat)
_MESSAGES = msgspec.json.Decoder(list[_Message])
_TEMPLATE = msgspec.json.Decoder(_Template)


def prompt_of(body: bytes, dialect: Dialect, model: str) -> Prompt | None:
    """Return the prompt of a body that asks `model`.

    None where its tokens cannot be had: another API, images, several prompts at once, or a field whose effect on the
    template `/tokenize` does not take.
    """
    try:
        if dialect is Dialect.COMPLETIONS:
            return _plain(_COMPLETION.decode(body))
        if dialect is Dialect.CHAT:
            return _conversation(body, model)
    except msgspec.MsgspecError:
        return None
    return None


def _plain(read: _Completion) -> Prompt | None:
    if bytes(read.prompt_embeds) or read.truncate_prompt_tokens is not None:
        return None
    prompt = read.prompt
    first = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    if isinstance(first, str):
        return Plain(first, special=read.add_special_tokens is not False)
    many = first if isinstance(first, list) else [first]
    ids = [one for one in many if isinstance(one, int)]
    return Ids(tuple(ids)) if ids and len(ids) == len(many) else None


def _conversation(body: bytes, model: str) -> Conversation | None:
    read = _CHAT.decode(body)
    if read.truncate_prompt_tokens is not None or read.reasoning_effort is not None or bytes(read.documents):
        return None
    parts = [
        part
        for message in _MESSAGES.decode(read.messages)
        if isinstance(message.content, list)
        for part in message.content
    ]
    if any(part.type not in {"text", "input_text"} for part in parts):
        return None
    template = _TEMPLATE.decode(body)
    template.model = model
    odd = _said(template.chat_template) or _said(template.continue_final_message)
    return Conversation(msgspec.json.encode(template), odd=odd, special=_said(template.add_special_tokens))


def _said(field: msgspec.Raw | msgspec.UnsetType) -> bool:
    return field is not msgspec.UNSET and bytes(field) not in {b"null", b"false"}
