from __future__ import annotations

import asyncio
import json
import subprocess
import time
from typing import Any

import pytest
import redis.asyncio

from services.extproc.config import parse
from services.safety.audit import Record
from services.safety.audit_config import FileSink, RedisSink
from services.safety.audit_redis import RedisWriter
from services.safety.audit_sinks import FileWriter, Sink
from services.safety.audit_versions import Versions, versions
from services.safety.checks.rules import built_in
from services.safety.config import SafetyConfig
from services.safety.verdict import Action, Direction, Finding, Located, State, Verdict
from tests.safety import kit
from tools.gateway.binaries import find

VERSIONS = Versions({"card": "c1", "iban": "i1"}, {"default": "d1"})


def record(number=0):
    found = Located(Finding("card", 3, 19, "pii"), ("messages", 0, "content"), Action.REDACT)
    verdict = Verdict(Action.REDACT, State.JUDGED, (found,))
    return Record(Direction.PROMPT, verdict, "default", "m", f"r-{number}")


class Memory:
    """A writer that keeps lines, and fails or waits when told to."""

    def __init__(self, *, failures=0):
        self.lines, self.failures = [], failures
        self.wrote = asyncio.Event()
        self.closed = False

    async def write(self, lines):
        if self.failures:
            self.failures -= 1
            raise OSError("disk full")
        self.lines += lines
        self.wrote.set()

    async def close(self):
        self.closed = True


async def at_once(seconds):
    await asyncio.sleep(0)


def sink(writer, *, limit=100):
    dropped: list[str] = []
    made = Sink(
        "file", writer, VERSIONS, limit=limit, dropped=dropped.append, now=lambda: "then", sleep=at_once
    )
    return made, dropped


async def test_a_record_says_by_which_rules_and_policy():
    """Their versions, the time, and never the text."""
    writer = Memory()
    made, _ = sink(writer)
    async with made.running():
        made.verdict(record())
        await writer.wrote.wait()
    (line,) = map(json.loads, writer.lines)
    assert (line["time"], line["policy_digest"], line["rule_versions"]) == ("then", "d1", {"card": "c1"})
    assert writer.closed


async def test_what_waits_at_the_end_is_written():
    """A stop loses nothing that a sink can take."""
    writer = Memory()
    made, dropped = sink(writer)
    async with made.running():
        for number in range(600):
            made.verdict(record(number)) if number < 100 else None
    assert (len(writer.lines), dropped) == (100, [])


async def test_a_full_sink_drops_and_counts_and_blocks_nobody():
    """The verdict goes on; the loss is a metric."""
    writer = Memory(failures=10**6)
    made, dropped = sink(writer, limit=3)
    async with made.running():
        for number in range(5):
            made.verdict(record(number))
    assert dropped == ["file"] * 5, "two at once, and three that could not be written at the end"


async def test_a_write_that_fails_is_tried_again_in_order():
    """Nothing is lost and nothing is swapped."""
    writer = Memory(failures=2)
    made, dropped = sink(writer)
    async with made.running():
        for number in range(3):
            made.verdict(record(number))
        await writer.wrote.wait()
    assert [json.loads(line)["request_id"] for line in writer.lines] == ["r-0", "r-1", "r-2"]
    assert not dropped


async def test_a_file_is_rotated_by_size_and_read_by_its_owner_alone(tmp_path):
    """Old ones count upwards, the oldest goes."""
    path = tmp_path / "audit.jsonl"
    writer = FileWriter(FileSink(path=str(path), max_bytes=4096, keep=2))
    for letter in b"abcd":
        await writer.write([bytes([letter]) * 3000])
    files = {name.name: name.read_bytes()[:1] for name in tmp_path.iterdir()}
    assert files == {"audit.jsonl": b"d", "audit.jsonl.1": b"c", "audit.jsonl.2": b"b"}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def socket(tmp_path):
    """Start a real server of the Redis protocol, on a socket."""
    path = tmp_path / "redis.sock"
    arguments = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen([find().redis, *arguments], stdout=subprocess.DEVNULL) as process:
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield f"unix://{path}"
        process.terminate()


async def test_records_stand_in_a_redis_stream(socket):
    """In order, one entry each."""
    writer = RedisWriter(RedisSink(url=socket, stream="s"))
    made, dropped = sink(writer)
    async with made.running():
        for number in range(3):
            made.verdict(record(number))
    async with redis.asyncio.from_url(socket) as client:
        entries: Any = await client.xrange("s")
    assert [json.loads(entry[b"record"])["request_id"] for _, entry in entries] == ["r-0", "r-1", "r-2"]
    assert not dropped


async def test_without_a_server_records_wait_and_are_counted_at_last(tmp_path):
    """An unreachable Redis is no error of a request."""
    made, dropped = sink(RedisWriter(RedisSink(url=f"unix://{tmp_path}/none.sock")))
    async with made.running():
        made.verdict(record())
    assert dropped == ["file"]


def test_versions_change_with_what_they_stand_for():
    """A rule's with its definition, a policy's with its own text and with any rule."""
    config = parse(kit.CONFIG, SafetyConfig)
    rules = built_in()
    known = versions(config, rules)
    assert known == versions(parse(kit.CONFIG, SafetyConfig), built_in())
    stricter = versions(
        parse(kit.CONFIG.replace("hold_limit: 1014", "hold_limit: 1015"), SafetyConfig), rules
    )
    changed = {name for name in known.policies if known.policies[name] != stricter.policies[name]}
    assert changed == {"strict"}
    fewer = versions(config, rules[1:])
    assert all(known.policies[name] != fewer.policies[name] for name in known.policies)
