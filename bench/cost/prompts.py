"""Request bodies and texts of a given size."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator

from bench.chain.workload import MODEL, text

SIZES = (2_000, 200_000)


def body(size: int) -> bytes:
    """Return a chat completion whose prompt has about `size` bytes, in turns of up to 2 KB."""
    rng = random.Random(size)
    turns = [
        {"role": ("user", "assistant")[index % 2], "content": text(rng, min(2_000, size))}
        for index in range(max(1, size // 2_000))
    ]
    return json.dumps({"model": MODEL, "stream": True, "max_tokens": 200, "messages": turns}).encode()


def unseen(size: int) -> Iterator[str]:
    """Yield texts without end, none of which came before."""
    base = text(random.Random(7), size)
    return (f"{number} {base}" for number in itertools.count())


def label(size: int) -> str:
    """Return `size` bytes as the tables say it."""
    return f"{size // 1000} KB"
