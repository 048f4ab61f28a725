"""The requests of the benchmark: chat completions of a given size, each with a text that nobody has seen before."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

MODEL = "llama-3.1-8b-instruct"
WORDS = tuple(
    re.findall(
        r"\w+",
        """the a of to and in that is was for with on as by at from this which have not are be were what when where who how
        please explain describe compare summarise list write review consider report customer product service order team
        market paper method result model server request answer question water light river mountain city garden winter""",
    )
)
TEXTS = 64  # distinct texts; a number in front makes every request's text new all the same


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts of about `size` bytes, answered at once or as a stream."""

    size: int
    stream: bool

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.size // 1000} KB {'stream' if self.stream else 'plain'}"

    def requests(self, seed: int = 1) -> Iterator[bytes]:
        """Return HTTP/1.1 requests without end. Equal seeds give equal requests."""
        rng = random.Random(seed)
        texts = [text(rng, self.size) for _ in range(TEXTS)]
        return (
            self._request(number, texts[number % TEXTS]) for number in itertools.count(seed * 1_000_000_000)
        )

    def _request(self, number: int, text: str) -> bytes:
        shape = f'"model":"{MODEL}","stream":{str(self.stream).lower()},"max_tokens":20'
        body = f'{{{shape},"messages":[{{"role":"user","content":"{number} {text}"}}]}}'.encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        return head + b"content-length: %d\r\n\r\n" % len(body) + body


def text(rng: random.Random, size: int) -> str:
    """Return random words, `size` bytes of them or a few more."""
    words: list[str] = []
    length = 0
    while length < size:
        words.append(rng.choice(WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)
