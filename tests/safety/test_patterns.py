from __future__ import annotations

import pytest
import re2

from services.safety.checks.patterns import PatternError, emit, longest, parse, prefix

PATTERNS = [
    "AKIA[A-Z0-9]{4}",
    r"\bfoo\b",
    "a(?:bcd|b)",
    "x(?:ab){2,3}y?",
    r"-\b(?:k|kk)+=",
    "[^a]*?b",
    "(?:a|bc|)d",
    r"\d{3}[- ]\d\d",
]
TEXTS = ["xxAKIAAB12z", "a foo b", "abcdab", "xababyxababab", "-kkk=k", "ccbcb", "dbcdad", "12 123-45 6"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_prefix_of_every_match_is_a_live_tail(pattern):
    """What may be the beginning of a match is never taken for settled."""
    tail = re2.compile(f"(?:{prefix(parse(pattern))})\\z")
    for text in TEXTS:
        for start in range(len(text)):
            for match in [re2.compile(pattern).match(text, start)]:
                for end in range(start, match.end() if match else start):
                    assert tail.search(text[:end]).start() <= start


@pytest.mark.parametrize("pattern", PATTERNS)
def test_reading_and_writing_a_pattern_keeps_its_meaning(pattern):
    """The tree is the pattern."""
    for text in TEXTS:
        spans = [match.span() for match in re2.compile(emit(parse(pattern))).finditer(text)]
        assert spans == [match.span() for match in re2.compile(pattern).finditer(text)]


@pytest.mark.parametrize(
    ("text", "held"),
    [("hello ", ""), ("hello A", "A"), ("AKI", "AKI"), ("AKIX", ""), ("AKIA12", "AKIA12"), ("AKIA12 ", "")],
)
def test_only_a_live_beginning_is_held(text, held):
    """Clean text has no live tail."""
    tail = re2.compile(f"(?:{prefix(parse('AKIA[A-Z0-9]{4}'))})\\z")
    assert text[tail.search(text).start() :] == held


@pytest.mark.parametrize(
    ("pattern", "length"),
    [
        ("abc", 3),
        (r"\ba?b{2,5}\b", 6),
        ("(?:ab|c){3}", 6),
        ("a+", None),
        ("(?:a*|b)c", None),
        ("[a-z]{3,}?", None),
    ],
)
def test_the_longest_match_is_known(pattern, length):
    """None where there is no longest."""
    assert longest(parse(pattern)) == length


@pytest.mark.parametrize(
    "pattern", ["(a)", "a$", "^a", r"(?=a)", r"\Ba", r"(?i)a", r"\pL", "a)", "(?:a", r"\b+"]
)
def test_what_a_stream_cannot_hold_exactly_is_refused(pattern):
    """Anchors, groups with memory, look-around and flags are outside the subset."""
    with pytest.raises(PatternError):
        parse(pattern)
