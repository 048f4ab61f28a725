from __future__ import annotations

import json

import pytest

from services.openai.deltas import read
from services.openai.template import Template
from services.openai.texts import Undecodable, decode


def event(text, **more):
    return json.dumps({"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]} | more).encode()


def template(data):
    document = decode(data)
    return Template(data, document, read(document).deltas[0])


@pytest.mark.parametrize("text", ["b", "", "two words", "é😀", "\n\t", '"', "\\", "\\n", "\u2028", "a\x7f"])
def test_an_event_of_the_same_shape_is_read_without_decoding(text):
    """Raw UTF-8 and escapes alike; what it says can be replaced and nothing else changes."""
    shape = template(event("first"))
    for data in (event(text), json.dumps(json.loads(event(text)), ensure_ascii=False).encode()):
        filled = shape.read(data)
        assert filled.text == text
        assert json.loads(filled.with_text(data, "masked")) == json.loads(event("masked"))


def test_sequence_numbers_and_padding_may_differ():
    """The responses dialect counts its events and pads them."""
    shape = template(event("a", sequence_number=9, obfuscation="abc"))
    filled = shape.read(event("b", sequence_number=10, obfuscation=""))
    assert (filled.text, filled.number) == ("b", 10)


@pytest.mark.parametrize(
    "data",
    [
        event("b", id="y"),
        event("b", usage={}),
        event("b")[:-1],
        event("b") + b" ",
        event("b").replace(b'"b"', b'"b", "role": "x"'),
        event("b").replace(b'"b"', b"null"),
        event("b").replace(b'"b"', b'"\xff"'),
        event("b").replace(b'"b"', b'"\\x"'),
        event("b").replace(b'"b"', b'"a\nb"'),
        event("b").replace(b'"b"', b'"b'),
    ],
)
def test_anything_else_is_left_to_the_decoder(data):
    """Another field, another type, bytes that are not JSON."""
    assert template(event("a")).read(data) is None


def test_what_is_read_is_what_the_decoder_reads_at_every_flipped_byte():
    """No damaged event passes for a whole one, and none is read differently."""
    good = event('b\\n"é')
    shape = template(event("a"))
    for at in range(len(good)):
        for byte in b'\x00\n"\\a0{},\xc3':
            data = good[:at] + bytes([byte]) + good[at + 1 :]
            filled = shape.read(data)
            try:
                expected = read(decode(data)).deltas
            except Undecodable:
                expected = None
            if filled is not None:
                assert expected is not None
                assert filled.text == "".join(text.value for text in expected)
