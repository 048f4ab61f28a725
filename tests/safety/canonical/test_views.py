# ruff: noqa: RUF001 - look-alikes are what it is about
from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.safety.canonical.characters import fold, fold_character
from services.safety.canonical.encodings import is_wrapped
from services.safety.canonical.view import folded
from services.safety.canonical.views import DEPTH, readings, views
from tests.safety import tricks
from tests.safety.kit import SECRET

EVERY = {**tricks.SINGLE, **tricks.ESCAPED, **tricks.WRAPPED, **tricks.CIPHERS}


@pytest.mark.parametrize("trick", EVERY)
def test_a_view_says_what_was_meant_and_where(trick):
    """One of the views holds the secret, and its origin is a span of the original that says nothing else."""
    text = f"the caf\u00e9: {EVERY[trick](SECRET)} ok"
    found = next(view for view in readings(text) if SECRET in view.text)
    at = found.text.index(SECRET)
    start, end = found.origin(at, at + len(SECRET))
    assert 0 <= text.index(":") < start < end <= len(text) - 3
    rest = text[:start] + "\0" + text[end:]
    assert not any(SECRET[:4] in view.text or SECRET[-4:] in view.text for view in readings(rest))


@pytest.mark.parametrize("trick", tricks.UNSEEN)
def test_what_no_view_undoes_is_known(trick):
    """The limit is written down: if one day a view undoes it, this line goes."""
    assert not any(SECRET in view.text for view in readings(f"key: {tricks.UNSEEN[trick](SECRET)} ok"))


@pytest.mark.parametrize(
    "text",
    [
        "Plain words, (numbers) 4111 1111 1111 1111 and https://example.com/a-long-path/with_names?q=1.",
        "internationalization counterrevolutionaries state-of-the-art-and-beyond snake_case_identifier_of_mine",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b and 550e8400-e29b-41d4-a716-446655440000",
        "100% of it, C:\\users\\xavier \\n \\t \\d+",
    ],
)
def test_plain_text_has_no_views(text):
    """Names, hashes, paths and long words are not taken for encodings."""
    assert not is_wrapped(text)
    assert list(views(text)) == []


def test_text_of_other_scripts_is_left_alone():
    """Chinese, Korean, Japanese and Hindi read the same folded: marks that spell are kept."""
    text = "日本語のがぎぐ 한국어 中文 हिन्दी ไทย"
    assert fold(text) == text
    assert list(views(text)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ﬁle", "file"),
        ("½ ㎏", "1⁄2 kg".replace("⁄", "/")),
        ("naïve Ångström", "naive Angstrom"),
        ("раураl", "paypal"),
        ("a\u200b\u00adb\ufeffc\U000e0041", "abc"),
        ("“x”—y", '"x"-y'),
        ("٤١١١ ४", "4111 4"),
        ("ａ\u0301", "a"),
        ("\ud83d half", "\ud83d half"),
    ],
)  # fmt: skip
def test_characters_fold_to_what_they_look_like(text, expected):
    """Compatibility forms, look-alikes, marks and invisible ones; half a surrogate pair stays."""
    assert fold(text) == expected


@given(st.text(st.characters() | st.sampled_from("’éа…\u200bＡİ½󠁁a"), max_size=60))
def test_a_text_is_folded_as_its_characters_are(text):
    """However many different ones there are, and whatever one becomes that another would change."""
    assert fold(text) == "".join(char if char.isascii() else fold_character(char) for char in text)


@given(st.text(st.characters(), max_size=40))
def test_every_folded_character_knows_its_own(text):
    """Each character of a folded text comes of one character that folds to text which holds it."""
    view = folded(text)
    assert view.text == fold(text)
    ends = [0]
    for at, char in enumerate(view.text):
        start, end = view.origin(at, at + 1)
        assert end == start + 1
        assert char in fold(text[start:end])
        assert ends[-1] <= end
        ends.append(end)


@given(st.text(alphabet="aA0=/-_%\\ux{4}1b2 &#;é\u200bＡ", max_size=80))
def test_any_text_has_its_views(text):
    """Nothing raises, and every origin lies in the text and never goes back."""
    for view in views(text):
        spans = [view.origin(at, at + 1) for at in range(len(view.text))]
        assert all(0 <= start < end <= len(text) for start, end in spans)
        assert spans == sorted(spans)


def test_depth_is_bounded():
    """What is wrapped deeper than the bound stays wrapped: the work is a multiple of the text."""
    text = SECRET
    for _ in range(DEPTH):
        text = tricks.base64_of(text)
    assert any(SECRET in view.text for view in views(text))
    assert not any(SECRET in view.text for view in views(tricks.base64_of(text)))


def test_random_bytes_say_nothing():
    """Keys and pictures in base64 are seen and left: no view is made of noise."""
    rng = random.Random(3)
    texts = [tricks.base64_of("".join(chr(rng.randrange(160, 256)) for _ in range(60))) for _ in range(50)]
    assert not any(SECRET in view.text for text in texts for view in views(text))
    assert is_wrapped(tricks.base64_of("twelve bytes"))
