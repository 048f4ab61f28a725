"""Bodies through the whole gateway, byte for byte, both ways, over HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.gateway.stack import BASE, Gateway
from tools.workload.text import pseudo_text

pytestmark = pytest.mark.e2e

MB = 1_000_000
JSON = {"content-type": "application/json"}


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def http(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """Return a client that speaks one version; HTTP/2 with prior knowledge, as there is no TLS."""
    second = request.param == "HTTP/2"
    with httpx.Client(http1=not second, http2=second, timeout=60) as client:
        yield client


def arrived(gateway: Gateway, body: bytes) -> bool:
    """Say whether a server got exactly `body`."""
    wanted = (len(body), hashlib.sha256(body).hexdigest())
    return any(wanted in gateway.state(server).bodies() for server in gateway.servers)


def chat_body(size: int) -> bytes:
    """Return a chat request of exactly `size` bytes, with text that needs no escape."""
    empty = json.dumps({"model": BASE, "max_tokens": 1, "messages": [{"role": "user", "content": ""}]})
    text = pseudo_text(f"body-{size}", size)[: size - len(empty)]
    return empty.replace('"content": ""', f'"content": "{text}"').encode()


@pytest.mark.parametrize("size", [200, 16_384, 62_001, 65_536, 300_000, MB])
def test_a_chat_request_arrives_as_it_was_sent(gateway, http, size):
    """Sizes on both sides of the limits that Envoy, gRPC and HTTP/2 have for their pieces."""
    body = chat_body(size)
    answer = http.post(f"{gateway.gateway}/v1/chat/completions", content=body, headers=JSON)
    assert answer.status_code == 200
    assert len(body) == size
    assert arrived(gateway, body)


@pytest.mark.parametrize("size", [4 * MB, 8 * MB])
def test_a_long_upload_arrives_as_it_was_sent(gateway, http, size):
    """Embeddings cost the mock server nothing, however long the text."""
    body = json.dumps({"model": BASE, "input": pseudo_text(f"upload-{size}", size // 4)}).encode()
    answer = http.post(f"{gateway.gateway}/v1/embeddings", content=body, headers=JSON)
    assert answer.status_code == 200
    assert arrived(gateway, body)


@pytest.mark.parametrize("size", [0, 1, 100_000, MB, 2_900_000])
def test_a_long_answer_is_the_same_as_without_the_gateway(gateway, http, size):
    """`/tokenize` answers with about three bytes per byte, 8 MB for the longest; its ids hold the whole text."""
    body = json.dumps({"model": BASE, "prompt": pseudo_text("tokenize", size // 4 + 1)[:size]}).encode()
    answer = http.post(f"{gateway.gateway}/tokenize", content=body, headers=JSON)
    direct = gateway.http.post(f"{gateway.endpoints['llama'][0]}/tokenize", content=body, headers=JSON)
    assert answer.status_code == direct.status_code == 200
    assert answer.content == direct.content


def test_an_empty_body_reaches_nobody(gateway, http):
    """No bytes are no request for a model."""
    before = [gateway.state(server).raw["requests"] for server in gateway.servers]
    answer = http.post(f"{gateway.gateway}/v1/chat/completions", content=b"", headers=JSON)
    assert answer.status_code == 400
    assert [gateway.state(server).raw["requests"] for server in gateway.servers] == before


@pytest.mark.parametrize("stream", [False, True])
def test_text_comes_back_whatever_it_holds(gateway, http, stream):
    """Escapes, wide characters and characters outside the first plane, cut by the wire after every byte."""
    text = 'a "quoted" \\ line\n\ttab, café, 日本語, 𝄞 and 👩‍👩‍👧 — done'
    body = {"model": BASE, "stream": stream, "messages": [{"role": "user", "content": f"echo: {text}"}]}
    headers = {"x-mock-chunk-bytes": "1"}
    answer = http.post(f"{gateway.gateway}/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200
    assert answered(answer) == text


def answered(answer: httpx.Response) -> str:
    """Return the text of a chat answer, streamed or not; a stream must end with its last event."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return str(answer.json()["choices"][0]["message"]["content"])
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    deltas = [json.loads(event.removeprefix("data: "))["choices"] for event in events]
    return "".join(choice["delta"].get("content") or "" for choices in deltas for choice in choices)


def test_an_alias_changes_the_bytes_of_the_model_and_no_other(gateway, http):
    """Order, spaces, big integers, escapes and unknown fields arrive as the client wrote them."""
    body = (
        b'{ "seed":12345678901234567890,"x": {"model" : "llama"}, "model"\t:  "llama" ,'
        b'"temperature":1.0e0,"max_tokens":1,\n"messages":[{"content":"h\\u00e9 \\ud834\\udd1e","role":"user"}],"b":[ ]}'
    )
    answer = http.post(f"{gateway.gateway}/v1/chat/completions", content=body, headers=JSON)
    assert answer.status_code == 200
    assert arrived(gateway, body.replace(b'\t:  "llama"', b'\t:  "llama-3.1-8b-instruct"'))


def test_many_sizes_at_random(gateway, http):
    """Nothing depends on a particular size."""
    rng = random.Random(1)
    for _ in range(20):
        body = chat_body(rng.randrange(150, 200_000))
        assert (
            http.post(f"{gateway.gateway}/v1/chat/completions", content=body, headers=JSON).status_code == 200
        )
        assert arrived(gateway, body)
