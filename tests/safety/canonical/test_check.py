from __future__ import annotations

import random

import pytest

from services.safety.canonical.check import Canonical
from services.safety.checks.base import Windowed
from services.safety.checks.rules import blocklist, built_in
from services.safety.checks.ruleset import RuleSet
from services.safety.verdict import Finding
from tests.safety import tricks
from tests.safety.kit import SECRET

FOLLOWED = {**tricks.SINGLE, **tricks.ESCAPED}
EVERY = {**FOLLOWED, **tricks.WRAPPED, **tricks.CIPHERS}
KEYS = Canonical(RuleSet([rule for rule in built_in() if rule.category == "secret"]))
ALL = Canonical(RuleSet([*built_in(), blocklist("names", ["project bluebird", "überfluss", "кит"])]))


def followed(check, parts):
    scanner, found, settled = check.scanner(), [], 0
    for part, final in [*((part, False) for part in parts), ("", True)]:
        scan = scanner.feed(part, final=final)
        assert settled <= scan.settled
        assert all(settled <= finding.start for finding in scan.findings)
        settled = scan.settled
        found += scan.findings
    return sorted(found, key=repr)


@pytest.mark.parametrize("trick", EVERY)
def test_a_whole_text_hides_nothing(trick):
    """Each way of writing it is found once, in a text that has others."""
    text = f"key {EVERY[trick](SECRET)} or {SECRET}."
    found = KEYS.scan(text)
    assert [finding.rule for finding in found] == ["aws-access-key", "aws-access-key"]
    assert text[found[1].start : found[1].end] == SECRET


@pytest.mark.parametrize("trick", FOLLOWED)
def test_a_stream_follows_single_characters_at_every_cut(trick):
    """The same findings wherever it is cut, and none is settled past before it is told."""
    text = f"né AKIA {FOLLOWED[trick](SECRET)} und {SECRET}."
    expected = sorted(KEYS.scan(text), key=repr)
    for cut in range(len(text) + 1):
        assert followed(KEYS, [text[:cut], text[cut:]]) == expected
    assert followed(KEYS, text) == expected


@pytest.mark.parametrize("trick", EVERY)
def test_what_a_stream_does_not_show_is_known(trick):
    """The rest of what the whole text shows: a window is searched for it."""
    text = f"né {EVERY[trick](SECRET)} und {SECRET}."
    shown, hidden = followed(KEYS, text), KEYS.hidden(text)
    assert len(hidden) == (trick not in FOLLOWED)
    assert sorted([*shown, *hidden], key=repr) == sorted(KEYS.scan(text), key=repr)


@pytest.mark.parametrize("trick", tricks.LEET)
def test_words_are_read_through_leetspeak(trick):
    """Digits and signs for letters, 1 for i or for l."""
    text = f"of {tricks.LEET[trick]('project bluebird')}, ok"
    assert [text[found.start : found.end][-4:] for found in ALL.scan(text)] == [
        tricks.LEET[trick]("bluebird")[-4:]
    ]


def test_slashes_are_read_as_json_may_write_them():
    """In tool arguments, where the client's parser undoes it."""
    text = r"postgres:\/\/app:s3cr3t-pw@db.internal\/x"
    assert [found.rule for found in KEYS.scan(text)] == ["password-in-url"]
    for cut in range(len(text)):
        assert [found.rule for found in followed(KEYS, [text[:cut], text[cut:]])] == ["password-in-url"]


def test_random_streams_find_what_the_folded_text_holds():
    """Everything at once, cut at random: the stream's findings are those of the whole text."""
    rng = random.Random(11)
    samples = [
        "4111 1111 1111 1111",
        SECRET,
        "jane@example.org",
        "project bluebird",
        "überfluss",
        "кит",
        "ﬁ ½",
        "né ",
    ]
    for _ in range(60):
        parts = []
        for _ in range(8):
            sample, trick = (
                rng.choice(samples),
                tricks.SINGLE[rng.choice(["zero-width", "Cyrillic homoglyphs", "bidi controls"])],
            )
            parts.append(trick(sample) + rng.choice([" ", "\u200b ", ", ", "1"]))
        text = "".join(parts)
        pieces, at = [], 0
        while at < len(text):
            step = rng.randint(1, 9)
            pieces.append(text[at : at + step])
            at += step
        assert followed(ALL, pieces) == sorted(ALL.scan(text), key=repr)


def test_words_of_other_scripts_are_found_as_they_are():
    """The original is a view too: folding takes nothing from a list in Russian or with umlauts."""
    assert [finding.rule for finding in ALL.scan("кит überfluss PROJECT\u00a0BLUEBIRD")] == ["names"] * 3


def test_clean_text_is_settled_at_once():
    """Accents, quotes and dashes hold nothing back."""
    scanner = KEYS.scanner()
    pieces = ["Déjà ", "vu — ", "“so”, ", "sagt "]
    assert [scanner.feed(piece).settled for piece in pieces] == [5, 10, 16, 21]


class Shouting:
    """Another package's check, whose scanner cannot fork."""

    max_length = 5

    def scan(self, text):
        return [
            Finding("shout", at, at + 5, "tone") for at in range(len(text)) if text.startswith("HELLO", at)
        ]

    def scanner(self):
        return Windowed(self, self.max_length)


def test_another_packages_check_sees_views_too():
    """Whole texts in every view; in a stream, what its own scanner sees."""
    check = Canonical(Shouting())
    wide = tricks.SINGLE["full-width"]("HELLO")
    assert [(found.start, found.end) for found in check.scan(f"o {wide}")] == [(2, 7)]
    assert followed(check, ["o HE", "LLO ä"]) == [Finding("shout", 2, 7, "tone")]
    assert check.max_length == 5
