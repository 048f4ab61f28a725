from __future__ import annotations

import gzip
import json
import zlib

import pytest

from services.extproc.script import Script
from services.safety import encoded
from services.safety.encoded import TooLarge, pack, unpack
from services.safety.service import Safety
from tests.safety import kit
from tests.safety.exchange import JSON, Exchange, Heard, prompt

RAW = zlib.compressobj(wbits=-15)
BODY = kit.body(prompt("pay 4111 1111 1111 1111 now"))
PACKED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "GZIP": gzip.compress(BODY),
}


@pytest.mark.parametrize("encoding", PACKED)
async def test_a_compressed_prompt_is_read_and_packed_again(encoding):
    """Masked inside, in the coding that the header names; a secret is refused; clean, it goes on as it came."""
    headers = {"content-encoding": encoding}
    sent = await Exchange().ask(PACKED[encoding], headers=headers)
    assert unpack(sent.body, encoding.lower()) == BODY.replace(b"4111 1111 1111 1111", b"[REDACTED:card]")
    secret = await Exchange().ask(pack(kit.body(prompt(kit.SECRET)), encoding), headers=headers)
    assert secret.rejected.status == 403
    clean = pack(kit.body(prompt("hello")), encoding)
    assert (await Exchange().ask(clean, headers=headers)).body == clean


async def test_a_compressed_answer_is_read_too():
    """Where a server compresses without being asked."""
    script = Script(Safety(kit.demo(), Heard(), b"key"), response_body="FULL_DUPLEX_STREAMED")
    await script.request({":path": "/v1/chat/completions", **JSON}, kit.body(prompt("hi")))
    document = {"choices": [{"index": 0, "message": {"role": "assistant", "content": kit.SECRET}}]}
    answer = await script.response(
        200, {**JSON, "content-encoding": "gzip"}, gzip.compress(kit.body(document))
    )
    said = json.loads(gzip.decompress(answer.body))["choices"][0]["message"]["content"]
    assert said == "[REDACTED:aws-access-key]"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not gzip", 400),
        (PACKED["gzip"][:-4], 400),
        (PACKED["gzip"] + b"more", 400),
        (PACKED["gzip"] + PACKED["gzip"], 400),
        (gzip.compress(b"{"), 400),
    ],
)
async def test_what_does_not_unpack_is_refused(body, status):
    """Cut short, followed by something that another reader might take, or no JSON inside."""
    sent = await Exchange().ask(body, headers={"content-encoding": "gzip"})
    assert sent.rejected.status == status


async def test_a_bomb_is_refused_before_it_goes_off(monkeypatch):
    """No more than the limit is ever unpacked."""
    monkeypatch.setattr(encoded, "LIMIT", 1000)
    with pytest.raises(TooLarge):
        unpack(gzip.compress(b"0" * 1_000_000), "gzip", 1000)
    assert unpack(gzip.compress(b"0" * 1000), "gzip", 1000) == b"0" * 1000


def test_deflate_without_its_header_is_deflate_too():
    """Some clients send it so."""
    assert unpack(RAW.compress(BODY) + RAW.flush(), "deflate") == BODY
