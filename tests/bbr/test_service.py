from __future__ import annotations

import json

import pytest

from services.bbr.records import Refusal, RequestRecord, Result, Rewriting
from services.bbr.rules import BaseModel, Rules, UnknownModels
from services.extproc.decisions import Forward, Reject
from services.extproc.errors import BadRequest, ExtProcError, Internal, NotFound, Overloaded, TooLarge
from services.extproc.exchange import FailMode
from services.openai.dialects import Dialect
from services.openai.digest import decode, digest_of
from services.openai.errors import Reason
from services.openai.peek import peek
from tests.bbr.world import Notes, asking, bbr, chat


def forwarded(request, **world) -> Forward:
    decision = bbr(**world).decide(request)
    assert isinstance(decision, Forward)
    return decision


def refused(request, **world) -> tuple[ExtProcError, RequestRecord]:
    notes = Notes()
    with pytest.raises(ExtProcError) as caught:
        bbr(notes=notes, **world).decide(request)
    (record,) = notes.records
    return caught.value, record


@pytest.mark.parametrize(
    ("model", "target", "base"),
    [("llama", "llama", "llama"), ("food", "food", "llama"), ("l", "llama", "llama"), ("f", "food", "llama")],
)
def test_a_request_gets_its_model_and_base_model_as_headers(model, target, base):
    """And its route is chosen again, now that routes can match them."""
    decision = forwarded(asking(chat(model)))
    assert decision.set_headers[:2] == (
        ("x-gateway-model-name", target),
        ("x-gateway-base-model-name", base),
    )
    assert decision.reroute


def test_a_body_that_needs_no_rewrite_is_left_alone():
    """Not even an equal copy is sent back."""
    assert forwarded(asking(chat("food"))).body is None


def test_an_alias_is_replaced_in_the_body_and_nothing_else_is():
    """The server knows only its own names."""
    body = b'{ "messages":[{"model":"l"}], "model" : "l", "n":1.0, "x":12345678901234567890123 }'
    assert forwarded(asking(body)).body == body.replace(b': "l"', b': "llama"')


def test_the_digest_travels_as_metadata_for_the_target():
    """What the scheduler gets is what it would have computed from the rewritten body."""
    body = chat("l", stream=True, max_tokens=3, messages=[{"content": "x" * 999}])
    (namespace,) = forwarded(asking(body)).metadata.values()
    digest = decode(str(namespace["digest"]))
    assert digest == digest_of(
        peek(chat("llama", stream=True, max_tokens=3, messages=[{"content": "x" * 999}]), Dialect.CHAT),
        "llama",
    )
    assert digest.model == "llama"
    assert len(digest.blocks) > 10


def test_the_metadata_stands_under_the_agreed_names():
    """Envoy forwards the namespace by its name."""
    assert list(forwarded(asking(chat())).metadata) == ["gw.bbr"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", b'{"model":"llama","prompt":"x"}'),
        ("/v1/embeddings", b'{"model":"llama","input":["x"]}'),
        ("/v1/responses", b'{"model":"llama","input":"x"}'),
        ("/v1/messages", b'{"model":"llama","messages":[],"max_tokens":1}'),
        ("/rerank", b'{"model":"llama","query":"q","documents":["d"]}'),
        ("/openai/v1/chat/completions?x=1", b'{"model":"llama","messages":[]}'),
    ],
)
def test_every_dialect_is_routed(path, body):
    """Wherever the API is mounted."""
    assert forwarded(asking(body, path)).set_headers[0] == ("x-gateway-model-name", "llama")


def test_an_upload_is_routed_and_rewritten_too():
    """Its model is a form field."""
    form = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\xff\r\n'
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nl\r\n--b--\r\n'
    )
    request = asking(form, "/v1/audio/transcriptions", content_type="multipart/form-data; boundary=b")
    decision = forwarded(request)
    assert decision.set_headers[0] == ("x-gateway-model-name", "llama")
    assert decision.body == form.replace(b"\r\n\r\nl\r\n", b"\r\n\r\nllama\r\n")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_an_unknown_model_is_a_404_that_names_it(path):
    """And says where to look."""
    error, record = refused(asking(chat("mistral"), path))
    assert isinstance(error, NotFound)
    assert "'mistral'" in error.message
    assert "GET /v1/models" in error.message
    assert (error.param, error.code, record.reason) == ("model", "model_not_found", Refusal.MODEL_NOT_FOUND)


def test_a_message_stays_short_whatever_the_client_wrote():
    """A model name can be as long as a body."""
    error, _ = refused(asking(chat("m" * 100_000)))
    assert len(error.message) < 400


def test_an_unknown_model_can_be_forwarded_instead():
    """Under its own name, for routes that know it."""
    decision = forwarded(asking(chat("mistral")), unknown=UnknownModels.FORWARD)
    assert decision.set_headers == (
        ("x-gateway-model-name", "mistral"),
        ("x-gateway-base-model-name", "mistral"),
    )
    assert decision.body is None


@pytest.mark.parametrize(
    ("body", "reason", "param"),
    [
        (b"", Reason.EMPTY_BODY, None),
        (b"{", Reason.INVALID_JSON, None),
        (b"[]", Reason.NOT_AN_OBJECT, None),
        (b'{"messages":[]}', Reason.FIELD_MISSING, "model"),
        (b'{"model":"","messages":[]}', Reason.FIELD_EMPTY, "model"),
        (b'{"model":1,"messages":[]}', Reason.WRONG_TYPE, "model"),
        (b'{"model":"llama"}', Reason.FIELD_MISSING, "messages"),
        (b'{"model":"llama","model":"x","messages":[]}', Reason.DUPLICATE_FIELD, "model"),
    ],
)
def test_a_body_that_is_no_request_is_a_400(body, reason, param):
    """With the field at fault, in the answer and in the record."""
    error, record = refused(asking(body))
    assert isinstance(error, BadRequest)
    assert (error.reason, error.param) == (reason, param)
    assert record == RequestRecord(
        Dialect.CHAT, Result.REFUSED, reason=reason, field=param or "", body_bytes=len(body)
    )


def test_a_compressed_body_is_refused_in_plain_words():
    """Rather than called broken JSON."""
    error, record = refused(asking(b"\x1f\x8b", content_encoding="gzip"))
    assert isinstance(error, BadRequest)
    assert "content-encoding 'gzip'" in error.message
    assert record.reason is Refusal.CONTENT_ENCODING
    assert forwarded(asking(chat(), content_encoding="Identity")).reroute


def test_a_body_that_envoy_keeps_to_itself_is_refused_as_the_gateways_fault():
    """Body mode NONE: no model can be read, and the client can do nothing about it."""
    error, record = refused(asking(None))
    assert isinstance(error, Internal)
    assert record.reason is Refusal.BODY_NOT_SEEN


@pytest.mark.parametrize("body", [b"{}", None])
def test_an_unknown_path_under_a_version_is_a_404(body):
    """With the URL in it, as OpenAI answers; decided before the body is read."""
    error, record = refused(asking(body, "/v1/chat/completion"))
    assert isinstance(error, NotFound)
    assert "POST /v1/chat/completion" in error.message
    assert (error.code, record.reason) == ("unknown_url", Refusal.UNKNOWN_PATH)


@pytest.mark.parametrize(
    "request_",
    [
        asking(b"", "/v1/files", "GET"),
        asking(b"", "/v1/models/llama", "DELETE"),
        asking(b"", "/health", "GET"),
        asking(None, "/upload"),
        asking(b"{}", "/upload"),
    ],
)
def test_what_is_not_for_a_model_passes(request_):
    """Requests without a body, and paths outside the model APIs: other routes may want them."""
    notes = Notes()
    assert forwarded(request_, notes=notes) == Forward()
    size = len(request_.body or b"")
    assert notes.records == [RequestRecord(Dialect.OTHER, Result.PASSED, body_bytes=size)]


def test_a_forged_model_header_does_not_pass():
    """Only BBR says which model a request is for, also where it has nothing to say."""
    decision = forwarded(asking(b"", "/v1/files", "GET", x_gateway_model_name="llama"))
    assert decision.remove_headers == ("x-gateway-model-name",)
    assert decision.reroute


def test_the_models_are_listed():
    """By BBR itself, for it knows all pools."""
    answer = bbr().decide(asking(b"", "/v1/models", "GET"))
    assert isinstance(answer, Reject)
    assert answer.status == 200
    assert [entry["id"] for entry in json.loads(answer.body)["data"]] == [
        "llama",
        "food",
        "chatbot",
        "l",
        "f",
    ]


def test_one_model_is_shown_or_not_found():
    """By its id."""
    answer = bbr().decide(asking(b"", "/v1/models/food", "GET"))
    assert isinstance(answer, Reject)
    assert json.loads(answer.body)["parent"] == "llama"
    error, _ = refused(asking(b"", "/v1/models/mistral", "GET"))
    assert isinstance(error, NotFound)


def test_new_rules_are_followed_at_once():
    """In routing and in the list, without a restart."""

    class Changing:
        rules = Rules((BaseModel("old"),))

        def current(self):
            return self.rules

    source = Changing()
    service = bbr(source=source)
    service.decide(asking(chat("old")))
    source.rules = Rules((BaseModel("new"),))
    assert isinstance(service.decide(asking(chat("new"))), Forward)
    answer = service.decide(asking(b"", "/v1/models", "GET"))
    assert isinstance(answer, Reject)
    assert [entry["id"] for entry in json.loads(answer.body)["data"]] == ["new"]


@pytest.mark.parametrize(
    ("request_", "record"),
    [
        (asking(chat("llama")), RequestRecord(Dialect.CHAT, Result.ROUTED, body_bytes=len(chat("llama")))),
        (
            asking(chat("l")),
            RequestRecord(
                Dialect.CHAT,
                Result.ROUTED,
                rewritten=True,
                body_bytes=len(chat("l")),
                rewriting=Rewriting("alias", "l", "llama"),
            ),
        ),
        (asking(b"", "/v1/models", "GET"), RequestRecord(Dialect.MODELS, Result.LISTED)),
    ],
)
def test_every_request_is_reported_once(request_, record):
    """With what became of it."""
    notes = Notes()
    bbr(notes=notes).decide(request_)
    assert notes.records == [record]


@pytest.mark.parametrize(
    ("request_", "early"),
    [
        (asking(None, "/v1/models", "GET"), True),
        (asking(None, "/v1/unknown"), True),
        (asking(None, "/upload"), True),
        (asking(None, "/v1/chat/completions"), False),
        (asking(None, "/v1/audio/transcriptions"), False),
    ],
)
def test_only_a_model_apis_body_is_waited_for(request_, early):
    """Everything else is decided on its headers."""
    assert bbr().open({}).decides_on_headers(request_) is early


def test_a_refusal_speaks_openais_words():
    """With JSON, the error's own headers, and a word for Envoy's access log."""
    error = Overloaded("slow down", headers=(("retry-after", "1"),))
    answer = bbr().refuse(error, asking(b"{}"))
    assert (answer.status, answer.details) == (429, "bbr_overloaded")
    assert answer.headers == (("content-type", "application/json"), ("retry-after", "1"))
    assert json.loads(answer.body)["error"]["message"] == "slow down"


def test_a_refusal_speaks_anthropics_words_to_its_clients():
    """With the request's id, as theirs have it."""
    answer = bbr().refuse(TooLarge("too much"), asking(b"{}", "/v1/messages", x_request_id="r1"))
    assert json.loads(answer.body) == {
        "type": "error",
        "error": {"type": "request_too_large", "message": "too much"},
        "request_id": "r1",
    }


def test_a_refusal_needs_no_request():
    """Nothing may have been seen yet."""
    assert json.loads(bbr().refuse(TooLarge("too much"), None).body)["error"]["code"] == "request_too_large"


def test_an_unroutable_request_is_refused_when_bbr_has_a_bug():
    """Without a model header it would only meet the route of last resort."""
    assert bbr().fail_mode is FailMode.CLOSED
