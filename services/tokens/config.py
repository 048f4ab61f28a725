"""Where a model's tokens come from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]


class TokenSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file for plain prompts, a server for conversations, or both. At least one."""

    file: str = ""
    """The model's `tokenizer.json`. It renders no chat template, so it serves completions only. Needs the extra
    `kv-events`."""
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
        if self.file and not Path(self.file).is_file():
            raise ValueError(f"file: {self.file!r} is no file")
