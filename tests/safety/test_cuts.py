"""A stream says what the whole answer would say, in every dialect and mode, wherever model and network cut it."""

from __future__ import annotations

import functools
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.openai.texts import Kind, Text
from services.safety.answer import StreamedAnswer
from services.safety.judge import Tally, judge
from tests.safety import bypass_replies, kit, tricks
from tests.safety.kit import SECRET
from tests.safety.test_stream import finals

POLICY = """
providers: {far: {type: far}}
policies:
  default:
    response:
      actions: [{match: [aws-access-key, card], action: redact}]
      stream: MODE
      window: 32
      overlap: 16
      providers: [{name: far}]
"""
MODES = ("exact", "window", "audit")
DIALECTS = {name: make for name, (_, make) in bypass_replies.STREAMS.items()}
FRAGMENTS = [
    SECRET, SECRET[:7], "badword", "bad", "4111 1111 1111 1111", "4111", " ", ", ", "é😀", "key: ", "%", "\\", "&",
    tricks.SINGLE["zero-width"](SECRET), tricks.SINGLE["full-width"](SECRET), tricks.ESCAPED["URL-encoding"](SECRET),
]  # fmt: skip
"""What random answers are made of: matches, beginnings of matches, and what stands between."""


@functools.cache
def side(mode):
    text = POLICY.replace("MODE", mode)
    if mode == "exact":  # there is nobody to ask
        text = text.replace("[{name: far}]", "[]")
    return kit.policies(text, providers={"far"}).choose("m").response


async def masks(texts, final):
    """Judge as a provider that masks one word."""
    return {
        text.path: text.value.replace("badword", "[REDACTED:word]")
        for text in texts
        if "badword" in text.value
    }


async def unjudged(texts, final):
    return {}


async def run(parts, mode, ask):
    """Return what leaves, and what was found."""
    tally = Tally()
    answer = StreamedAnswer(side(mode), tally, ask)
    out = [await answer.feed(part, end=False) for part in parts]
    return b"".join([*out, await answer.feed(b"", end=True)]), tally


def unstreamed(text, mode, *, is_json):
    """Return what a whole answer with this text would say, and the rules that find something in it."""
    tally = Tally()
    place = ("arguments",) if is_json else ("content",)
    kind = Kind.ARGUMENTS if is_json else Kind.CONTENT
    edits = judge([Text(place, place, "assistant", kind, text)], side("exact"), tally)
    said = str(edits.get(place, text))
    return said if mode == "exact" else said.replace("badword", "[REDACTED:word]"), tally.verdict().rules


def pieces_of(text, dialect):
    """Return the whole text that a stream of `dialect` says with `text` in it."""
    is_json = "arguments" in dialect or "tool" in dialect
    return ('{"k":"' + text + '"}' if is_json else text), is_json


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=20)
@given(st.data())
async def test_a_stream_says_what_the_whole_answer_says(dialect, mode, data):
    """Random texts in random pieces, cut at random bytes: the same text, and the same rules find something."""
    text = "".join(data.draw(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=8)))
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    stream = b"".join(DIALECTS[dialect](list(cut(text, itertools.cycle(sizes)))))
    network = data.draw(st.lists(st.integers(1, 400), min_size=1, max_size=4))
    out, tally = await run(cut(stream, itertools.cycle(network)), mode, masks)
    whole, is_json = pieces_of(text, dialect)
    said, rules = unstreamed(whole, mode, is_json=is_json)
    assert set(tally.verdict().rules) == set(rules)
    if mode == "audit":
        assert out == stream
    else:
        assert kit.said(out) == said + (" " if dialect == "names" else "")  # its arguments


def cut(whole, sizes):
    at = 0
    while at < len(whole):
        size = next(sizes)
        yield whole[at : at + size]
        at += size


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stream_cut_at_all_bytes_is_the_stream_in_one_piece(dialect, mode):
    """What has left is at every byte a beginning of the same answer, so no byte of a match ever leaves."""
    stream = b"".join(DIALECTS[dialect](["é AK", SECRET[2:] + " bad", "word 😀 4111", " 1111 1111 1111"]))
    expected, _ = await run([stream], mode, masks)
    out, _ = await run([bytes([byte]) for byte in stream], mode, masks)
    assert out == expected
    if mode != "audit":
        assert "é [REDACTED:aws-access-key] " in kit.said(out)
        assert SECRET.encode() not in out
        assert b"4111" not in out
        assert ("bad" in kit.said(out)) is (mode == "exact")
        assert set(finals(out)) <= {kit.said(out)}, "the last events say what the deltas said"


@pytest.mark.parametrize(
    ("dialect", "mode", "stride"),
    [
        ("chat", "exact", 1),
        ("completions", "exact", 1),
        ("messages", "exact", 1),
        ("arguments", "exact", 3),
        ("responses", "exact", 7),  # four long events at its end
        *(
            (dialect, mode, 9)
            for dialect in ("chat", "completions", "messages", "responses")
            for mode in MODES[1:]
        ),
    ],
)
async def test_a_stream_cut_at_one_byte_is_the_stream_in_one_piece(dialect, mode, stride):
    """Events, UTF-8 sequences and matches may be cut anywhere."""
    stream = b"".join(DIALECTS[dialect](["é AK", SECRET[2:], "😀"]))
    expected, _ = await run([stream], mode, unjudged)
    for at in range(1, len(stream), stride):
        assert (await run([stream[:at], stream[at:]], mode, unjudged))[0] == expected


OVERLAP = 64  # characters of the policy's 16 tokens


def of(word):
    """Return a judge that masks all of `word` where it sees all of it, and not what is left of it."""

    async def ask(texts, final):
        return {text.path: text.value.replace(word, "*") for text in texts if word in text.value}

    return ask


@pytest.mark.parametrize("size", [1, 5, 31, 64])
@pytest.mark.parametrize("length", [1, OVERLAP - 1, OVERLAP])
@pytest.mark.parametrize("after", [0, 3, 60, 150])
async def test_nothing_of_a_match_up_to_the_overlap_leaves_a_window(length, size, after):
    """Wherever windows and the answer end: what a provider finds is masked as a whole."""
    word = "W" * length
    for before in range(0, 140, 14):
        text = "x" * before + word + "y" * after
        events = kit.chat(list(cut(text, itertools.repeat(size))))
        out, _ = await run(events, "window", of(word))
        assert kit.said(out) == text.replace(word, "*")


async def test_of_a_longer_match_the_overlap_is_kept():
    """Over the bound: its beginning may leave, never its last `overlap` characters."""
    word = "".join(chr(0x4E00 + n) for n in range(3 * OVERLAP))
    left = []
    for before in range(0, 140, 9):
        events = kit.chat(list(cut("x" * before + word[:-1], itertools.repeat(3))))
        answer = StreamedAnswer(side("window"), Tally(), of(word))
        said = kit.said(b"".join([await answer.feed(event, end=False) for event in events[:-2]]))
        left.append(len(said) - before)
    assert 0 < max(left) <= len(word) - OVERLAP


async def test_a_judge_that_writes_everything_anew_is_followed():
    """Its words leave in place of the model's, and no window waits for ever."""

    async def shout(texts, final):
        return {text.path: "".join("!" if char.isalpha() else char for char in text.value) for text in texts}

    text = "so it goes on and on, " * 20
    out, _ = await run(kit.chat(list(cut(text, itertools.repeat(4)))), "window", shout)
    assert kit.said(out) == "".join("!" if char.isalpha() else char for char in text)


async def test_texts_that_take_turns_wait_for_no_other():
    """A second choice does not hold up the first; what follows a text of one choice ends its wait."""
    one, two = kit.chat(["x" * 4] * 60, index=0), kit.chat(["y" * 4] * 60, index=1)
    mixed = [event for pair in zip(one[:60], two[:60], strict=True) for event in pair]
    out, _ = await run([*mixed, *one[60:]], "window", unjudged)
    assert kit.said(out).count("x") == kit.said(out).count("y") == 240
    thoughts, words = kit.chat(["z" * 4] * 10, field="reasoning_content"), kit.chat(["w" * 4] * 40)
    answer = StreamedAnswer(side("window"), Tally(), unjudged)
    early = b"".join([await answer.feed(event, end=False) for event in [*thoughts[:10], *words[:33]]])
    assert kit.said(early).count("z") == 40
    assert kit.said(early).count("w") > 0


RUNS = {**tricks.WRAPPED, **tricks.CIPHERS}


@pytest.mark.parametrize("trick", RUNS)
async def test_audit_finds_what_hides_in_encodings(trick):
    """At the end, as in the whole text; the stream has left as it came."""
    text = f"it is {RUNS[trick](SECRET)} ok"
    events = kit.chat(list(cut(text, itertools.repeat(6))))
    out, tally = await run(events, "audit", unjudged)
    assert out == b"".join(events)
    assert tally.verdict().rules == ("aws-access-key",)


async def test_findings_of_a_window_say_where_in_the_stream_they_are():
    """The text's own key and offset, each finding once, though windows overlap."""
    secret = tricks.WRAPPED["hex"](SECRET)
    text = f"{'so ' * 60}{secret}{' and' * 60} {secret} ok"
    _, tally = await run(kit.chat(list(cut(text, itertools.repeat(5)))), "window", unjudged)
    found = [(located.path, located.finding.start) for located in tally.verdict().findings]
    key = ("choices", 0, "delta", "content")
    assert [path for path, _ in found] == [key, key]
    assert found[0][1] == text.index(secret)


async def test_what_hides_in_an_encoding_can_end_a_stream():
    """A block in a window: nothing of the window leaves."""
    blocks = kit.policies(POLICY.replace("MODE", "window").replace("redact", "block"), providers={"far"})
    secret = tricks.CIPHERS["rot13"](SECRET)
    events = kit.chat(list(cut(f"{'so ' * 60}{secret} ok", itertools.repeat(5))))
    answer = StreamedAnswer(blocks.choose("m").response, Tally(), unjudged)
    out = b"".join([await answer.feed(event, end=False) for event in events[:-1]])
    out += b"" if answer.ended else await answer.feed(b"", end=True)
    assert answer.ended
    assert set(kit.said(out)) <= set("so ")
    assert out.endswith(b"data: [DONE]\n\n")
