from __future__ import annotations

from services.safety.screen import Screen
from services.safety.verdict import Finding
from tests.safety import kit

CLEAN = "the harbour at dusk " * 100


class Counting:
    """A check that finds one word and counts what it reads."""

    max_length = 3

    def __init__(self):
        self.read = 0

    def scan(self, text):
        self.read += 1
        at = text.find("bad")
        return [] if at < 0 else [Finding("bad", at, at + 3, "bad")]

    def scanner(self):
        raise NotImplementedError


def test_a_clean_text_is_read_once():
    """A conversation that grows brings its old messages along."""
    check = Counting()
    screen = Screen((), (check,), key=b"k")
    assert [screen.is_clean(CLEAN) for _ in range(3)] == [True] * 3
    assert check.read == 1


def test_a_text_with_findings_is_read_each_time():
    """Only what is clean is remembered, and one more character is another text."""
    screen = Screen((), (Counting(),), key=b"k")
    assert screen.is_clean(CLEAN)
    assert [screen.is_clean(CLEAN + "bad") for _ in range(2)] == [False, False]


def test_what_is_remembered_is_bounded():
    """The text not seen for longest is forgotten."""
    check = Counting()
    screen = Screen((), (check,), key=b"", kept=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        screen.is_clean(CLEAN + text)
    assert check.read == 4


def test_a_side_with_other_checks_does_not_ask_the_screen():
    """Placeholders to give back, for one, are checks of one exchange."""
    side = kit.side()
    assert side.is_clean(CLEAN)
    assert side.screen.covers is side.checks
    assert not side.is_clean(CLEAN + kit.SECRET)
    assert not side.is_clean(CLEAN + " jane@example.org"), "what is only watched is found too"
