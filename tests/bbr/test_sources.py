"""Where a request names its model, and what counts when several places do."""

from __future__ import annotations

import json

import pytest

from services.bbr.rules import RuleError, Rules
from services.extproc.decisions import Forward
from services.extproc.errors import BadRequest, ExtProcError
from services.extproc.events import Headers
from services.openai.digest import decode
from services.openai.rewrites import sticky_key
from tests.bbr.world import ALIASES, MODELS, Notes, asking, bbr, chat

HEADER = "header:x-model-id"
UNNAMED = b'{ "messages": [{"role":"user","content":"model"}] }'


def routed(request, *sources: str, default_model: str = "") -> Forward:
    rules = Rules(MODELS, ALIASES, default_model=default_model, sources=sources or ("body", "path"))
    decision = bbr(rules=rules).decide(request)
    assert isinstance(decision, Forward)
    return decision


def model_of(decision: Forward) -> str:
    return dict(decision.set_headers)["x-gateway-model-name"]


@pytest.mark.parametrize(
    ("sources", "path", "body", "header", "model"),
    [
        (("body", "path"), "/v1/models/food:generate", b'{"model":"chatbot"}', "", "chatbot"),
        (("path", "body"), "/v1/models/food:generate", b'{"model":"chatbot"}', "", "food"),
        (("body", HEADER), "/v1/chat/completions", chat("chatbot"), "food", "chatbot"),
        ((HEADER, "body"), "/v1/chat/completions", chat("chatbot"), "food", "food"),
        (("path", HEADER), "/v1/models/chatbot:generate", b"{}", "food", "chatbot"),
        ((HEADER, "path"), "/v1/models/chatbot:generate", b"{}", "food", "food"),
        (("body", "path", HEADER), "/v1/models/chatbot", b"", "food", "chatbot"),
        (("body", "path", HEADER), "/v1/chat/completions", UNNAMED, "food", "food"),
        (("body",), "/v1/chat/completions", chat("chatbot"), "food", "chatbot"),
        (("path",), "/v1/models/food:x", b'{"model":"chatbot"}', "chatbot", "food"),
        ((HEADER, "header:x-other"), "/v1/chat/completions", chat("food"), "chatbot", "chatbot"),
    ],
)
def test_the_first_source_that_names_a_model_counts(sources, path, body, header, model):
    """In the order of the configuration; what it does not list is not looked at."""
    headers = {"x_model_id": header} if header else {}
    assert model_of(routed(asking(body, path, **headers), *sources)) == model


@pytest.mark.parametrize("body", [chat("chatbot"), UNNAMED])
def test_the_body_says_the_model_that_was_routed_to(body):
    """Or the server would answer with another model than the one that was chosen, and safety judge by."""
    decision = routed(asking(body, x_model_id="l"), HEADER, "body")
    assert decision.body is not None
    assert json.loads(decision.body) == json.loads(body) | {"model": "llama"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/models/l:generateContent?alt=sse", "/v1/models/llama:generateContent?alt=sse"),
        ("/v1/models/l", "/v1/models/llama"),
        ("/v1/models/l:predict", "/v1/models/llama:predict"),
    ],
)
def test_an_alias_in_a_path_is_replaced_there(path, expected):
    """With the verb and the query as they were; the body names no model and gets none."""
    decision = routed(asking(b'{"contents":[]}', path))
    assert dict(decision.set_headers)[":path"] == expected
    assert decision.body is None


def test_a_path_that_is_right_stays():
    """No header is set for nothing."""
    assert ":path" not in dict(routed(asking(b"{}", "/v1/models/food:predict")).set_headers)


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"[1]", b'{"model":7}', b'{"instances":[1]}'])
def test_a_path_needs_no_body_that_can_be_read(body):
    """The server's own shapes pass as they are, and count as a prompt for the scheduler."""
    decision = routed(asking(body, "/v1/models/food:predict"))
    assert (model_of(decision), decision.body) == ("food", None)
    digest = decode(str(decision.metadata["gw.bbr"]["digest"]))
    assert (digest.model, digest.prompt_bytes) == ("food", len(body))


@pytest.mark.parametrize(
    ("request_", "model"),
    [
        (asking(b"", "/v1/responses/r1", "GET", x_model_id="l"), "llama"),
        (asking(b"", "/v1/responses/r1/cancel", x_model_id="food"), "food"),
        (asking(None, "/v1/files", x_model_id="food"), "food"),
    ],
)
def test_a_header_routes_what_names_no_model_itself(request_, model):
    """A stored response lives on the server that made it; its body, if any, is not looked at."""
    service = bbr(rules=Rules(MODELS, ALIASES, sources=("body", "path", HEADER)))
    decision = service.decide(request_)
    assert isinstance(decision, Forward)
    assert (model_of(decision), decision.body) == (model, None)
    assert service.decides_on_headers(request_)


@pytest.mark.parametrize(
    ("request_", "early"),
    [
        (asking(None, "/v1/models/food:predict"), False),
        (asking(None, "/v1/models/food", "DELETE"), True),
        (asking(None, "/v1/models/food", "GET"), True),
    ],
)
def test_a_body_is_waited_for_where_it_can_name_a_model(request_, early):
    """A path that names one may be contradicted by the body."""
    assert bbr().decides_on_headers(request_) is early


@pytest.mark.parametrize("body", [UNNAMED, b'{"model":null,"messages":[]}', b'{"model":" ","messages":[]}'])
def test_a_default_model_stands_in(body):
    """Where the operator names one; the server reads it in the body."""
    decision = routed(asking(body), default_model="l")
    assert decision.body is not None
    assert json.loads(decision.body)["model"] == "llama"
    assert model_of(decision) == "llama"
    assert "x-gateway-client-model-name" not in dict(decision.set_headers)


def test_without_a_default_a_request_must_name_its_model():
    """And the client is told which field."""
    notes = Notes()
    with pytest.raises(BadRequest, match="model"):
        bbr(rules=Rules(MODELS, sources=(HEADER,)), notes=notes).decide(asking(UNNAMED))
    assert notes.records[0].field == "model"


def test_an_upload_without_a_model_gets_a_field():
    """In front of the others, the file untouched."""
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\xff\r\n--b--\r\n'
    request = asking(form, "/v1/audio/transcriptions", content_type="multipart/form-data; boundary=b")
    decision = routed(request, default_model="food")
    assert decision.body == (b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nfood\r\n' + form)


@pytest.mark.parametrize("name", ["nobody", "l\udcff", "a\nb"])
def test_an_unknown_name_is_refused_wherever_it_stands(name):
    """Bytes that are no text included."""
    with pytest.raises(ExtProcError):
        routed(asking(chat(), x_model_id=name), HEADER)


@pytest.mark.parametrize("source", ["header", "header:", "query", "header:a b", ""])
def test_a_source_that_does_not_exist_is_refused(source):
    """At start."""
    with pytest.raises(RuleError, match="no source"):
        Rules(MODELS, sources=(source,))


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("user", "ann"),
        ("session", "s1"),
        ("header:x-tenant", "t"),
        ("header:x-other", ""),
        ("", ""),
    ],
)
def test_a_sticky_key_is_what_the_request_says(kind, key):
    """Of the user in its body, of a session in the headers that clients use, of any header."""
    headers = Headers([("x-tenant", " t "), ("session-id", "s2"), ("x-session-id", "s1")])
    assert sticky_key(headers.get, "ann")(kind) == key
