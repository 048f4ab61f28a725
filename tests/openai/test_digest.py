from __future__ import annotations

import base64
import itertools
import json
import random

import msgspec
import pytest

from services.openai.dialects import Dialect
from services.openai.digest import (
    BLOCKS_PER_LEVEL,
    BOUNDARIES,
    FIRST_BLOCK,
    SCHEME,
    Digest,
    DigestError,
    decode,
    digest_of,
    encode,
    hash_prompt,
    prefix_bytes,
)
from services.openai.peek import peek

TEXT = random.Random(1).randbytes(2 * FIRST_BLOCK * BLOCKS_PER_LEVEL)


def wire(*values: object) -> str:
    return base64.b64encode(msgspec.msgpack.encode(values)).decode()


def chat(turns: int, **fields: object) -> bytes:
    messages = [{"role": "user", "content": f"turn {turn} " * 20} for turn in range(turns)]
    return json.dumps({"messages": messages, "model": "asked"} | fields).encode()


def digest(body: bytes, model: str = "m") -> Digest:
    return digest_of(peek(body, Dialect.CHAT), model)


def test_growth_keeps_every_hash_at_every_length():
    """A prompt's hashes are the first hashes of every longer prompt, over the step from one block size to the next."""
    whole = hash_prompt([TEXT], model="m")
    for length in range(len(TEXT)):
        found = hash_prompt([memoryview(TEXT)[:length]], model="m")
        assert found == whole[: len(found)]
        assert prefix_bytes(len(found)) <= length < BOUNDARIES[len(found)]


def test_the_cut_into_parts_does_not_matter():
    """The prompt is the joined bytes."""
    parts: list[bytes | memoryview] = [TEXT[:100], memoryview(TEXT)[100:101], b"", TEXT[101:]]
    assert hash_prompt(parts, model="m") == hash_prompt([TEXT], model="m")


@pytest.mark.parametrize(
    ("size", "blocks"), [(0, 0), (63, 0), (64, 1), (15_000, 138), (400_000, 418), (16_000_000, 762)]
)
def test_the_number_of_blocks_grows_with_the_logarithm(size, blocks):
    """So that the digest of the largest body is a few kilobytes."""
    assert len(hash_prompt([bytes(size)], model="m")) == blocks


def test_a_changed_byte_changes_its_block_and_all_after():
    """Hashes are chained: equal ones mean equal prefixes."""
    whole = hash_prompt([TEXT], model="m")
    for at in (0, 63, 64, 5000, prefix_bytes(len(whole)) - 1):
        other = hash_prompt([TEXT[:at] + bytes([TEXT[at] ^ 1]) + TEXT[at + 1 :]], model="m")
        same = next(index for index, end in enumerate(BOUNDARIES) if at < end)
        assert other[:same] == whole[:same]
        assert not set(other[same:]) & set(whole[same:])


def test_model_and_salt_have_caches_of_their_own():
    """The same prompt shares nothing across adapters or salts."""
    variants = [("m", ""), ("n", ""), ("m", "s"), ("ms", "")]
    found = [hash_prompt([TEXT], model=model, cache_salt=salt) for model, salt in variants]
    assert len(set().union(*map(set, found))) == sum(map(len, found))


def test_the_hashes_of_scheme_1_stay_what_they_are():
    """Two versions run side by side during a rollout: changed hashes need a new scheme."""
    assert SCHEME == 1
    assert hash_prompt([b"a" * 128], model="m", cache_salt="s") == (2731930970679813330, 4785080475051517283)


def test_a_digest_survives_its_encoding():
    """All of it, up to the largest hashes, in plain ASCII."""
    before = Digest("m/é", stream=True, prompt_bytes=10**9, max_tokens=5, blocks=(0, 1, 2**64 - 1))
    assert encode(before).isascii()
    assert decode(encode(before)) == before
    assert decode(encode(Digest(""))) == Digest("")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "é",
        "\ud800",
        "not base64!",
        "AAAA",
        wire(SCHEME, "m", True, 0, 0),
        wire(SCHEME, "m", True, 0, 0, b"1234567"),
        wire(SCHEME, "m", True, -1, 0, b""),
        wire(SCHEME, 7, True, 0, 0, b""),
        base64.b64encode(b"\x96\x01\xa1\xff\xc3\x00\x00\xc4\x00").decode(),
        base64.b64encode(b"\x91" * 5000).decode(),
    ],
)
def test_what_is_no_digest_is_refused(text):
    """Whoever wrote it, with one kind of error."""
    with pytest.raises(DigestError):
        decode(text)


def test_every_truncation_of_a_digest_is_refused():
    """A cut digest is never taken for a shorter prompt."""
    text = encode(Digest("m", blocks=(1, 2, 3)))
    for cut in range(len(text)):
        with pytest.raises(DigestError):
            decode(text[:cut])


def test_another_scheme_is_refused_by_its_number():
    """Its hashes mean something else."""
    with pytest.raises(DigestError, match="digest scheme 2, expected 1"):
        decode(wire(2, "m", False, 0, 0, b""))


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2)])
def test_tokens_are_estimated_from_bytes(size, tokens):
    """Rounded up: a prompt that is there costs something."""
    assert Digest("m", prompt_bytes=size).prompt_tokens == tokens


def test_a_body_becomes_a_digest_for_the_model_it_goes_to():
    """Not for the one that was asked for: a rewritten request finds what its target has cached."""
    found = digest(chat(3, stream=True, max_tokens=9))
    assert (found.model, found.stream, found.max_tokens) == ("m", True, 9)
    assert found.prompt_bytes > 0
    assert found.blocks == digest(chat(3, model="alias"), "m").blocks
    assert not set(found.blocks) & set(digest(chat(3), "n").blocks)


def test_the_turns_of_a_conversation_extend_its_digest():
    """Fields that are not the prompt may change from turn to turn."""
    turns = [digest(chat(n, temperature=n, user=str(n))).blocks for n in range(1, 9)]
    assert all(later[: len(earlier)] == earlier for earlier, later in itertools.pairwise(turns))
    assert len(turns[-1]) > len(turns[0]) > 0


@pytest.mark.parametrize("changed", [{"tools": [{"name": "f" * 99}]}, {"cache_salt": "s"}])
def test_what_stands_before_the_messages_changes_every_block(changed):
    """Tools come first in the template, and a salt separates caches."""
    assert not set(digest(chat(3)).blocks) & set(digest(chat(3, **changed)).blocks)


def test_a_request_without_a_prompt_has_no_blocks():
    """A stored prompt is not seen here."""
    body = b'{"model":"m","previous_response_id":"r"}'
    assert digest_of(peek(body, Dialect.RESPONSES), "m") == Digest("m")


def image(size: int) -> list[dict[str, object]]:
    url = "data:image/png;base64," + base64.b64encode(random.Random(size).randbytes(size)).decode()
    return [{"type": "text", "text": "what is this? " * 20}, {"type": "image_url", "image_url": {"url": url}}]


def test_an_image_is_hashed_by_its_bytes_and_counts_as_an_image():
    """A megabyte of base64 is no quarter of a million tokens; another image is another prompt."""
    small, large = (
        digest(chat(1, messages=[{"role": "user", "content": image(n)}])) for n in (9_000, 90_000)
    )

    assert small.blocks[:4] == large.blocks[:4], "the question in front of it is the same"
    assert small.blocks[10] != large.blocks[10]
    assert 1_000 < small.prompt_tokens == large.prompt_tokens < 1_200
    assert large.prefix_tokens(len(large.blocks)) <= large.prompt_tokens
    assert decode(encode(large)) == large


def test_two_images_count_twice_and_text_about_base64_does_not():
    """Only what looks like a data URL is media."""
    two = digest(chat(1, messages=[{"role": "user", "content": image(9_000) + image(20_000)}]))

    assert 2_000 < two.prompt_tokens < 2_400
    assert digest(chat(1, messages=[{"role": "user", "content": "base64, you know"}])).tokens == 0


def test_a_digest_of_a_writer_that_knows_no_images_is_read():
    """Two versions run side by side during a rollout."""
    assert decode(wire(SCHEME, "m", False, 40, 0, b"")).prompt_tokens == 10
