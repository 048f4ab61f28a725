from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.openai.texts import Kind, Text
from services.safety.providers.base import ProviderVerdict
from services.safety.providers.pieces import back, changed, cut
from services.safety.verdict import Action, Finding, State


def text(value, kind=Kind.CONTENT, role="user", at=0):
    return Text((at,), (at,), role, kind, value)


def test_messages_stand_alone_and_names_stand_together():
    """A message's verdict can be remembered; twenty tool names are one question."""
    texts = [text("hi"), text("f", Kind.NAME, at=1), text("yes", at=2), text("g", Kind.NAME, at=3)]
    assert [piece.value for piece in cut(texts, 100, 10)] == ["hi", "yes", "f\ng"]


def test_roles_do_not_share_a_piece():
    """Who speaks matters to a judge."""
    texts = [text("f", Kind.NAME), text("g", Kind.NAME, role="tool", at=1)]
    assert [(piece.value, piece.role) for piece in cut(texts, 100, 10)] == [("f", "user"), ("g", "tool")]


@given(value=st.text(max_size=60), limit=st.integers(2, 20), overlap=st.integers(0, 10))
def test_pieces_cover_a_text_and_overlap(value, limit, overlap):
    """Whatever is not longer than the overlap stands whole in some piece."""
    overlap = min(overlap, limit - 1)
    pieces = cut([text(value)], limit, overlap)
    assert all(len(piece.value) <= limit for piece in pieces)
    length = max(1, overlap)
    for at in range(len(value) - length + 1):
        assert any(value[at : at + length] in piece.value for piece in pieces)
    for piece in pieces:
        (part,) = piece.parts
        assert value[part.at : part.at + part.length] == piece.value


def test_a_finding_comes_back_to_where_it_stands():
    """In a text that was cut, and in one that was packed with others."""
    texts = [text("0123456789"), text("name", Kind.NAME, at=1), text("other", Kind.NAME, at=2)]
    first, second, packed, _ = cut(texts, 6, 2)
    assert (first.value, second.value) == ("012345", "456789")
    seven = ProviderVerdict(Action.REDACT, findings=((0, Finding("r", 3, 4, "c")),))
    across = ProviderVerdict(Action.REDACT, findings=((0, Finding("r", 2, 6, "c")),))
    assert back([(second, seven)], texts).findings == ((0, Finding("r", 7, 8, "c")),)
    assert packed.value == "name"  # both would be longer than a piece
    (joined,) = cut(texts[1:], 20, 2)
    assert joined.value == "name\nother"
    assert back([(joined, across)], texts[1:]).findings == (
        (0, Finding("r", 2, 4, "c")),
        (1, Finding("r", 0, 1, "c")),
    )


def test_what_two_pieces_share_is_found_once():
    """The overlap is seen twice."""
    texts = [text("0123456789")]
    first, second = cut(texts, 6, 2)
    verdicts = [
        (first, ProviderVerdict(Action.REDACT, findings=((0, Finding("r", 4, 6, "c")),))),
        (second, ProviderVerdict(Action.REDACT, findings=((0, Finding("r", 0, 2, "c")),))),
    ]
    assert back(verdicts, texts).findings == ((0, Finding("r", 4, 6, "c")),)


def test_a_mask_of_a_whole_text_stays_as_written_and_one_of_a_piece_becomes_its_span():
    """Masked pieces cannot be glued: they overlap."""
    whole, long = [text("my name")], [text("0123456789")]
    (piece,) = cut(whole, 10, 2)
    verdict = ProviderVerdict(Action.REDACT, replacements={0: "my <name>"})
    assert back([(piece, verdict)], whole).replacements == {0: "my <name>"}
    second = cut(long, 6, 2)[1]
    verdict = ProviderVerdict(Action.REDACT, replacements={0: "4**789"})
    placed = back([(second, verdict)], long)
    assert not placed.replacements
    assert [(index, found.start, found.end) for index, found in placed.findings] == [(0, 5, 7)]


@pytest.mark.parametrize(
    ("before", "after", "span"),
    [
        ("abc", "abc", None),
        ("abc", "aXc", (1, 2)),
        ("abc", "ac", (1, 2)),
        ("abc", "abXc", None),
        ("aaa", "aa", (2, 3)),
        ("", "x", None),
        ("one two", "", (0, 7)),
    ],
)
def test_a_change_is_one_span(before, after, span):
    """Outside of it nothing differs; an insertion hides nothing."""
    assert changed(before, after) == span


@given(before=st.text("ab", max_size=12), after=st.text("ab", max_size=12))
def test_outside_a_change_the_texts_are_equal(before, after):
    """However they overlap."""
    span = changed(before, after)
    if span is not None:
        start, end = span
        assert after.startswith(before[:start])
        assert after.endswith(before[end:])


def test_the_worst_of_all_pieces_counts():
    """One piece that was not judged leaves the whole unjudged, one that blocks blocks it."""
    texts = [text("0123456789")]
    first, second = cut(texts, 6, 2)
    placed = back(
        [
            (first, ProviderVerdict(Action.ALLOW, State.TIMEOUT)),
            (second, ProviderVerdict(Action.BLOCK, reason="hate")),
        ],
        texts,
    )
    assert (placed.action, placed.state, placed.reason) == (Action.BLOCK, State.TIMEOUT, "hate")


def test_a_block_without_a_span_is_a_finding_over_its_piece():
    """So that a policy can name it, and that one text's pardon is not another's."""
    texts = [text("0123456789")]
    second = cut(texts, 6, 2)[1]
    placed = back([(second, ProviderVerdict(Action.BLOCK, reason="hate"))], texts)
    assert placed.findings == ((0, Finding("hate", 4, 10, "hate")),)
