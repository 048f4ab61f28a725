"""What clients ask, as runs of tokens with names: equal runs from the start are a shared prefix."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.openai.digest import BOUNDARIES, BYTES_PER_TOKEN, Digest

BLOCK = 16
"""Tokens in a KV block of every modelled engine: vLLM's default."""
MODEL = "m"

Run = tuple[int, int]
"""A name and how many tokens it stands for."""

HASH = 2**64 - 1
"""A digest's hashes have 64 bits and no sign."""
_DIGEST_ENDS = tuple(end // BYTES_PER_TOKEN for end in BOUNDARIES[:1000])


@dataclass(frozen=True, slots=True)
class Turn:
    """One request. Lengths are in tokens. Nothing of it changes while it is played, so that all policies share it."""

    session: int
    prompt_tokens: int
    output_tokens: int
    digest: Digest
    """What the picker gets to see of the prompt."""
    blocks: tuple[int, ...]
    """Chained hashes of the complete KV blocks of prompt and answer."""
    adapter: str = ""
    objective: str = ""
    pause: float = 0.0
    """Seconds between the answer before and this question."""
    then: Turn | None = None
    """Asked when this one is answered."""

    def __iter__(self) -> Iterator[Turn]:
        turn: Turn | None = self
        while turn is not None:
            yield turn
            turn = turn.then


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer, before they are part of a conversation."""

    question: Sequence[Run]
    answer: Run
    pause: float = 0.0
    max_tokens: int = 0


def conversation(
    session: int,
    system: Sequence[Run],
    exchanges: Sequence[Exchange],
    *,
    adapter: str = "",
    objective: str = "",
) -> Turn:
    """Return the first turn of a conversation; every turn's prompt is all that was said before it."""
    runs = list(system)
    ends = []
    for exchange in exchanges:
        runs += exchange.question
        ends.append((_length(runs), exchange))
        runs.append(exchange.answer)
    seed = hash_of(adapter)
    whole = chain(runs, range(BLOCK, _length(runs) + 1, BLOCK), seed)
    shown = tuple(block & HASH for block in chain(runs, _DIGEST_ENDS, seed))
    then: Turn | None = None
    for prompt, exchange in reversed(ends):
        output = exchange.answer[1]
        digest = Digest(
            adapter or MODEL,
            stream=True,
            prompt_bytes=prompt * BYTES_PER_TOKEN,
            max_tokens=exchange.max_tokens,
            blocks=shown[: bisect.bisect_right(_DIGEST_ENDS, prompt)],
        )
        then = Turn(
            session=session,
            prompt_tokens=prompt,
            output_tokens=output,
            digest=digest,
            blocks=whole[: (prompt + output) // BLOCK],
            adapter=adapter,
            objective=objective,
            pause=exchange.pause,
            then=then,
        )
    if then is None:
        raise ValueError("a conversation has at least one exchange")
    return then


def chain(runs: Sequence[Run], ends: Sequence[int], seed: int = 0) -> tuple[int, ...]:
    """Hash the text of `runs` up to each of the ascending `ends` that it reaches, each hash built on the one before."""
    hashes, parent = [], seed
    at = start = 0
    for end in ends[: bisect.bisect_right(ends, _length(runs))]:
        while at + 1 < len(runs) and start + runs[at][1] < end:
            parent = hash((parent, runs[at]))
            start += runs[at][1]
            at += 1
        parent = hash((parent, runs[at][0], end - start))
        hashes.append(parent)
    return tuple(hashes)


def hash_of(text: str) -> int:
    """Return a number for `text` that is the same in every process: Python's own differs."""
    return int.from_bytes(text.encode(), "big")


def names() -> Iterator[int]:
    """Yield names for runs."""
    return itertools.count(1)


def _length(runs: Sequence[Run]) -> int:
    return sum(length for _, length in runs)
