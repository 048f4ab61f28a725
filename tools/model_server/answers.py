"""What the model says: an echo that the prompt asks for, or words drawn by the hash of the prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from tools.model_server import tokens
from tools.model_server.prompts import instructed_answer

DEFAULT_MAX_TOKENS = 16
_WORDS = (
    "the and for sun sea fog oak elm fig bee owl fox cat dog hen cow ant eel cod ram map key jar cup pan "
    "box bag hat car bus van cab jet oar net ice tea rye oat pea nut jam pie egg red dun old new big wee "
    "shy sly wry apt hot icy dry wet raw ran sat ate saw met got led won cut put set let ask try fly dig hum"
)
"""Three letters and a space are four bytes: every word is exactly one token."""
_TAPE_WORDS = 8_192


@dataclass(frozen=True, slots=True)
class Answer:
    """What decode steps produce, and why they end."""

    text: str
    finish: str
    """`stop` or `length`."""
    stopped_by: str | None = None
    """The stop string that was found."""

    @property
    def tokens(self) -> int:
        """How many decode steps it takes."""
        return tokens.pieces(self.text)

    def piece(self, index: int) -> str:
        """Return what step `index` produces."""
        return tokens.piece(self.text, index)


class Speaker:
    """Deterministic answers of one server."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        words = random.Random(seed).choices(_WORDS.split(), k=_TAPE_WORDS)
        self._tape = " ".join([*words, ""])

    def answer(
        self,
        instruction: str,
        prompt: bytes,
        *,
        max_tokens: int | None,
        stop: Sequence[str] = (),
        variant: int = 0,
    ) -> Answer:
        """Return the answer to `prompt`, whose last user text is `instruction`. `variant` tells choices apart."""
        text = instructed_answer(instruction)
        seeded = text is None
        if text is None:
            text = self._words(prompt, max_tokens or DEFAULT_MAX_TOKENS, variant)
        hits = [(at, s) for s in stop if s and (at := text.find(s)) >= 0]
        at, stopped_by = min(hits, default=(len(text), None), key=lambda hit: hit[0])
        text = text[:at]
        if max_tokens is not None and tokens.pieces(text) > max_tokens:
            return Answer(text[: max_tokens * tokens.BYTES_PER_TOKEN], "length")
        if seeded and stopped_by is None and max_tokens is not None:
            return Answer(text, "length")  # the words would have gone on
        return Answer(text, "stop", stopped_by)

    def _words(self, prompt: bytes, count: int, variant: int) -> str:
        start = xxhash.xxh3_64_intdigest(prompt, seed=self._seed + variant) % _TAPE_WORDS
        width = tokens.BYTES_PER_TOKEN
        need = (start + count) * width
        tape = self._tape * -(-need // len(self._tape))
        return tape[start * width : need - 1]  # without the last space
