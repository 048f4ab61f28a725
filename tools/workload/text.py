"""Pseudo-text by the token: the same key gives the same text on every machine.

A word is three letters and a space, so that a token is four bytes however a server counts: by words or by bytes.
"""

from __future__ import annotations

import random

TOKEN_BYTES = 4

_FIRST, _VOWELS, _LAST = "bdfgklmn", "aeio", "klmnprst"
_WORDS = tuple(f"{a}{b}{c} " for a in _FIRST for b in _VOWELS for c in _LAST)  # 256: one per byte value


def pseudo_text(key: str, tokens: int) -> str:
    """Return `tokens` words chosen by `key`; a longer text of the same key begins with the shorter one."""
    # The generator makes 32 bits at a time, lowest first: whole multiples of four bytes begin alike.
    drawn = random.Random(key).randbytes(-(-tokens // 4) * 4)
    return "".join(map(_WORDS.__getitem__, drawn[:tokens]))
