"""Where a model's tokens come from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]


class TokenSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A vocabulary, a server, or both. At least one."""

    file: str = ""
    """The model's `tokenizer.json`, for plain prompts, and with a `template` for conversations. Needs the extra
    `kv-events`."""
    template: str = ""
    """The model's `tokenizer_config.json` with its chat template (in it, or as `chat_template.jinja` beside it), or a
    template alone, as the servers' `--chat-template` names it."""
    server: Annotated[str, Meta(pattern="^(https?://.+)?$")] = ""
    """A vLLM server of the model, as `http://host:port`: its `/tokenize` renders the model's own chat template."""
    block_size: Annotated[int, Meta(ge=1)] = 16
    """Tokens in a block of the servers' KV cache: vLLM's `--block-size`. Hashes of another size match nothing."""
    wait_seconds: Annotated[float, Meta(ge=0, le=30)] = 0.0
    """How long a request waits for its tokens. Without a wait they are there for the next turn of its conversation."""
    timeout_seconds: Seconds = 5.0
    """Of one answer of the server."""
    concurrency: Annotated[int, Meta(ge=1, le=64)] = 2
    """Prompts that are looked at at the same time; up to `QUEUED` more wait."""

    def __post_init__(self) -> None:
        if not (self.file or self.server):
            raise ValueError("`file` or `server` is needed")
        if self.file and importlib.util.find_spec("tokenizers") is None:
            raise ValueError("file: needs tokenizers: pip install 'inference-gateway[kv-events]'")
        if self.template and not self.file:
            raise ValueError("template: needs `file`, the vocabulary of what it renders")
        for name, path in (("file", self.file), ("template", self.template)):
            if path and not Path(path).is_file():
                raise ValueError(f"{name}: {path!r} is no file")
