from __future__ import annotations

import pytest

from services.openai.sse import Event, Framer, TooLong, event, parse

STREAM = (
    "\ufeffdata: a\n\n"
    ": a comment\n\n"
    "event: x\r\ndata: é😀\r\ndata:  two\r\nid: 7\r\n\r\n"
    "data\rdata:b\r\r"
    "\n"
    "retry: 3\n\n"
    "data: last"
).encode()
DATA = [b"a", None, "é😀\n two".encode(), b"\nb", None, b"last"]


def frame(pieces, limit=1000):
    framer = Framer(limit)
    events = [found for piece in pieces for found in framer.feed(piece)]
    return events + ([rest] if (rest := framer.flush()) else [])


def test_line_ends_comments_and_several_data_lines_are_read_as_the_standard_says():
    """CR, LF and CRLF end lines, data lines join with a line feed, one leading space is dropped."""
    assert [found.data for found in frame([STREAM])] == DATA


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_cut_anywhere_changes_nothing(cut):
    """Cut events, UTF-8 sequences and CRLF pairs are one event still, and every byte comes out again."""
    found = frame([STREAM[:cut], STREAM[cut:]])
    assert found == frame([STREAM])
    assert b"".join(one.raw for one in found) == STREAM


def test_single_bytes_make_the_same_events():
    """The framer keeps its place over any number of pieces."""
    assert frame([bytes([byte]) for byte in STREAM]) == frame([STREAM])


def test_an_event_is_there_as_soon_as_its_blank_line_is():
    """Nothing waits for the next event."""
    framer = Framer()
    assert framer.feed(b"data: a\n") == []
    assert framer.feed(b"\n") == [Event(b"data: a\n\n", b"a")]


def test_a_carriage_return_waits_for_its_line_feed():
    """Half a CRLF does not end an event whose other half is still to come."""
    framer = Framer()
    assert framer.feed(b"data: a\r\n\r") == []
    assert framer.feed(b"\n") == [Event(b"data: a\r\n\r\n", b"a")]


def test_an_event_over_the_limit_is_given_up():
    """Memory is bounded: the framer hands out what it holds and stops."""
    framer = Framer(limit=10)
    assert framer.feed(b"data: 1\n\ndata: 2345678") == [
        Event(b"data: 1\n\n", b"1"),
        TooLong(b"data: 2345678"),
    ]
    assert framer.feed(b"\n\ndata: x\n\n") == []
    assert framer.flush() is None


def test_new_data_leaves_the_other_lines_alone():
    """Event name, id, comments and line ends stay byte for byte."""
    before = parse(b": c\r\nevent: x\r\ndata: old\r\ndata: more\r\nid: 1\r\n\r\n")
    assert before.with_data(b"new") == b": c\r\nevent: x\r\ndata: new\r\nid: 1\r\n\r\n"


def test_data_with_line_feeds_becomes_several_lines():
    """What is written is read back as the same data."""
    assert parse(parse(b"data: x\n\n").with_data(b"a\nb")).data == b"a\nb"
    assert parse(event(b"[DONE]", "end")).data == b"[DONE]"


@pytest.mark.parametrize(
    "raw", [b"data: abc\n\n", b"data:ab\r\nid: 1\r\ndata: c\r\n\r\n", b"\xef\xbb\xbfdata: ab\r: x\rdata:cde"]
)
def test_every_byte_of_the_data_has_its_place_in_the_event(raw):
    """Whatever lines it is spread over; a joining line feed stands for the line end there."""
    event = parse(raw)
    assert event.data is not None
    for at, byte in enumerate(event.data):
        assert byte == ord("\n") or raw[event.place(at)] == byte
    assert event.place(len(event.data)) == event.place(len(event.data) - 1) + 1
    with pytest.raises(IndexError):
        event.place(len(event.data) + 1)
