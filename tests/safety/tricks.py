"""Ways to write a secret so that a model still reads it: what filters are bypassed with."""

from __future__ import annotations

import base64
import codecs
import urllib.parse
from collections.abc import Callable, Mapping

Trick = Callable[[str], str]

_CYRILLIC = str.maketrans(
    {"A": "\u0410", "E": "\u0415", "I": "\u0406", "K": "\u041a", "O": "\u041e", "S": "\u0405"}
)
_GREEK = str.maketrans(
    {"A": "\u0391", "E": "\u0395", "I": "\u0399", "K": "\u039a", "N": "\u039d", "O": "\u039f"}
)


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def selectors(text: str) -> str:
    """Hide bytes in variation selectors behind an emoji."""
    return "\U0001f600" + "".join(chr(0xFE00 + b) if b < 16 else chr(0xE0100 + b - 16) for b in text.encode())


SINGLE: Mapping[str, Trick] = {
    "full-width": lambda text: "".join(chr(ord(char) + 0xFEE0) for char in text),
    "zero-width": "\u200b".join,
    "zero-width joiners": "\u200d\u2060".join,
    "soft hyphens": "\u00ad".join,
    "Cyrillic homoglyphs": lambda text: text.translate(_CYRILLIC),
    "Greek homoglyphs": lambda text: text.translate(_GREEK),
    "combining strokes": "\u0336".join,
    "diacritics": lambda text: text.replace("A", "\u00c4").replace("O", "O\u0301"),
    "bidi controls": lambda text: "\u202e" + "\u2066".join(text) + "\u202c",
    "tags between": "\U000e0061".join,
    "one selector each": "\ufe0f".join,
    "mathematical letters": lambda text: "".join(
        chr(0x1D400 + ord(char) - 65) if char.isalpha() else chr(0x1D7CE + int(char)) for char in text
    ),
}
"""Of single characters: what a stream is followed through, at any cut."""

ESCAPED: Mapping[str, Trick] = {
    "URL-encoding": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    r"\u escapes": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    r"\x escapes": lambda text: "".join(f"\\x{ord(char):02x}" for char in text),
    "entities": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "half escaped": lambda text: text[:5] + "".join(f"\\u00{ord(char):02X}" for char in text[5:]),
    "\\u{} escapes": lambda text: "".join(f"\\u{{{ord(char):x}}}" for char in text),
    "homoglyphs in URL-encoding": lambda text: urllib.parse.quote(text.translate(_CYRILLIC)),
}
"""Character by character: a stream is followed through these too."""

WRAPPED: Mapping[str, Trick] = {
    "tag characters": lambda text: "".join(chr(0xE0000 + ord(char)) for char in text),
    "variation selectors": selectors,
    "base64": base64_of,
    "base64 without padding": lambda text: base64_of(text).rstrip("="),
    "base64 behind a letter": lambda text: "x" + base64_of(f"the key is {text}"),
    "base64 in a path": lambda text: f"https://a.example/p/{base64_of(f'key {text}')}/b",
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(f"\u00bf?{text}".encode()).decode(),
    "base64 in lines": lambda text: base64.encodebytes(
        f"{'lorem ipsum ' * 9}{text}{' dolor' * 20}".encode()
    ).decode(),
    "base64 twice": lambda text: base64_of(base64_of(text)),
    "hex": lambda text: text.encode().hex(),
    "hex with spaces": lambda text: text.encode().hex(" "),
    "hex with 0x": lambda text: ", ".join(f"0x{byte:02X}" for byte in text.encode()),
    "hex behind a letter": lambda text: "z" + text.encode().hex(),
    "URL-encoding twice": lambda text: "".join(f"%25{byte:02X}" for byte in text.encode()),
    "base64 in full-width": lambda text: "".join(
        chr(ord(char) + 0xFEE0) for char in base64_of(text).rstrip("=")
    ),
    "base64 in URL-encoding": lambda text: urllib.parse.quote(base64_of(f"{text}??>>")),
    "homoglyphs in hex": lambda text: text.translate(_CYRILLIC).encode().hex(),
}
"""Of runs: what is seen in whole texts and windows, not by the hold of a stream."""

CIPHERS: Mapping[str, Trick] = {
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "rot13 in full-width": lambda text: SINGLE["full-width"](codecs.encode(text, "rot13")),
}
"""Of letters: seen as `WRAPPED` is. Leetspeak is one for words; a key loses its digits by it."""

LEET: Mapping[str, Trick] = {
    "leetspeak": lambda text: text.translate(str.maketrans("aeiostb", "4310578")),
    "leetspeak, l": lambda text: text.translate(str.maketrans("aelostb", "@310$78")),
    "leetspeak, one letter": lambda text: text.replace("o", "0", 1),
}

UNSEEN: Mapping[str, Trick] = {
    "reversed": lambda text: text[::-1],
    "spelled out": " ".join,
}
"""What no view undoes: a language rather than an encoding. Only a judge that understands text sees it."""
