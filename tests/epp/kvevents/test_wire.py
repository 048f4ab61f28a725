from __future__ import annotations

import msgspec
import pytest

from services.epp.kvevents.wire import (
    Batch,
    Cleared,
    Removed,
    Stored,
    WireError,
    decode,
    sequence_of,
    split,
)
from services.openai.exact import pack

TOKENS = list(range(8))
PACKED = pack(TOKENS)
HASHES = [bytes(range(32)), bytes(range(32, 64))]
LAST_64_BITS = tuple(int.from_bytes(one[-8:], "big") for one in HASHES)
STORED = Stored((11, 12), None, PACKED, 4)


def batch(*events, whole=None) -> Batch:
    return decode(msgspec.msgpack.encode(whole if whole is not None else [1.5, list(events), 0]))


@pytest.mark.parametrize(
    ("event", "read"),
    [
        (["BlockStored", [11, 12], None, TOKENS, 4, None], STORED),  # 0.9
        (["BlockStored", [11, 12], 10, TOKENS, 4, None, "GPU"], Stored((11, 12), 10, PACKED, 4)),  # 0.10
        (["BlockStored", HASHES, None, TOKENS, 4, None, "GPU", None], Stored(LAST_64_BITS, None, PACKED, 4)),
        (["BlockStored", [11, 12], None, TOKENS, 4, 3], Stored((11, 12), None, PACKED, 4, "#3")),
        (
            ["BlockStored", [11, 12], None, TOKENS, 4, 3, "GPU", "food"],
            Stored((11, 12), None, PACKED, 4, "food"),
        ),
        (
            [
                "BlockStored",
                [11, 12],
                None,
                TOKENS,
                4,
                None,
                "GPU",
                None,
                None,
                2,
                "full_attention",
                None,
                "more",
            ],
            Stored((11, 12), None, PACKED, 4, group=2),
        ),
        (
            {
                "type": "BlockStored",
                "block_hashes": [11, 12],
                "parent_block_hash": None,
                "token_ids": TOKENS,
                "block_size": 4,
                "lora_id": None,
                "medium": "GPU",
                "lora_name": None,
                "locality": "LOCAL",
            },
            STORED,
        ),
        (["BlockRemoved", [11]], Removed((11,))),
        (["BlockRemoved", [-1], "GPU", 1], Removed(((1 << 64) - 1,), 1)),
        ({"type": "BlockRemoved", "block_hashes": HASHES, "medium": None}, Removed(LAST_64_BITS)),
        (["AllBlocksCleared"], Cleared()),
        ({"type": "AllBlocksCleared"}, Cleared()),
    ],
)
def test_events_of_every_version_are_read(event, read):
    """Tagged arrays and maps, hashes as numbers or bytes, with and without what came later."""
    assert batch(event) == Batch((read,))


@pytest.mark.parametrize(
    "whole",
    [
        [1.5, [["AllBlocksCleared"]]],
        [1.5, [["AllBlocksCleared"]], 3],
        [1.5, [["AllBlocksCleared"]], 3, "more"],
        {"ts": 1.5, "events": [["AllBlocksCleared"]]},
        {
            "type": "KVEventBatch",
            "ts": 1.5,
            "events": [{"type": "AllBlocksCleared"}],
            "data_parallel_rank": 0,
        },
    ],
)
def test_batches_of_every_version_are_read(whole):
    """As an array or a map, with and without a rank."""
    assert batch(whole=whole) == Batch((Cleared(),))


@pytest.mark.parametrize(
    ("adapter", "extra_keys", "extras"),
    [
        (None, None, ()),
        (None, [None, None], ()),
        (None, [["salt"], None], (msgspec.msgpack.encode(["salt"]), b"")),
        ("food", [["food"], ["food"]], (b"", b"")),
        ("food", [["food", "salt"], ["food"]], (msgspec.msgpack.encode(["salt"]), b"")),
        (None, [[["image", 3]], None], (msgspec.msgpack.encode([["image", 3]]), b"")),
    ],
)
def test_what_else_a_block_depends_on_is_kept_and_the_adapter_is_not_told_twice(adapter, extra_keys, extras):
    """Salt and images stay with their block; the adapter's name is what the chain begins with."""
    (event,) = batch(["BlockStored", [11, 12], None, TOKENS, 4, None, "GPU", adapter, extra_keys]).events
    assert isinstance(event, Stored)
    assert (event.adapter, event.extras) == (adapter or "", extras)


def test_other_memories_partial_caches_and_new_kinds_are_counted_and_passed_over():
    """What is on disk, or of a sliding window, is not what a prompt finds whole."""
    read = batch(
        ["BlockStored", [1], None, [], 4, None, "CPU"],
        ["BlockRemoved", [1], "STORAGE"],
        ["BlockStored", [1], None, TOKENS[:4], 4, None, "GPU", None, None, 1, "sliding_window", 128],
        ["BlockMoved", 1, 2],
        ["BlockRemoved", [2]],
    )
    assert read == Batch((Removed((2,)),), ignored=3, unknown=1)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode("text"),
        msgspec.msgpack.encode([1.5]),
        msgspec.msgpack.encode([1.5, [[]]]),
        msgspec.msgpack.encode([1.5, [["BlockStored", [1]]]]),
        msgspec.msgpack.encode([1.5, [["BlockStored", [1], None, [1, 2], 4]]]),
        msgspec.msgpack.encode([1.5, [["BlockStored", [1], None, [1, 2, 3, -4], 4]]]),
        msgspec.msgpack.encode([1.5, [["BlockStored", [1], None, [[1, 2], 3, 4, 5], 4]]]),
        msgspec.msgpack.encode([1.5, [["BlockStored", ["x"], None, [1, 2, 3, 4], 4]]]),
    ],
)
def test_what_cannot_be_read_is_one_kind_of_error(payload):
    """Nothing else escapes to whoever listens."""
    with pytest.raises(WireError):
        decode(payload)


@pytest.mark.parametrize(
    "frames", [[b"topic", b"seq", b"payload"], [b"", b"seq", b"payload"], [b"", b"topic", b"seq", b"payload"]]
)
def test_number_and_payload_come_last(frames):
    """A live message begins with a topic, a replayed one with a delimiter, in some versions with both."""
    assert split(frames) == (b"seq", b"payload")


def test_a_number_has_eight_bytes():
    """Anything else is no message of a publisher."""
    assert sequence_of(b"\0\0\0\0\0\0\1\2") == 258
    with pytest.raises(WireError):
        sequence_of(b"12")
    with pytest.raises(WireError):
        split([b"12"])
