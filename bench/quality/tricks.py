"""The same attacks, written so that a model still reads them: what each way of writing costs in recall."""

from __future__ import annotations

import base64
import codecs
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from bench.quality.score import CHECKS, Share
from services.safety.checks.base import Check

_LOOKALIKES = str.maketrans("aceiopsxy", "\u0430\u0441\u0435\u0456\u043e\u0440\u0455\u0445\u0443")
_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_LEET = str.maketrans("aeiost", "431057")


def _selectors(text: str) -> str:
    codes = (0xFE00 + byte if byte < 16 else 0xE0100 + byte - 16 for byte in text.encode())
    return "\U0001f600" + "".join(map(chr, codes))


TRICKS: Mapping[str, Callable[[str], str]] = {
    "as it is": str,
    "full-width letters": lambda text: text.translate(_FULL_WIDTH),
    "Cyrillic look-alikes": lambda text: text.translate(_LOOKALIKES),
    "zero-width space after each letter": "\u200b".join,
    "combining stroke after each letter": "\u0336".join,
    "tag characters": lambda text: "".join(chr(0xE0000 + ord(char)) for char in text if " " <= char <= "~"),
    "variation selectors": _selectors,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 twice": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
    "hex": lambda text: text.encode().hex(),
    "URL-encoding": urllib.parse.quote,
    r"\u escapes": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "leetspeak": lambda text: text.translate(_LEET),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "spelled out": " ".join,
}
"""Name → the text so written. What the view does not undo needs a judge that understands text."""


class Trick(msgspec.Struct, frozen=True):
    """How many of the attacks that are found as they are, are found when so written."""

    trick: str
    viewed: Share
    """With the canonical view."""
    bare: Share
    """By the same rules without it."""


def tricks(attacks: Iterable[str], viewed: Check, bare: Check) -> list[Trick]:
    """Write the attacks that `viewed` finds in every way and look again."""
    found = [text for text in attacks if _finds(viewed, text)]
    return [
        Trick(name, _share(viewed, texts), _share(bare, texts))
        for name, write in TRICKS.items()
        for texts in [[write(text) for text in found]]
    ]


def _share(check: Check, texts: Sequence[str]) -> Share:
    return Share.of(sum(_finds(check, text) for text in texts), len(texts))


def _finds(check: Check, text: str) -> bool:
    return any(finding.category in CHECKS["injection"] for finding in check.scan(text))
