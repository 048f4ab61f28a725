"""Faults really fault, on the wire, and only what they are meant for."""

from __future__ import annotations

import asyncio
import hashlib

import aiohttp
import httpx
import pytest

from tests.model_server.conftest import ADAPTER, MODEL, client
from tools.model_server.core import Settings
from tools.model_server.server import serve

STREAM = {
    "model": MODEL,
    "stream": True,
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "hello"}],
}
WHOLE = STREAM | {"stream": False}
COMPLETIONS = "/v1/chat/completions"


@pytest.fixture
async def admin(server):
    """Return a client of the admin port, which no fault closes."""
    async with client(f"http://127.0.0.1:{server.admin_port}") as plain:
        yield plain


async def raw_exchange(server, body, headers=""):
    """Send one request over a bare socket; return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        f"POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    try:
        return await reader.read()
    finally:
        writer.close()


async def received(http, body, fault, **options):
    """Return what arrives of an answer before its connection breaks, and how it breaks."""
    got = b""
    try:
        async with http.stream(
            "POST", COMPLETIONS, json=body, headers={"x-mock-fault": fault}, **options
        ) as answer:
            async for data in answer.aiter_raw():
                got += data
    except httpx.TransportError as error:
        return got, type(error)
    return got, None


@pytest.mark.parametrize("after", [1, 100, 300])
@pytest.mark.parametrize("body", [STREAM, WHOLE], ids=["stream", "whole"])
async def test_an_answer_is_reset_after_so_many_bytes(http, body, after):
    """The bytes before the fault arrive, and not one more."""
    got, error = await received(http, body, f"reset-after={after}")
    assert len(got) == after
    assert error is httpx.ReadError


async def test_an_answer_is_reset_after_so_many_events(http):
    """`3e`: three server-sent events arrive whole."""
    got, error = await received(http, STREAM, "reset-after=3e")
    assert got.count(b"\n\n") == 3
    assert got.endswith(b"\n\n")
    assert error is httpx.ReadError


async def test_a_fault_past_the_end_does_not_strike(http):
    """The answer is shorter than that."""
    got, error = await received(http, STREAM, "reset-after=1000e")
    assert got.endswith(b"data: [DONE]\n\n")
    assert error is None


async def test_a_reset_is_a_tcp_reset(server):
    """RST, not an orderly end that a client may take for the end of the body."""
    with pytest.raises(ConnectionResetError):
        await raw_exchange(
            server,
            b'{"model":"%b","messages":[{"role":"user","content":"x"}]}' % MODEL.encode(),
            "x-mock-fault: reset-after=0\r\n",
        )


async def test_an_answer_stalls_and_its_client_can_leave(http):
    """The connection stays open without data."""
    got, error = await received(http, STREAM, "stall-after=2e", timeout=0.3)
    assert got.count(b"\n\n") == 2
    assert error is httpx.ReadTimeout
    assert (await http.get("/health")).status_code == 200


async def test_a_status_comes_instead_of_an_answer(http):
    """With an error body in the dialect's own form."""
    answer = await http.post(COMPLETIONS, json=WHOLE, headers={"x-mock-fault": "status=503"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, 503)
    answer = await http.post("/v1/messages", json=WHOLE, headers={"x-mock-fault": "status=529"})
    assert (answer.status_code, answer.json()["type"]) == (529, "error")


@pytest.mark.parametrize(
    "header", ["x-mock-fault", "x-mock-chunk-bytes", "x-mock-token-ms", "x-mock-ttft-ms"]
)
@pytest.mark.parametrize("value", ["reset-after=", "-1", "nan", "soon"])
async def test_a_steering_header_that_cannot_be_read_is_a_400(http, header, value):
    """A typo must not look like a fault that did not happen."""
    answer = await http.post(COMPLETIONS, json=WHOLE, headers={header: value})
    assert answer.status_code == 400
    assert header in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [STREAM, WHOLE], ids=["stream", "whole"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_the_wire_is_cut_where_the_request_says(server, body, size):
    """Every HTTP chunk has N bytes, and the answer is the same."""
    chunks, text = [], b""
    async with aiohttp.ClientSession(server.url) as session:
        async with session.post(COMPLETIONS, json=body, headers={"x-mock-chunk-bytes": str(size)}) as answer:
            async for data, end in answer.content.iter_chunks():
                text += data
                if end:
                    chunks.append(text)
                    text = b""
        async with session.post(COMPLETIONS, json=body) as answer:
            plain = await answer.read()
    assert {len(c) for c in chunks[:-1]} <= {size}
    assert len(chunks[-1]) <= size
    assert len(b"".join(chunks)) == len(plain)


async def test_tokens_come_at_the_pace_of_the_request(server, http):
    """The first after 60 ms, each further one 20 ms later; meanwhile the request counts as running."""
    clock = asyncio.get_running_loop().time
    headers = {"x-mock-ttft-ms": "60", "x-mock-token-ms": "20"}
    start, times, running = clock(), [], []
    async with http.stream("POST", COMPLETIONS, json=STREAM | {"max_tokens": 4}, headers=headers) as answer:
        async for line in answer.aiter_lines():
            if '"content"' in line:
                times.append(clock() - start)
                running.append(server.core.loop.running)
    assert times[0] >= 0.06
    assert times[-1] >= 0.06 + 3 * 0.02
    assert running[:-1] == [1] * (len(running) - 1)  # the last piece arrives with the end
    assert server.core.loop.running == 0


async def test_a_plain_answer_keeps_the_pace_too(http):
    """It comes when its last token would."""
    clock = asyncio.get_running_loop().time
    start = clock()
    await http.post(COMPLETIONS, json=WHOLE | {"max_tokens": 5}, headers={"x-mock-token-ms": "20"})
    assert clock() - start >= 4 * 0.02


async def test_a_client_that_leaves_cancels_its_request(server, http):
    """Engine and blocks are free again at once."""
    body = STREAM | {"max_tokens": 1_000_000}
    async with http.stream("POST", COMPLETIONS, json=body) as answer:
        await anext(answer.aiter_bytes())
        assert server.core.loop.running == 1
    async with asyncio.timeout(5):
        while server.core.loop.running:  # noqa: ASYNC110 - the server tells no one
            await asyncio.sleep(0.005)
    assert server.core.loop.engine.kv.usage == 0
    assert server.core.loop.aborted == 1


async def test_the_whole_server_can_fail_and_recover(http, admin):
    """Answers fail; health and metrics do not."""
    await admin.post("/admin/faults", json={"status": 500})
    assert (await http.post(COMPLETIONS, json=WHOLE)).status_code == 500
    assert (await http.get("/health")).status_code == (await http.get("/metrics")).status_code == 200
    await admin.post("/admin/faults", json={"reset_after": "1e"})
    with pytest.raises(httpx.ReadError):
        await http.post(COMPLETIONS, json=STREAM)
    await admin.delete("/admin/faults")
    assert (await http.post(COMPLETIONS, json=WHOLE)).status_code == 200


async def eventually_refused(url):
    """Wait until nobody listens at `url`."""
    async with asyncio.timeout(5):
        while True:
            try:
                async with client(url) as plain:
                    await plain.get("/health")
            except httpx.ConnectError:
                return
            except httpx.TransportError:
                continue


async def eventually_serves(url):
    """Wait until `url` answers."""
    async with asyncio.timeout(5):
        while True:
            try:
                async with client(url) as plain:
                    assert (await plain.get("/health")).status_code == 200
            except httpx.TransportError:
                await asyncio.sleep(0.01)
            else:
                return


async def test_refusing_closes_the_port_and_resets_who_is_connected(server, http, admin):
    """Connection refused for new clients, reset for those in the middle of an answer, until told otherwise."""
    async with http.stream(
        "POST", COMPLETIONS, json=STREAM, headers={"x-mock-fault": "stall-after=1e"}
    ) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        await admin.post("/admin/faults", json={"refuse": True})
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await anext(pieces)
    await eventually_refused(server.url)
    await admin.delete("/admin/faults")
    await eventually_serves(server.url)


async def test_a_fault_can_end_by_itself(server, http):
    """So that the port that refuses can be its own way back; the request that asks for it is answered."""
    assert (await http.post("/admin/faults", json={"refuse": True, "seconds": 0.2})).status_code == 200
    await eventually_refused(server.url)
    await eventually_serves(server.url)


async def test_a_restart_loses_the_cache(server, http, admin):
    """`start_delay`: away for a while, then back with nothing cached."""

    async def cached():
        body = WHOLE | {"messages": [{"role": "user", "content": "x" * 400}]}
        return (await http.post(COMPLETIONS, json=body)).json()["usage"]["prompt_tokens_details"][
            "cached_tokens"
        ]

    assert [await cached(), await cached()] == [0, 96]
    await admin.post("/admin/faults", json={"start_delay": 0.2})
    await eventually_refused(server.url)
    await eventually_serves(server.url)
    assert await cached() == 0


async def test_a_slow_server_is_slow(server, admin):
    """Every time of the engine is multiplied, and comes back."""
    normal = server.core.loop.engine.profile
    await admin.post("/admin/faults", json={"slow": 4})
    assert server.core.loop.engine.profile.decode_base == pytest.approx(4 * normal.decode_base)
    await admin.delete("/admin/faults")
    assert server.core.loop.engine.profile == normal


@pytest.mark.parametrize(
    "faults", [{"refsue": True}, {"reset_after": "soon"}, {"slow": 0}, {"status": "x"}, []]
)
async def test_faults_that_cannot_be_read_change_nothing(admin, faults):
    """A typo is a 400."""
    assert (await admin.post("/admin/faults", json=faults)).status_code == 400
    assert (await admin.get("/admin/state")).json()["faults"]["reset_after"] is None


async def test_a_delayed_start_refuses_first():
    """The port opens when the weights would be loaded."""
    async with serve(Settings(start_delay=0.2), admin_port=0) as server:
        assert server.port == 0
        async with asyncio.timeout(5):
            while not server.port:  # noqa: ASYNC110 - the server tells no one
                await asyncio.sleep(0.01)
        await eventually_serves(server.url)


async def test_what_reached_the_server_can_be_asked(http, admin):
    """Headers in order with repeated ones, length and digest of the body, by request id."""
    body = b'{"model": "%b",  "messages":[{"role":"user","content":"x"}]}' % ADAPTER.encode()
    headers = [("x-request-id", "r-1"), ("x-twice", "a"), ("x-twice", "b")]
    await http.post(COMPLETIONS, content=body, headers=headers)
    seen = (await admin.get("/admin/requests/r-1")).json()
    assert [pair for pair in seen["headers"] if pair[0] == "x-twice"] == [["x-twice", "a"], ["x-twice", "b"]]
    assert (seen["body_length"], seen["body_sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    state = (await admin.get("/admin/state")).json()
    assert state["requests"] == {COMPLETIONS: 1}
    assert state["models"] == {ADAPTER: 1}
    assert state["last"] == [seen]
    await admin.delete("/admin/state")
    assert (await admin.get("/admin/requests/r-1")).status_code == 404
