"""POST /v1/embeddings: vectors that depend on model and text alone."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from tools.model_server import tokens
from tools.model_server.dialects.completions import Prompts, as_prompts
from tools.model_server.dialects.generation import decode

DIMENSIONS = 64
"""Unless the request asks for another number: enough to tell texts apart, small enough to read."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A request."""

    model: str
    texts: Sequence[bytes]
    dimensions: int
    as_base64: bool


class _Body(msgspec.Struct):
    model: str
    input: Prompts
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None


_BODY = msgspec.json.Decoder(_Body)


def parse_embeddings(body: bytes) -> Embeddings:
    """Read a request; raise `ApiError` 400."""
    b = decode(_BODY, body)
    texts = as_prompts(b.input, "input")
    return Embeddings(b.model, texts, b.dimensions or DIMENSIONS, b.encoding_format == "base64")


def embedding_body(asked: Embeddings, *, created: int) -> bytes:
    """Write the answer. `created` in seconds since the epoch."""
    vectors = [embedding(text, dimensions=asked.dimensions, seed=asked.model) for text in asked.texts]
    used = sum(map(tokens.count, asked.texts))
    data = [
        {"index": i, "object": "embedding", "embedding": _as_base64(v) if asked.as_base64 else v}
        for i, v in enumerate(vectors)
    ]
    usage = {
        "prompt_tokens": used,
        "total_tokens": used,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
    }
    return msgspec.json.encode(
        {"object": "list", "created": created, "model": asked.model, "data": data, "usage": usage}
    )


def embedding(text: bytes, *, dimensions: int, seed: str) -> list[float]:
    """Return a unit vector."""
    raw = hashlib.shake_128(seed.encode() + b"\0" + text).digest(4 * dimensions)
    values = struct.unpack(f"<{dimensions}i", raw)
    norm = sum(v * v for v in values) ** 0.5 or 1.0
    return [v / norm for v in values]


def _as_base64(vector: Sequence[float]) -> str:
    """Return little-endian 32-bit floats, what the OpenAI SDK asks for when nobody says otherwise."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
