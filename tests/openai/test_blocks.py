"""Blocks are a sequence of numbers that nobody has to unpack."""

from __future__ import annotations

import pytest

from services.openai.blocks import Blocks, pack

NUMBERS = (0, 1, 2**64 - 1, 7)


def test_they_are_the_numbers_that_were_packed():
    """Length, items from both ends, iteration, and equality with a tuple, either way round."""
    blocks = Blocks(pack(NUMBERS))

    assert len(blocks) == 4
    assert (blocks[0], blocks[2], blocks[-1]) == (0, 2**64 - 1, 7)
    assert tuple(blocks) == NUMBERS
    assert blocks == NUMBERS == blocks
    assert hash(blocks) == hash(NUMBERS)
    assert blocks != NUMBERS[:3]
    assert blocks != 4
    assert pack(blocks) == pack(NUMBERS)


@pytest.mark.parametrize(
    "part", [slice(2), slice(1, 3), slice(9, 12), slice(-2, None), slice(3, 1), slice(None, None, -1)]
)
def test_a_slice_is_what_a_tuple_would_give(part):
    """Also beyond the end, and backwards."""
    assert Blocks(pack(NUMBERS))[part] == NUMBERS[part]


def test_no_item_is_beyond_the_end():
    """As in a tuple."""
    with pytest.raises(IndexError):
        Blocks(pack(NUMBERS))[4]
    assert not Blocks()


def test_half_a_hash_is_refused():
    """It came from elsewhere."""
    with pytest.raises(ValueError, match="9 bytes"):
        Blocks(bytes(9))
