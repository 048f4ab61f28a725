"""Reader for the traces of Mooncake (FAST'25): times, lengths and prefix-block ids of real requests, without text.

A line is `{"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [id, …]}` with one id for
each 512 tokens of the prompt; equal ids stand for equal prefixes up to there. Each id becomes a block of pseudo-text
that it alone determines, so equal prefixes are equal bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from tools.workload.prefixes import Prompt
from tools.workload.requests import Message, TimedRequest
from tools.workload.text import pseudo_text

BLOCK_TOKENS = 512  # of the published traces


class TraceError(ValueError):
    """A line is not a record of the Mooncake format."""


class Record(msgspec.Struct, frozen=True):
    """One line of a trace. Fields of other versions of the format are ignored."""

    timestamp: int
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...]

    def blocks(self) -> Prompt:
        """Return the prompt as its blocks, for counting hits without making its text."""
        return Prompt(self.hash_ids, self.input_length, BLOCK_TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much smaller and faster than the recorded service the replay is."""

    speed: float = 1.0
    """2 plays an hour in half an hour."""
    block_tokens: int = BLOCK_TOKENS
    """Tokens that one block becomes; 64 makes prompts an eighth as long and keeps what they share."""
    answers: float = 1.0
    """Factor on the answers' lengths; every answer keeps at least one token."""


def read(lines: Iterable[str | bytes]) -> Iterator[Record]:
    """Yield the records of a trace as its lines come; raise `TraceError` with the line's number for a bad one."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = _DECODER.decode(line)
        except msgspec.MsgspecError as error:
            raise TraceError(f"line {number}: {error}") from error
        if len(record.hash_ids) != -(-record.input_length // BLOCK_TOKENS):
            expected = f"{-(-record.input_length // BLOCK_TOKENS)} blocks for {record.input_length} tokens"
            raise TraceError(f"line {number}: {len(record.hash_ids)} hash_ids, expected {expected}")
        yield record


def requests(records: Iterable[Record], scale: Scale | None = None) -> Iterator[TimedRequest]:
    """Yield one single-turn request per record. Memory holds one prompt and a bounded cache of blocks."""
    scale = scale or Scale()
    for number, record in enumerate(records):
        prompt = Message("user", _text(record, scale.block_tokens))
        at = record.timestamp / 1000 / scale.speed
        answer = max(1, round(record.output_length * scale.answers))
        yield TimedRequest(at, "trace", f"request-{number}", 0, (prompt,), answer)


def _text(record: Record, block_tokens: int) -> str:
    if not record.hash_ids:
        return ""
    *full, last = record.hash_ids
    rest = record.input_length - BLOCK_TOKENS * len(full)
    rest = -(-rest * block_tokens // BLOCK_TOKENS)
    return "".join(_block(block, block_tokens) for block in full) + pseudo_text(_key(last), rest)


def _key(block: int) -> str:
    return f"mooncake/{block}"


@functools.lru_cache(maxsize=8192)  # 16 MB of text at 512 tokens; the shared prefixes of an hour fit
def _block(block: int, tokens: int) -> str:
    return pseudo_text(_key(block), tokens)


_DECODER = msgspec.json.Decoder(Record)
