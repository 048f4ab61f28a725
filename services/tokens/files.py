"""The operator's files of a model: its vocabulary and its chat template, as Hugging Face repositories have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from services.extproc.config import ConfigError
from services.tokens.prompts import Conversation, Plain, RenderError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from services.tokens.template import ChatTemplate

CONFIG, TEMPLATE, WITH_TOOLS = (
    "tokenizer_config.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
)
"""The names that transformers gives them."""


class Files:
    """A vocabulary, and a chat template where there is one. Raises `ConfigError` for files that are none."""

    def __init__(self, vocabulary: str, template: str = "") -> None:
        """`vocabulary`: path of a `tokenizer.json`; `template`: as `load_template` takes it."""
        self._vocabulary = _vocabulary(vocabulary)
        self._template = load_template(template, vocabulary) if template else None

    def can(self, prompt: Plain | Conversation) -> bool:
        """Say whether `prompt` can be tokenized without its server."""
        return isinstance(prompt, Plain) or (self._template is not None and not prompt.odd)

    def encode(self, prompt: Plain | Conversation) -> list[int]:
        """Return the ids of `prompt`; raise `RenderError` for what the template refuses. For a thread: it takes long."""
        text = prompt.text if isinstance(prompt, Plain) else self._render(prompt)
        # `encode` would keep the interpreter's lock all the while, the batch gives it back.
        (found,) = self._vocabulary.encode_batch_fast([text], add_special_tokens=prompt.special)
        return found.ids

    def _render(self, prompt: Conversation) -> str:
        if self._template is None:
            raise RenderError("there is no template")
        return self._template.render(msgspec.json.decode(prompt.body, type=dict[str, Any]))


def load_template(path: str, vocabulary: str) -> ChatTemplate:
    """Read a `tokenizer_config.json` with its template, or a template alone; raise `ConfigError` for neither.

    A template alone gets the special tokens of the `tokenizer_config.json` beside the `vocabulary`, if there is one.
    """
    from services.tokens.template import ChatTemplate  # noqa: PLC0415 - an extra: only who names a template has it

    named = Path(path)
    try:
        if named.suffix == ".json":
            config = _read(named)
            templates = _templates(config, named.parent)
        else:
            beside = Path(vocabulary).with_name(CONFIG)
            config = _read(beside) if beside.is_file() else {}
            templates = {"default": named.read_text(encoding="utf-8")}
        return ChatTemplate(
            templates["default"], with_tools=templates.get("tool_use", ""), special=_special(config)
        )
    except KeyError as error:
        raise ConfigError(f"{path!r} holds no chat template, and no {TEMPLATE} is beside it") from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RenderError) as error:
        raise ConfigError(f"chat template {path!r} cannot be read: {error}") from error


def _vocabulary(path: str) -> Tokenizer:
    from tokenizers import Tokenizer  # noqa: PLC0415 - an extra: only who names a file has it

    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the library raises nothing more specific
        raise ConfigError(f"tokenizer {path!r} cannot be read: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])


def _templates(config: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return templates by name: files before what the configuration holds, as transformers does."""
    held = config.get("chat_template") or {}
    found = {"default": held} if isinstance(held, str) else _named(held)
    files = {"default": folder / TEMPLATE, "tool_use": folder / WITH_TOOLS}
    return found | {name: file.read_text(encoding="utf-8") for name, file in files.items() if file.is_file()}


def _named(held: object) -> dict[str, str]:
    entries = msgspec.convert(held or [], type=list[_Named])
    return {entry.name: entry.template for entry in entries}


class _Named(msgspec.Struct):
    name: str
    template: str


def _special(config: Mapping[str, Any]) -> dict[str, object]:
    """Return the special tokens by name; newer files write them as objects with more about them."""
    found: dict[str, object] = {}
    for name, token in config.items():
        if name.endswith("_token") and isinstance(token, str):
            found[name] = token
        elif name.endswith("_token") and isinstance(token, dict):
            found[name] = token.get("content")
    return found
