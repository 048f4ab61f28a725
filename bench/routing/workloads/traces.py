"""Recorded requests: Mooncake's traces, or a stand-in of the same shape where they are not at hand."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.routing.turns import BLOCK, HASH, Turn
from bench.routing.workloads.base import Planned, lognormal
from services.openai.digest import BOUNDARIES, BYTES_PER_TOKEN, Digest
from tools.workload.mooncake import BLOCK_TOKENS, Record, read

FOLDER = "MOONCAKE_TRACES"
"""Environment variable that names the folder with `mooncake_conversation_trace.jsonl` and `…_synthetic_…`."""
LONGEST = 60
"""Blocks, 30,000 tokens, after which a conversation of the stand-in ends."""
_ENDS = tuple(end // BYTES_PER_TOKEN for end in BOUNDARIES[:1000])


def trace(name: str) -> Callable[[random.Random, int], list[Planned]]:
    """Return a workload of the trace called `name`, thinned to so many requests.

    Whole conversations are kept or left out, so that what is left shares as much as the trace does; the seed decides
    which.
    """

    def make(rng: random.Random, count: int) -> list[Planned]:
        records = load(name)
        kept, roots = count / len(records), dict[int, bool]()
        return [
            Planned(1e-3 * (1 + record.timestamp), 0.0, turn(record, number))
            for number, record in enumerate(records)
            if roots.setdefault(_root(record), rng.random() < kept)
        ]

    return make


def _root(record: Record) -> int:
    """Return what the requests of one conversation have in common: their second block, the first is everybody's."""
    return record.hash_ids[:2][-1] if record.hash_ids else -1


def provenance() -> str:
    """Return where the records come from, in words."""
    return "Mooncake's own traces" if os.environ.get(FOLDER) else "stand-ins for Mooncake's traces"


def load(name: str) -> Sequence[Record]:
    """Return the trace's records, or those of the stand-in; raise FileNotFoundError where the folder lacks the trace."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return standin(name)
    with (Path(folder) / f"mooncake_{name}_trace.jsonl").open("rb") as lines:
        return list(read(lines))


@functools.cache
def standin(name: str) -> Sequence[Record]:
    """Draw requests of the trace's shape: its mean lengths, its rate, and its share of what was there before.

    conversation: 12,035 tokens in and 343 out, 36.6 % seen before; synthetic: 15,325 in, 149 out, 64 %.
    """
    rng = random.Random(f"stand-in/{name}")
    growing, new, fresh, out = {"conversation": (0.37, 7, 21, 343), "synthetic": (0.69, 8, 22, 149)}[name]
    ids = iter(range(1, 10**9))
    sessions: list[tuple[int, ...]] = []
    records = []
    for number in range(4000):
        if sessions and rng.random() < growing:
            at = len(sessions) - 1 - min(int(rng.expovariate(1 / 60)), len(sessions) - 1)
            blocks = sessions[at] + tuple(next(ids) for _ in range(lognormal(rng, new, 0.8, 1, 80)))
            sessions[at] = blocks
            if len(blocks) > LONGEST:
                del sessions[at]
        else:
            blocks = (0, *(next(ids) for _ in range(lognormal(rng, fresh, 0.9, 1, 200))))
            sessions.append(blocks)
        length = len(blocks) * BLOCK_TOKENS - rng.randrange(BLOCK_TOKENS)
        records.append(Record(number * 300, length, lognormal(rng, out, 0.8, 1, 2000), blocks))
    return records


def turn(record: Record, number: int, block: int = BLOCK) -> Turn:
    """Return a trace's request; equal ids become equal blocks, and the answer is nobody else's."""
    prompt = record.input_length
    return Turn(
        session=number,
        prompt_tokens=prompt,
        output_tokens=max(1, record.output_length),
        digest=Digest("m", stream=True, prompt_bytes=prompt * BYTES_PER_TOKEN, blocks=_shown(record, number)),
        blocks=_blocks(record, number, block),
    )


def _blocks(record: Record, number: int, block: int) -> tuple[int, ...]:
    per = BLOCK_TOKENS // block
    hashes = [hash((name, part)) for name in record.hash_ids for part in range(per)]
    whole = record.input_length // block
    answer = (record.input_length + record.output_length) // block - whole
    return (*hashes[:whole], *(hash((-1, number, part)) for part in range(answer)))


def _shown(record: Record, number: int) -> tuple[int, ...]:
    ids = record.hash_ids
    shown = []
    for end in _ENDS:
        if end > record.input_length:
            break
        shown.append(hash((ids[(end - 1) // BLOCK_TOKENS], end)) & HASH)
    return tuple(shown) if ids else (hash((-2, number)) & HASH,)
