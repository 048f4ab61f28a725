"""What exact prefixes cost: tokens of a prompt, events of a server, memory of the index, and the lookup of a pick.

    python -m bench.kv_events [--tokenizer tokenizer.json]

Times are of the processor, so that a busy machine does not change them. Without a `tokenizer.json` one of 32,000 tokens
is trained on Python's own sources first, which takes some seconds.
"""

from __future__ import annotations

import random
import statistics
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from services.epp.kvevents.index import ExactIndex
from services.epp.kvevents.wire import decode
from services.openai.digest import hash_prompt
from services.openai.exact import decode as decode_exact
from services.openai.exact import encode as encode_exact
from services.openai.exact import exact_of

BLOCK = 16
PAGE = 4096


@click.command()
@click.option("--tokenizer", "path", type=click.Path(exists=True, dir_okay=False), help="A tokenizer.json.")
def main(path: str | None) -> None:
    """Measure and print a table."""
    corpus = _corpus(2_000_000)
    vocabulary = Tokenizer.from_file(path) if path else _trained(corpus)
    print(f"{'':44} CPU time, median")
    for size in (2_000, 20_000, 200_000):
        _prompt(vocabulary, corpus[-size:], size)
    _event(2_048)
    _memory(500_000)


def _prompt(vocabulary: Tokenizer, text: str, size: int) -> None:
    ids = vocabulary.encode(text).ids
    name = f"{size // 1000} KB, {len(ids)} tokens"
    _row(f"{name}: tokenize", lambda: vocabulary.encode_batch_fast([text])[0].ids)
    _row(f"{name}: loop held meanwhile", lambda: vocabulary.encode_batch_fast([text])[0].ids, _held)
    _row(f"{name}: loop held by `encode`", lambda: vocabulary.encode(text).ids, _held)
    exact = exact_of(ids, block_size=BLOCK, prompt_bytes=size)
    _row(f"{name}: hash", lambda: exact_of(ids, block_size=BLOCK, prompt_bytes=size))
    written = encode_exact(exact)
    _row(f"{name}: read from metadata ({len(written)} B)", lambda: decode_exact(written))
    index = ExactIndex()
    sent = dict.fromkeys(range(16), len(hash_prompt([text.encode()], model="m")))
    for slot in range(16):
        index.begin(slot, whole=True)
        for event in decode(_stored(ids[: len(ids) // BLOCK * BLOCK])).events:
            index.apply(slot, event)
    _row(f"{name}: look up, 16 holders", lambda: index.correct(sent, exact, 0.0))


def _event(tokens: int) -> None:
    payload, index = _stored(list(range(tokens))), ExactIndex()

    def apply() -> None:
        index.begin(0, whole=True)
        for event in decode(payload).events:
            index.apply(0, event)

    _row(f"a message of {tokens} tokens ({len(payload)} B)", apply)


def _memory(blocks: int) -> None:
    before, index, rng = _resident(), ExactIndex(blocks), random.Random(1)
    for slot in range(4):
        index.begin(slot, whole=True)
        for _ in range(blocks // 4 // 64):
            for event in decode(_stored([rng.randrange(32_000) for _ in range(64 * BLOCK)], rng)).events:
                index.apply(slot, event)
    print(f"{f'memory of {len(index)} blocks':44} {(_resident() - before) * 2**20 / len(index):.0f} B each")


def _row(
    name: str, work: Callable[[], object], measure: Callable[[Callable[[], object]], float] | None = None
) -> None:
    took = [(measure or _took)(work) for _ in range(15)]
    print(f"{name:44} {statistics.median(took) * 1e6:9.0f} us", flush=True)


def _took(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _held(work: Callable[[], object]) -> float:
    """Return the longest time in which this thread did not get the interpreter while another one works."""
    thread, longest, last = threading.Thread(target=work), 0.0, time.process_time()
    thread.start()
    while thread.is_alive():
        time.sleep(0.0005)
        now = time.process_time()
        longest, last = max(longest, now - last), now
    return longest


def _stored(ids: list[int], rng: random.Random | None = None) -> bytes:
    count = len(ids) // BLOCK
    hashes = [(rng or random.Random(1)).randbytes(32) for _ in range(count)]
    event = ["BlockStored", hashes, None, ids, BLOCK, None, "GPU", None]
    return msgspec.msgpack.encode([time.time(), [event], 0])


def _corpus(size: int) -> str:
    library = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    return "\n".join(path.read_text(errors="replace") for path in library)[:size]


def _trained(corpus: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=32_000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus.splitlines(), trainer)
    return tokenizer


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


if __name__ == "__main__":
    main()
