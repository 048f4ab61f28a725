"""Every form of URL leads to a real server of its kind."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import RedisError, ResponseError

from services.epp.config import Redis as Settings
from services.epp.state.client import Cluster, Server, connect
from services.extproc.config import ConfigError
from tests.epp.stack import LOOPBACK, fake_server, free_port, until
from tests.epp.state.test_app import running
from tests.epp.state.world import VALKEY, Valkey, valkey
from tests.epp.world import digest, text

TLS = Path(__file__).parents[2] / "extproc/tls"


async def pong(client: Server | Cluster) -> bool:
    """Write and read under the hash tag of a pool."""
    try:
        setting = ("SET", "igw:{llama}:test", "x", "PX", 1000)
        answers = [await client.execute(setting, ("GET", "igw:{llama}:test")) for _ in range(2)]
        for answer in answers:
            refused = next((one for one in answer if isinstance(one, RedisError)), None)
            if refused is not None:
                raise refused
        return [got for _, got in answers] == [b"x", b"x"]
    finally:
        await client.aclose()


async def until_says(client: Redis, part: bytes, *command: str) -> None:
    """Wait until an answer has `part` in it; pytest's timeout is the bound."""
    while True:
        answer = await client.execute_command(*command)
        text = answer if isinstance(answer, bytes) else repr(answer).encode()
        if part in text:
            return
        await asyncio.sleep(0.02)


async def answers(url: str, environment: dict[str, str] | None = None, **more) -> bool:
    async with asyncio.timeout(5):
        return await pong(connect(Settings(url=url, **more), environment or {}))


async def test_the_password_of_a_user_comes_from_the_url_the_environment_or_a_file(tmp_path):
    """In this order of convenience; the file wins."""
    file = tmp_path / "password"
    file.write_text("open sesame\n")
    async with valkey() as server, server.client() as admin:
        await admin.execute_command("ACL", "SETUSER", "epp", "on", ">open sesame", "~igw:*", "+@all")
        host = f"{LOOPBACK}:{server.port}"
        assert await answers(f"redis://epp:open%20sesame@{host}/0")
        assert await answers(f"redis://epp@{host}", {"INFERENCE_GATEWAY_REDIS_PASSWORD": "open sesame"})
        assert await answers(f"redis://epp:wrong@{host}", password_file=str(file))
        with pytest.raises(RedisError, match="invalid username-password"):
            await answers(f"redis://epp:wrong@{host}")


@contextlib.asynccontextmanager
async def behind_tls(target: int) -> AsyncIterator[int]:
    """Run a TLS server that asks for a client's certificate, in front of a plain one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(TLS / "client.pem"))
    context.load_cert_chain(TLS / "first.pem", TLS / "first.key")
    context.verify_mode = ssl.CERT_REQUIRED

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(LOOPBACK, target)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_tls_checks_the_server_and_shows_our_certificate():
    """By redis-py's parameters in the URL."""
    async with valkey() as server, behind_tls(server.port) as port:
        ours = f"ssl_certfile={TLS}/client.pem&ssl_keyfile={TLS}/client.key"
        good = f"rediss://localhost:{port}/0?ssl_ca_certs={TLS}/first.pem&{ours}"
        assert await answers(good)
        with pytest.raises((RedisError, OSError)):
            await answers(good.replace("first.pem", "second.pem"))


@contextlib.asynccontextmanager
async def cluster(count: int) -> AsyncIterator[list[Valkey]]:
    """Run a cluster of primaries that share the slots."""
    async with contextlib.AsyncExitStack() as stack:
        nodes = []
        for _ in range(count):
            name = f"nodes-{free_port()}.conf"
            options = ("--cluster-enabled", "yes", "--cluster-config-file", name, "--dir", "/tmp")
            port = str(free_port())
            nodes.append(await stack.enter_async_context(valkey(*options, "--cluster-port", port)))
            stack.callback((Path("/tmp") / name).unlink, missing_ok=True)
            nodes[-1].bus = port
        clients = [await stack.enter_async_context(node.client()) for node in nodes]
        step = 16384 // count
        for number, client in enumerate(clients):
            last = 16383 if number == count - 1 else (number + 1) * step - 1
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * step, last)
            await client.execute_command("CLUSTER", "MEET", LOOPBACK, nodes[0].port, nodes[0].bus)
        for client in clients:
            for part in (b"cluster_state:ok", f"known_nodes:{count}".encode()):
                await until_says(client, part, "CLUSTER", "INFO")
        yield nodes


async def test_a_cluster_has_all_of_a_pool_in_one_slot():
    """Pickers share through it as through one server."""
    async with cluster(2) as nodes, fake_server() as llm:
        url = f"redis+cluster://{LOOPBACK}:{nodes[1].port},{LOOPBACK}:{nodes[0].port}"
        assert await answers(url)
        async with running(url, llm.address) as ours, running(url, llm.address) as theirs:
            await until(lambda: ours.replicas() == theirs.replicas() == 2)
            ours.pick(digest(text(500, 1)))
            await until(lambda: theirs.requests() == 1)


@contextlib.asynccontextmanager
async def sentinel(primary: int, folder: Path) -> AsyncIterator[int]:
    """Run a Sentinel that watches `primary` as the service `epp`."""
    port, file = free_port(), folder / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind {LOOPBACK}\nsentinel monitor epp {LOOPBACK} {primary} 1\n"
        "sentinel down-after-milliseconds epp 300\nsentinel failover-timeout epp 2000\n"
    )
    process = await asyncio.create_subprocess_exec(
        str(VALKEY), str(file), "--sentinel", stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.kill()
        await process.wait()


async def test_a_sentinel_names_the_primary_before_and_after_a_failover(tmp_path):
    """What was shared before is known to who is asked after, and sharing goes on."""
    async with (
        valkey() as primary,
        valkey("--replicaof", LOOPBACK, str(primary.port), "--repl-diskless-load", "on-empty-db") as replica,
        sentinel(primary.port, tmp_path) as port,
        fake_server() as llm,
        replica.client() as second,
    ):
        url = f"redis+sentinel://{LOOPBACK}:{free_port()},{LOOPBACK}:{port}/epp/0"
        quick = {"lease_seconds": 1.0, "timeout_seconds": 0.5}
        async with running(url, llm.address, **quick) as ours, running(url, llm.address, **quick) as theirs:
            await until(lambda: ours.replicas() == theirs.replicas() == 2)
            await until_says(second, b"'master_link_status': 'up'", "INFO", "replication")
            async with Valkey(port).client() as watcher:
                await until_says(watcher, b"'slaves': 1", "INFO", "sentinel")
            await primary.stop()
            prompt = digest(text(500, 1))
            ours.pick(prompt)
            known = theirs.pool.prefixes.match
            await until(lambda: bool(known(prompt.blocks)) and ours.replicas() == theirs.replicas() == 2)
            role = (await second.execute_command("ROLE"))[0]

    assert role == b"master"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://x", "expected redis://"),
        ("redis://h:port", "redis.url"),
        ("redis+sentinel://h:1,h:2", "names the service"),
        ("redis+cluster://h:1/x/0", "a cluster has no path"),
        ("redis+cluster://,h:1", "expected host:port"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_at_the_start(url, message):
    """With its place in the file."""
    with pytest.raises(ConfigError, match=message):
        connect(Settings(url=url), {})


def test_a_password_file_that_is_not_there_is_refused(tmp_path):
    """Better than to be refused by Redis all day."""
    with pytest.raises(ConfigError, match="password_file"):
        connect(Settings(url="redis://h", password_file=str(tmp_path / "none")), {})


async def test_a_refusal_is_an_answer_among_others_and_the_connection_goes_on():
    """What was asked after it is answered too."""
    async with valkey() as server:
        client = connect(Settings(url=server.url), {})
        first = await client.execute(("SET", "a", "x"), ("XADD", "a", "*", "b", "c"), ("GET", "a"))
        again = await client.execute(("GET", "a"))
        async with server.client() as admin:
            connections = len(await admin.client_list()) - 1
        await client.aclose()

    assert isinstance(first[1], ResponseError)
    assert (first[0], first[2], again) == (b"OK", b"x", [b"x"])
    assert connections == 1


async def test_what_is_given_up_leaves_no_answer_for_the_next():
    """A connection whose answer nobody waited for is closed."""
    async with valkey() as server:
        client = connect(Settings(url=server.url), {})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.execute(("XREAD", "BLOCK", 200, "STREAMS", "a", "$"))
        answer = await client.execute(("SET", "a", "x"), ("GET", "a"))
        await client.aclose()

    assert answer == [b"OK", b"x"]


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_that_is_being_closed_breaks_in_one_way_only(turns):
    """Another pool's exchange closes all of them when the server is no primary any more.

    The loop that services run in has an error of its own for what is written then. The next exchange connects anew.
    """

    async def scenario() -> None:
        async with valkey() as server:
            client = connect(Settings(url=server.url))
            assert isinstance(client, Server)
            try:
                assert await client.execute(("PING",)) == [b"PONG"]
                (connection,) = client._idle
                async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                    group.create_task(connection.disconnect())
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    with contextlib.suppress(ConnectionFailed):
                        assert await client.execute(("PING",)) == [b"PONG"]
                assert await client.execute(("PING",)) == [b"PONG"]
            finally:
                await client.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
