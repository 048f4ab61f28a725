"""Letters of other scripts that look like ASCII ones. Facts from Unicode's confusables.txt (UTS #39).

Only what compatibility normalisation leaves: full-width, mathematical, circled and superscript letters it folds itself.
Digits stay digits: to fold 0 to O, as Unicode's own table does, would take numbers from the rules that look for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# ASCII character → code points that look like it: Latin extensions, Greek, Cyrillic, Armenian, Cherokee, Lisu, signs.
_LOOKALIKES = {
    "A": "0391 0410 13AA A4EE 1D00 023A", "B": "0392 0412 13F4 A4D0 0299 0243 0181",
    "C": "03F9 0421 13DF A4DA 1D04 0187", "D": "13A0 A4D3 1D05 0110 0189 018A",
    "E": "0395 0415 13AC A4F0 1D07 0246", "F": "03DC A4DD 0191 A730", "G": "050C 13C0 A4D6 0262 0193 01E4",
    "H": "0397 041D 13BB A4E7 029C 0126", "I": "0399 0406 04C0 A4F2 026A 0197", "J": "037F 0408 13AB A4D9 1D0A 0248",
    "K": "039A 041A 13E6 A4D7 1D0B 0198", "L": "13DE A4E1 029F 0141 023D", "M": "039C 041C 13B7 A4DF 1D0D 03FA",
    "N": "039D A4E0 0274 019D", "O": "039F 041E 0555 A4F3 1D0F 00D8 019F", "P": "03A1 0420 13E2 A4D1 1D18 01A4",
    "Q": "051A", "R": "13A1 A4E3 0280 024C", "S": "0405 054F 13DA A4E2 A731", "T": "03A4 0422 13A2 A4D4 1D1B 0166 01AC",
    "U": "054D A4F4 1D1C 0244", "V": "0474 13D9 A4E6 1D20 01B2", "W": "051C 13B3 A4EA 1D21", "X": "03A7 0425 A4EB",
    "Y": "03A5 04AE 13A9 A4EC 028F 01B3 024E", "Z": "0396 13C3 A4DC 1D22 01B5",
    "a": "0251 03B1 0430", "b": "0184 042C 0180 0253", "c": "03F2 0441 0188 2184", "d": "0501 0257 0111",
    "e": "0435 04BD 0247", "f": "0192 0584 A799", "g": "0261 0581 018D 01E5", "h": "04BB 0570 0127 0266",
    "i": "0131 0269 03B9 0456 04CF 0268", "j": "03F3 0458 0249", "k": "03BA 043A 0199", "l": "0142 019A 026B 01C0",
    "m": "043C 0271 217F", "n": "0578 057C 0272 014B", "o": "03BF 043E 0585 0254 00F8 0275 101D", "p": "03C1 0440 01A5",
    "q": "051B 0563 0566", "r": "0433 024D 027C", "s": "0455 A731 0282 01BD", "t": "0442 0167 01AD 03C4",
    "u": "03C5 057D 028B 0289", "v": "03BD 0475 2228", "w": "051D 0561 026F 0461", "x": "0445 00D7 157D",
    "y": "0443 04AF 028F 01B4 024F 03B3", "z": "01B6 0225 1D22",
    "-": "2010 2011 2012 2013 2014 2015 2212 2043 02D7", "_": "02CD", ".": "3002 A4F8 2024 00B7 2027",
    "/": "2044 2215 2571 29F8", ":": "A789 0589 05C3 2236 FE55 02D0", "'": "2018 2019 201B 2032 02B9 02BC 055A",
    '"': "201C 201D 2033", "*": "2217 066D 204E", "~": "223C 02DC", "+": "16ED", "=": "30A0 A4FF",
    "<": "2039 276E", ">": "203A 276F", "|": "2223 FFE8", "!": "01C3",
}  # fmt: skip


def _table() -> dict[int, str]:
    return {int(point, 16): char for char, points in _LOOKALIKES.items() for point in points.split()}


CONFUSABLES: Mapping[int, str] = MappingProxyType(_table())
"""Code point → the ASCII character that it looks like."""
