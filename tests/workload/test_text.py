from __future__ import annotations

import pytest

from tools.workload.text import TOKEN_BYTES, pseudo_text


@pytest.mark.parametrize("tokens", [0, 1, 3, 4, 5, 512])
def test_a_token_is_one_word_of_four_bytes(tokens):
    """A server that counts words and one that counts bytes find the same number of tokens."""
    text = pseudo_text("key", tokens)
    assert len(text.encode()) == tokens * TOKEN_BYTES
    assert len(text.split()) == tokens


def test_the_text_depends_on_the_key_alone():
    """Equal keys give equal text on every machine, other keys other text."""
    assert pseudo_text("a", 4) == "fem lom lan far "
    assert pseudo_text("a", 64) != pseudo_text("b", 64)


def test_a_longer_text_begins_with_the_shorter_one():
    """Whatever the two lengths are."""
    longest = pseudo_text("key", 70)
    assert all(longest.startswith(pseudo_text("key", n)) for n in range(70))
