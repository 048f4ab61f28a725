from __future__ import annotations

import base64

import msgspec
import pytest

from services.openai.digest import BOUNDARIES
from services.openai.exact import DEPTHS, Exact, ExactError, common, decode, encode, exact_of

IDS = list(range(1000, 1100))


def exact(ids, *, block_size=4, **others) -> Exact:
    return exact_of(ids, block_size=block_size, prompt_bytes=4 * len(ids), **others)


def test_a_prompt_that_goes_on_keeps_its_hashes():
    """The next turn of a conversation begins with the hashes of this one."""
    short, long = exact(IDS[:50]), exact(IDS)
    assert long.hashes[: len(short.hashes)] == short.hashes
    assert len(long.hashes) > len(short.hashes) == 12


@pytest.mark.parametrize(
    "other",
    [
        {"ids": [7, *IDS[1:]]},
        {"adapter": "lora"},
        {"cache_salt": "tenant"},
        {"block_size": 5},
    ],
)
def test_another_beginning_adapter_salt_or_block_size_shares_no_hash(other):
    """Whatever makes a server's cache another one makes all hashes others."""
    assert not set(exact(IDS).hashes) & set(exact(other.pop("ids", IDS), **other).hashes)


@pytest.mark.parametrize(("tokens", "hashes"), [(0, 0), (4, 0), (5, 1), (8, 1), (9, 2)])
def test_the_last_token_is_left_out(tokens, hashes):
    """A server computes it anyway, so a block that it completes is never found."""
    assert len(exact(IDS[:tokens]).hashes) == hashes


def test_a_long_prompt_has_few_hashes():
    """Their number grows with the logarithm of the prompt, at the same steps as the digest's blocks."""
    assert len(exact(list(range(4 * 6250 + 1))).hashes) == 64 * 6 + 34
    assert DEPTHS[:3] == (1, 2, 3)
    assert DEPTHS[64:66] == (66, 68)
    assert len(DEPTHS) == len(BOUNDARIES)


def test_two_prompts_share_what_both_begin_with():
    """As many blocks as are equal, and no block more."""
    one, other = exact(IDS), exact([*IDS[:42], *range(50)])
    shared = common(one, other, prefix := 160)
    assert (shared.tokens, shared.prompt_bytes) == (40, prefix)
    assert shared.hashes == one.hashes[:10] == other.hashes[:10]


def test_what_is_written_can_be_read():
    """Every field survives the way through metadata."""
    assert decode(encode(exact(IDS))) == exact(IDS)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "not base64!",
        [2, 4, 8, 10, b""],
        [1, 0, 8, 10, b""],
        [1, 4, -1, 10, b""],
        [1, 4, 8, 10, b"123"],
        [1, 4, 8, 10, b"x" * 24],
        ["1"],
    ],
)
def test_what_is_no_exact_prefix_is_refused(value):
    """Another scheme, impossible numbers, more hashes than tokens."""
    text = value if isinstance(value, str) else base64.b64encode(msgspec.msgpack.encode(value)).decode()
    with pytest.raises(ExactError):
        decode(text)
