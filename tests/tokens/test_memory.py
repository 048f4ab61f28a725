from __future__ import annotations

from services.openai.digest import Digest, hash_prompt
from services.openai.exact import Exact, exact_of
from services.tokens.memory import Memory

SIZE = 4


def words(count: int, seed: int) -> bytes:
    return b"".join(b"%04d " % ((seed * 7919 + i) % 10_000) for i in range(count))


def digested(text: bytes) -> Digest:
    return Digest("m", prompt_bytes=len(text), blocks=hash_prompt([text], model="m"))


def tokens(text: bytes) -> Exact:
    """Every word is a token."""
    return exact_of([int(word) for word in text.split()], block_size=SIZE, prompt_bytes=len(text))


def learn(memory: Memory, *texts: bytes) -> None:
    for text in texts:
        memory.learn(digested(text), [text], tokens(text))


def find(memory: Memory, text: bytes) -> Exact | None:
    return memory.find(digested(text), [text])


SYSTEM = words(100, 1)


def test_the_next_turn_begins_with_the_last_one():
    """All of a prompt is known for whatever goes on from it, however its parts lie in memory."""
    memory, first = Memory(), SYSTEM + words(30, 2)
    learn(memory, first)
    longer = first + words(40, 3)
    assert find(memory, longer) == tokens(first)
    assert memory.find(digested(longer), [longer[:700], memoryview(longer)[700:]]) == tokens(first)
    assert find(memory, first) == tokens(first)


def test_a_prompt_that_differs_in_the_last_incomplete_block_is_not_taken_for_the_same():
    """The bytes after the last complete block count too."""
    memory, first = Memory(), SYSTEM + b"0001 "
    learn(memory, first)
    assert find(memory, SYSTEM + b"0002 " + words(40, 3)) is None


def test_what_two_prompts_share_is_known_for_a_third():
    """A system prompt is known once two of its conversations are."""
    memory = Memory()
    learn(memory, SYSTEM + words(50, 2))
    assert find(memory, SYSTEM + words(50, 4)) is None
    learn(memory, SYSTEM + words(50, 3))
    known = find(memory, SYSTEM + words(50, 4))
    assert known is not None
    whole = tokens(SYSTEM + words(50, 4))
    assert known.hashes == whole.hashes[: len(known.hashes)]
    assert known.tokens == 100
    assert known.prompt_bytes <= len(SYSTEM)


def test_a_template_that_begins_anew_with_every_turn_is_found_out():
    """Then the last turn's tokens say nothing about the next one's."""
    memory, turn = Memory(), SYSTEM
    learn(memory, turn)
    for seed in (2, 3):
        turn += words(30, seed)
        changed = exact_of(
            [seed, *(int(word) for word in turn.split())], block_size=SIZE, prompt_bytes=len(turn)
        )
        memory.learn(digested(turn), [turn], changed)
    known = find(memory, turn + words(30, 9))
    assert known is None or known.hashes == ()


def test_the_oldest_prompts_give_way():
    """What is kept is bounded, and what is forgotten leaves nothing behind."""
    memory = Memory(hashes=200)
    texts = [words(100, seed) for seed in range(1, 20)]
    learn(memory, *texts)
    assert 1 < len(memory) <= 200 // (7 + 24)
    assert find(memory, texts[0] + b"more") is None
    assert find(memory, texts[-1] + b"more") == tokens(texts[-1])
    assert len(memory._through) <= 200
    assert len(memory._shared) <= 200


def test_short_prompts_are_not_kept():
    """Without a complete block there is nothing to find them by."""
    memory = Memory()
    learn(memory, b"0001 0002")
    assert len(memory) == 0
