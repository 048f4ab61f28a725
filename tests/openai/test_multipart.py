from __future__ import annotations

import httpx
import pytest

from services.openai.dialects import Dialect
from services.openai.errors import PeekError, Reason
from services.openai.multipart import MAX_PARTS, boundary_of, form_fields
from services.openai.peek import peek, rewrite

TYPE = "multipart/form-data; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n\x00\xff--b\r\r\n\r\n'
END = b"--b--\r\n"


def part(name: bytes, value: bytes, extra: bytes = b"") -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="' + name + b'"' + extra + b"\r\n\r\n" + value + b"\r\n"
    )


def contents(body: bytes, boundary: bytes = b"b") -> list[tuple[str, bytes]]:
    return [(name, body[start:end]) for name, start, end in form_fields(body, boundary)]


def refusal(body: bytes, content_type: str = TYPE) -> PeekError:
    with pytest.raises(PeekError) as caught:
        peek(body, Dialect.TRANSCRIPTIONS, content_type)
    return caught.value


def test_the_model_is_read_beside_a_file():
    """A transcription's model, stream flag and prompt come out; the file stays where it is."""
    body = part(b"model", b"whisper") + FILE + part(b"stream", b"true") + part(b"prompt", b"hint") + END
    seen = peek(body, Dialect.TRANSCRIPTIONS, TYPE)
    assert (seen.model, seen.stream, seen.form, b"".join(seen.prompt)) == ("whisper", True, True, b"hint")
    assert body[slice(*seen.span)] == b"whisper"


@pytest.mark.parametrize("new", ["w", "a longer name", "größer"])
def test_a_rewrite_changes_the_model_and_nothing_else(new):
    """Bytes that look like boundaries inside the file are left alone too."""
    body = FILE + part(b"model", b"whisper") + END
    changed = rewrite(body, peek(body, Dialect.TRANSCRIPTIONS, TYPE), new)
    assert changed == FILE + part(b"model", new.encode()) + END


def test_what_a_real_client_sends_is_understood():
    """The OpenAI SDK sends its forms with httpx."""
    request = httpx.Request(
        "POST",
        "http://x",
        data={"model": "whisper", "language": "de"},
        files={"file": ('a "b".wav', b"\0\r\n--")},
    )
    body, boundary = request.read(), boundary_of(request.headers["content-type"])
    assert boundary is not None
    assert dict(contents(body, boundary)) == {"model": b"whisper", "language": b"de", "file": b"\0\r\n--"}


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data;charset=utf-8 ; Boundary="a b=c"', b"a b=c"),
        ("application/json", None),
        ("", None),
        ("multipart/mixed; boundary=abc", None),
    ],
)
def test_the_boundary_is_read_from_the_content_type(content_type, boundary):
    """Parameters come in any order and case, quoted or not; other types are no form."""
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="a "',
        "multipart/form-data; boundary=" + "a" * 71,
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=é",
        "multipart/form-databoundary=b",
    ],
)
def test_a_form_without_a_valid_boundary_is_refused(content_type):
    """RFC 2046 says 1 to 70 characters of a short list, the last one no space; and there is one."""
    with pytest.raises(PeekError) as caught:
        boundary_of(content_type)
    assert caught.value.reason is Reason.INVALID_FORM


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"preamble --b\r\n" + part(b"model", b"m") + END, [("model", b"m")]),
        (part(b"model", b"m") + END + b"epilogue --b\r\n", [("model", b"m")]),
        (part(b"model", b"m") + b"--b--", [("model", b"m")]),
        (part(b"model", b"m").replace(b"--b\r\n", b"--b \t\r\n") + END, [("model", b"m")]),
        (part(b"model", b"") + END, [("model", b"")]),
        (part(b"model", b"\r\nm\r\n") + END, [("model", b"\r\nm\r\n")]),
        (b"--b\r\nX-A: 1\r\ncontent-disposition:form-data;NAME=model\r\n\r\nm\r\n" + END, [("model", b"m")]),
        (part(b'a\\"b', b"1") + END, [('a"b', b"1")]),
        (part(b"a", b"1") + part(b"a", b"2") + END, [("a", b"1"), ("a", b"2")]),
        (b"--b--", []),
    ],
)
def test_forms_are_read_as_the_rfcs_say(body, expected):
    """Preamble, epilogue, padding, empty values and line breaks at the edges of a value."""
    assert contents(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"no boundary at all",
        part(b"model", b"m"),
        part(b"model", b"m") + b"--bx\r\n" + END,
        part(b"model", b"m").replace(b"\r\n", b"\n") + END,
        b"--b\r\n\r\nm\r\n" + END,
        b"--b\r\nContent-Type: text/plain\r\n\r\nm\r\n" + END,
        b"--b\r\nContent-Disposition: attachment; name=model\r\n\r\nm\r\n" + END,
        b"--b\r\nContent-Disposition: form-data\r\n\r\nm\r\n" + END,
        part(b"model", b"m", b'; name="x"') + END,
        part(b"x", b"m", b"; name*=utf-8''model") + END,
        part(b"model", b"m", b"; broken") + END,
        part(b"x", b"m", b'\r\nContent-Disposition: form-data; name="model"') + END,
        part(b"x", b"m", b"\r\n folded: 1") + END,
        part(b"x", b"m", b"\nA: 1") + END,
        b"--b\r\n--b\r\n" + END,
        b"--b\r\nX: " + b"x" * 9000 + b"\r\n\r\nm\r\n" + END,
    ],
)
def test_a_form_that_two_readers_might_read_differently_is_refused(body):
    """Broken or double headers, names in two forms, stray delimiters, bare line feeds, no end."""
    assert refusal(body).reason is Reason.INVALID_FORM


def test_every_truncation_of_a_form_is_refused():
    """Without its closing boundary a form is not whole."""
    body = part(b"model", b"m") + FILE + b"--b--"
    for cut in range(len(body)):
        with pytest.raises(PeekError):
            form_fields(body[:cut], b"b")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.EMPTY_BODY),
        (FILE + END, Reason.FIELD_MISSING),
        (part(b"model", b" ") + FILE + END, Reason.FIELD_EMPTY),
        (part(b"model", b"a") + FILE + part(b"model", b"a") + END, Reason.DUPLICATE_FIELD),
        (part(b"model", b"\xff") + FILE + END, Reason.NOT_UTF8),
        (part(b"model", b"m", b'; filename="x"') + FILE + END, Reason.WRONG_TYPE),
        (part(b"model", b"bQ==", b"\r\nContent-Transfer-Encoding: base64") + FILE + END, Reason.WRONG_TYPE),
    ],
)
def test_a_form_without_one_plain_model_is_refused(body, reason):
    """The same rules as in JSON, and a model is neither a file nor encoded."""
    assert refusal(body).reason is reason


def test_a_transcription_needs_its_file():
    """The error names the field."""
    error = refusal(part(b"model", b"m") + END)
    assert (error.reason, error.param) == (Reason.FIELD_MISSING, "file")


def test_the_number_of_parts_is_bounded():
    """As the server's own parser does it."""
    assert refusal(part(b"a", b"") * (MAX_PARTS + 1) + END).reason is Reason.TOO_MANY_FIELDS


def test_a_dialect_without_forms_reads_json_whatever_the_content_type_says():
    """The server would do the same, or refuse."""
    body = b'{"model":"m","messages":[]}'
    assert peek(body, Dialect.CHAT, TYPE).model == "m"
    assert peek(b'{"model":"m","file":"f"}', Dialect.TRANSCRIPTIONS, "application/json").model == "m"
