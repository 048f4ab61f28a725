"""BBR's work on a body: find the model without decoding the rest, hash the prompt, write the digest."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.cost.prompts import SIZES, body, label
from bench.cost.timing import Case
from services.openai.dialects import Dialect
from services.openai.digest import decode, digest_of, encode
from services.openai.peek import peek


def cases() -> Iterator[Case]:
    """Yield peek, digest and the EPP's reading of the digest, for each prompt size."""
    for size in SIZES:
        raw = body(size)
        seen = peek(raw, Dialect.CHAT)
        digest = digest_of(seen, seen.model)
        blocks = f"{label(size)}, {len(digest.blocks)} blocks"
        yield Case("digest", f"peek {label(size)}", partial(peek, raw, Dialect.CHAT))
        yield Case("digest", f"peek, hash and encode {blocks}", partial(_digest, raw))
        yield Case("digest", f"decode {blocks}", partial(decode, encode(digest)))


def _digest(raw: bytes) -> str:
    seen = peek(raw, Dialect.CHAT)
    return encode(digest_of(seen, seen.model))
