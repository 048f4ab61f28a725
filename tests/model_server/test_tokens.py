"""Four bytes are a token, and prefixes stay prefixes."""

from __future__ import annotations

import pytest

from tools.model_server import tokens

TEXT = "Grüße aus Köln, 東京 and elsewhere."


@pytest.mark.parametrize(
    "text", [b"", b"a", b"abcd", b"abcde", TEXT.encode(), b"\0\0\0\0\0", bytes(range(256))]
)
def test_ids_turn_back_into_the_text(text):
    """No vocabulary is needed."""
    ids = tokens.encode(text)
    assert len(ids) == tokens.count(text)
    assert tokens.decode(ids) == text


@pytest.mark.parametrize("token", [0, 1, 255, 128_000, -1, 1 << 70])
def test_foreign_ids_are_no_error(token):
    """A real tokenizer's ids become some bytes."""
    assert isinstance(tokens.decode([token]), bytes)
    assert len(tokens.pack([token])) == 4


def test_pieces_keep_characters_whole():
    """Each piece is valid text by itself, and together they are the answer."""
    pieces = [tokens.piece(TEXT, index) for index in range(tokens.pieces(TEXT))]
    assert "".join(pieces) == TEXT
    assert {len(p) for p in pieces[:-1]} == {4}


def test_equal_prefixes_have_equal_hashes_and_only_they():
    """The hash of a block stands for everything before it."""

    def hashes(text, seed="m"):
        return tokens.block_hashes(text, block_size=16, seed=seed)

    base = hashes(b"a" * 256)
    assert len(base) == 4
    assert len(set(base)) == 4
    assert hashes(b"a" * 300)[:4] == base
    assert hashes(b"b" + b"a" * 255)[1:] != base[1:]
    assert hashes(b"a" * 200 + b"b" * 56)[:3] == base[:3]
    assert hashes(b"a" * 256, seed="other") != base


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (63, 0), (64, 1), (127, 1), (128, 2)])
def test_the_tail_has_no_hash(size, blocks):
    """An incomplete block cannot be cached."""
    assert len(tokens.block_hashes(b"x" * size, block_size=16, seed="")) == blocks


def test_ids_find_the_same_cache_as_their_text():
    """A prompt given as token ids is the same prompt."""
    text = b"sixteen letters!" * 8
    assert tokens.pack(tokens.encode(text)) == text
