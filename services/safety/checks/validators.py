"""What a regular expression cannot say: checksums and impossible numbers. `VALIDATORS` is all a rule can name."""

from __future__ import annotations

import ipaddress
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Match:
    """What a pattern matched, with the character on either side; empty at the ends of the text."""

    text: str
    before: str
    after: str


Validator = Callable[[Match], bool]

_SSN_FIRST_INVALID = 900  # the Social Security Administration assigns no area number from 900 on
_CARD_LENGTHS = range(12, 20)  # ISO/IEC 7812: 12 digits (Maestro), 13 (old Visa) to 19
_PHONE_DIGITS = range(7, 16)  # ITU-T E.164: at most 15 digits
_NATIONAL_DIGITS = range(9, 12)  # with the leading 0; a date has eight
_AREA_DIGITS = range(8, 12)  # with the area code in brackets
_IBAN_MODULUS = 97
_RANDOM_BITS = 3.0  # bits per character; English words and repeated digits lie below, random keys above


def luhn(match: Match) -> bool:
    """Whether it is a payment card number: length, Luhn checksum (ISO/IEC 7812-1), not one digit repeated."""
    digits = [int(char) for char in match.text if char.isdigit()]
    if not _alone(match) or len(digits) not in _CARD_LENGTHS or len(set(digits)) == 1:
        return False
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban(match: Match) -> bool:
    """Whether the check digits hold: ISO 13616, mod 97 is 1."""
    compact = match.text.replace(" ", "").upper()
    length = _IBAN_LENGTHS.get(compact[:2])
    if length is None or len(compact) < length:
        return False
    number = (
        compact[4:length] + compact[:4]
    )  # what follows may be a word in capitals: the country fixes the length
    return int("".join(str(int(char, 36)) for char in number)) % _IBAN_MODULUS == 1


def ssn(match: Match) -> bool:
    """Whether the number can have been issued: no area 000, 666 or 9xx, no group 00, no serial 0000."""
    digits = "".join(char for char in match.text if char.isdigit())
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    issued = area not in {"000", "666"} and int(area) < _SSN_FIRST_INVALID
    return _alone(match) and issued and group != "00" and serial != "0000"


def phone(match: Match) -> bool:
    """Whether it has as many digits as a telephone number and is not part of a longer number."""
    return _alone(match) and sum(char.isdigit() for char in match.text) in _PHONE_DIGITS


def national_phone(match: Match) -> bool:
    """Whether it has as many digits as a number within a country, and stands alone."""
    digits = sum(char.isdigit() for char in match.text)
    return _alone(match) and digits in (_AREA_DIGITS if match.text.startswith("(") else _NATIONAL_DIGITS)


def ipv4(match: Match) -> bool:
    """Whether it is an IPv4 address and not a longer dotted number."""
    return _alone(match) and match.before != "." and _is_address(match.text)


def ipv6(match: Match) -> bool:
    """Whether it is an IPv6 address."""
    return match.before != ":" and _is_address(match.text)


def random(match: Match) -> bool:
    """Whether the text is as mixed as a random key: Shannon entropy of its characters over 3 bits."""
    counts, total = Counter(match.text), len(match.text)
    return -sum(n / total * math.log2(n / total) for n in counts.values()) >= _RANDOM_BITS


def hidden_tags(match: Match) -> bool:
    """Whether tag characters are text: no flag of a part of a country stands before them (UTS #51, RGI sequences)."""
    if "\U000e0000" <= match.before <= "\U000e007f":  # the run has been looked at from its beginning
        return False
    region = "".join(chr(ord(char) & 0x7F) for char in match.text)
    return not (match.before == _BLACK_FLAG and region in _FLAGS)


def needless(match: Match) -> bool:
    """Whether no writing needs it: several in a row, or inside a word of Latin letters and digits."""
    inside = all(char.isascii() and char.isalnum() for char in (match.before, match.after))
    return len(match.text) >= _MANY or (inside and bool(match.before and match.after))


_BLACK_FLAG = "\U0001f3f4"
_FLAGS = frozenset({"gbeng\x7f", "gbsct\x7f", "gbwls\x7f"})
_MANY = 4  # no script joins or separates with more


VALIDATORS: Mapping[str, Validator] = {
    "luhn": luhn,
    "iban": iban,
    "ssn": ssn,
    "national_phone": national_phone,
    "phone": phone,
    "ipv4": ipv4,
    "ipv6": ipv6,
    "random": random,
    "hidden_tags": hidden_tags,
    "needless": needless,
}

_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


def _alone(match: Match) -> bool:
    """Whether no digit touches the match: a piece of a longer number is another number."""
    return not match.before.isdigit() and not match.after.isdigit()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
