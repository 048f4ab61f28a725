"""BBR in conversation with Envoy: every body mode, bodies cut everywhere."""

from __future__ import annotations

import json

import pytest

from services.extproc.events import Outcome
from services.extproc.script import Script, at_every_cut
from services.openai.digest import decode
from tests.bbr.world import bbr, chat

MODES = ["BUFFERED", "FULL_DUPLEX_STREAMED"]
ALIAS = '{"messages":[{"role":"user","content":"é \\u00e9 {\\"model\\":\\"x\\"}"}], "model" :"l" ,"n":1.0}'.encode()
REWRITTEN = ALIAS.replace(b'"l"', b'"llama"')
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\xff\r\n--x\r\n'
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nl\r\n--b--\r\n'
)
UPLOAD = {":path": "/v1/audio/transcriptions", "content-type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("empty_last", [True, False])
async def test_a_rewrite_is_the_same_however_the_body_is_cut(mode, empty_last):
    """Headers, body and digest do not depend on where the network cut."""

    async def run(cut):
        sent = await Script(bbr(), request_body=mode).request({}, ALIAS, cut=cut, empty_last=empty_last)
        assert sent.complete
        return sent.body, dict(sent.set_headers), sent.metadata["gw.bbr"]["digest"]

    body, headers, digest = await at_every_cut(run, ALIAS)
    assert body == REWRITTEN
    assert headers["x-gateway-model-name"] == headers["x-gateway-base-model-name"] == "llama"
    assert decode(str(digest)).model == "llama"


@pytest.mark.parametrize("mode", MODES)
async def test_an_untouched_body_arrives_as_it_was_sent(mode):
    """Byte for byte, and its route is chosen anew."""
    body = chat("food")

    async def run(cut):
        sent = await Script(bbr(), request_body=mode).request({}, body, cut=cut)
        return sent.body, sent.reroute, sent.set_headers["x-gateway-base-model-name"]

    assert await at_every_cut(run, body) == (body, True, "llama")


@pytest.mark.parametrize("mode", MODES)
async def test_an_upload_is_rewritten_however_it_is_cut(mode):
    """The file's bytes, no UTF-8 and all, arrive as sent."""

    async def run(cut):
        return (await Script(bbr(), request_body=mode).request(UPLOAD, FORM, cut=cut)).body

    assert await at_every_cut(run, FORM) == FORM.replace(b"\r\n\r\nl\r\n", b"\r\n\r\nllama\r\n")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"model":"llama","messages":[', 400),
        (b'{"model":"l","mod\\u0065l":"l"}', 400),
        (chat("mistral"), 404),
    ],
)
async def test_a_refusal_is_the_same_however_the_body_is_cut(mode, body, status):
    """The client gets one JSON error, and nothing goes on."""

    async def run(cut):
        script = Script(bbr(), request_body=mode)
        sent = await script.request({}, body, cut=cut)
        return sent.rejected, script.close().outcome

    answer, outcome = await at_every_cut(run, body)
    assert answer is not None
    assert (answer.status, outcome) == (status, Outcome.REJECTED)
    assert json.loads(answer.body)["error"]["message"]


@pytest.mark.parametrize("mode", [*MODES, "STREAMED"])
async def test_trailers_end_a_body(mode):
    """The model is found, and the request goes on whole."""
    script = Script(bbr(), request_body=mode, early=True)
    sent = await script.request({}, ALIAS, cut=[7], trailers={"x-checksum": "1"})
    assert sent.body == REWRITTEN
    assert sent.set_headers["x-gateway-model-name"] == "llama"
    assert sent.complete


async def test_a_body_is_read_in_streamed_mode_too():
    """Where Envoy lets the headers wait for it."""
    sent = await Script(bbr(), request_body="STREAMED", early=True).request({}, ALIAS, cut=[3, 9])
    assert (sent.body, sent.set_headers["x-gateway-model-name"]) == (REWRITTEN, "llama")


async def test_without_the_body_the_answer_says_that_the_gateway_is_at_fault():
    """Body mode NONE is a misconfiguration."""
    sent = await Script(bbr(), request_body="NONE").request({}, chat())
    assert sent.rejected is not None
    assert sent.rejected.status == 500
    assert "router" in json.loads(sent.rejected.body)["error"]["message"]


@pytest.mark.parametrize("mode", [*MODES, "STREAMED", "NONE"])
async def test_the_models_are_listed_in_every_mode(mode):
    """The request has no body to wait for."""
    sent = await Script(bbr(), request_body=mode).request({":method": "GET", ":path": "/v1/models"})
    assert sent.rejected is not None
    assert sent.rejected.status == 200
    assert len(json.loads(sent.rejected.body)["data"]) == 5


@pytest.mark.parametrize("mode", [*MODES, "STREAMED", "NONE"])
@pytest.mark.parametrize("body", [b"", b"\x00\xff not for a model"])
async def test_what_is_not_for_a_model_passes_unchanged_in_every_mode(mode, body):
    """Requests of other routes."""
    sent = await Script(bbr(), request_body=mode).request({":path": "/upload"}, body, cut=[3] if body else [])
    assert sent.rejected is None
    assert (sent.body, dict(sent.set_headers)) == (body, {})
    assert sent.complete


@pytest.mark.parametrize("mode", MODES)
async def test_a_body_over_the_limit_is_a_413_in_the_clients_words(mode):
    """The transport counts, BBR finds the words."""
    script = Script(bbr(), request_body=mode, body_limit=50)
    sent = await script.request({":path": "/v1/messages"}, chat(), cut=[20])
    assert sent.rejected is not None
    assert sent.rejected.status == 413
    assert json.loads(sent.rejected.body)["error"]["type"] == "request_too_large"
