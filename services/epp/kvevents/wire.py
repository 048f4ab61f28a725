"""vLLM's KV event messages (`vllm/distributed/kv_events.py`), read leniently: versions differ in what they add.

A message is three frames: topic, sequence number (8 bytes, big-endian), and a batch in msgpack. A batch is
`[ts, events, data_parallel_rank]`, in the newest versions a map with these keys. An event is `[tag, field, ...]`, or a
map whose key `type` is the tag. Fields that came later are optional, and those that are not known are passed over.
SGLang sends the same.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from services.openai.exact import pack

Frames = Sequence[bytes]
SEQUENCE = 8  # bytes
END = (-1).to_bytes(SEQUENCE, "big", signed=True)
"""In place of a sequence number: the end of a replay."""

_MASK = (1 << 64) - 1
_BATCH = ("ts", "events", "data_parallel_rank")
_FIELDS: Mapping[str, Sequence[str]] = {
    "BlockStored": (
        "block_hashes",
        "parent_block_hash",
        "token_ids",
        "block_size",
        "lora_id",
        "medium",
        "lora_name",
        "extra_keys",
        "group_idx",
        "kv_cache_spec_kind",
    ),
    "BlockRemoved": ("block_hashes", "medium", "group_idx"),
    "AllBlocksCleared": (),
}
_GPU = (None, "GPU")
_WHOLE_CONTEXT = (None, "full_attention", "mla_attention", "sink_full_attention")
"""Kinds of KV cache that hold all of a prompt. Others, such as sliding windows, hold a part of it at most."""


class WireError(ValueError):
    """The message is none that this version can read."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks that can be found from now on, each one the continuation of the one before."""

    keys: tuple[int, ...]
    """The server's own hashes of them, the last 64 bits."""
    parent: int | None
    """The key of the block before the first; None where a prompt begins."""
    tokens: bytes
    """Their token ids, as `exact.pack` gives them."""
    block_size: int
    adapter: str = ""
    extras: tuple[bytes, ...] = ()
    """For each block what its hash depends on besides tokens and adapter; none at all: nothing."""
    group: int = 0


@dataclass(frozen=True, slots=True)
class Removed:
    """Blocks that were evicted."""

    keys: tuple[int, ...]
    group: int = 0


@dataclass(frozen=True, slots=True)
class Cleared:
    """Nothing is cached any more."""


Event = Stored | Removed | Cleared


@dataclass(frozen=True, slots=True)
class Batch:
    """What one message tells."""

    events: tuple[Event, ...] = ()
    ignored: int = 0
    """Events of another memory than the accelerator's, or of a cache that does not hold whole prompts."""
    unknown: int = 0
    """Events of a kind that this version does not know."""


def sequence_of(frame: bytes) -> int:
    """Return a sequence number; raise `WireError` for another frame."""
    if len(frame) != SEQUENCE:
        raise WireError(f"a sequence number has {SEQUENCE} bytes, not {len(frame)}")
    return int.from_bytes(frame, "big")


def split(frames: Frames) -> tuple[bytes, bytes]:
    """Return the sequence number's frame and the payload: the last two, whatever delimiter or topic comes first."""
    if len(frames) < 2:  # noqa: PLR2004 - those two
        raise WireError(f"a message has three frames, not {len(frames)}")
    return frames[-2], frames[-1]


def decode(payload: bytes) -> Batch:
    """Read a batch. Raises `WireError`."""
    try:
        batch = _named(_BATCH, msgspec.msgpack.decode(payload))
        read = [_event(raw) for raw in batch["events"]]
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise WireError(f"not a batch of KV events: {type(error).__name__}: {error}") from error
    events = tuple(event for event in read if not isinstance(event, str))
    return Batch(events, ignored=read.count("ignored"), unknown=read.count("unknown"))


def _event(raw: Any) -> Event | str:  # noqa: ANN401 - whatever a message holds
    tag = raw["type"] if isinstance(raw, dict) else raw[0]
    if tag not in _FIELDS:
        return "unknown"
    fields = _named(_FIELDS[tag], raw if isinstance(raw, dict) else raw[1:])
    if tag == "AllBlocksCleared":
        return Cleared()
    if fields.get("medium") not in _GPU or fields.get("kv_cache_spec_kind") not in _WHOLE_CONTEXT:
        return "ignored"
    group = fields.get("group_idx") or 0
    keys = tuple(map(_key, fields["block_hashes"]))
    return Removed(keys, group) if tag == "BlockRemoved" else _stored(keys, group, fields)


def _stored(keys: tuple[int, ...], group: int, fields: Mapping[str, Any]) -> Stored:
    parent, size, tokens = fields["parent_block_hash"], fields["block_size"], fields["token_ids"]
    if size < 1 or len(tokens) != size * len(keys):
        raise ValueError(f"{len(tokens)} tokens in {len(keys)} blocks of {size}")
    name = _adapter(fields)
    extras = _extras(fields.get("extra_keys"), name, len(keys))
    return Stored(keys, None if parent is None else _key(parent), pack(tokens), size, name, extras, group)


def _adapter(fields: Mapping[str, Any]) -> str:
    """Return the adapter's name. Old versions tell a number only, which no request names."""
    name, number = fields.get("lora_name"), fields.get("lora_id")
    return name or ("" if number is None else f"#{number}")


def _extras(
    extra_keys: Sequence[Sequence[Any] | None] | None, adapter: str, blocks: int
) -> tuple[bytes, ...]:
    if not extra_keys or not any(extra_keys):
        return ()
    if len(extra_keys) != blocks:
        raise ValueError(f"{len(extra_keys)} extra keys of {blocks} blocks")
    return tuple(_extra(keys, adapter) for keys in extra_keys)


def _extra(keys: Sequence[Any] | None, adapter: str) -> bytes:
    """Leave the adapter out, which the chain begins with."""
    rest = list(keys or ())
    if adapter and rest and rest[0] == adapter:
        del rest[0]
    return msgspec.msgpack.encode(rest) if rest else b""


def _key(value: int | bytes) -> int:
    return int.from_bytes(value[-8:], "big") if isinstance(value, bytes) else value & _MASK


def _named(names: Sequence[str], value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - as above
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        raise TypeError(f"expected an array or a map, got {type(value).__name__}")
    return dict(zip(names, value, strict=False))
