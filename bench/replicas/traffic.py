"""The load: seeded conversations or the beginning of a trace, streamed, and what each request got."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from bench.replicas.stack import MODEL
from tools.workload import mooncake
from tools.workload.conversations import Shape, conversations
from tools.workload.mooncake import Scale
from tools.workload.replay import Answer, replay
from tools.workload.requests import Message, TimedRequest
from tools.workload.text import pseudo_text

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT.parent / "shared/traces/mooncake_conversation_trace.jsonl"
STAND_IN = ROOT / "tests/workload/trace.jsonl"
LIMIT = 256
"""Requests in flight at most: far above what should be, so that the load stays an open loop."""
OK = 200


@dataclass(frozen=True, slots=True)
class Sample:
    """What came of one request. Times in seconds."""

    at: float
    """Since the load began."""
    status: int
    """0 when the connection broke."""
    complete: bool
    """The answer came to its end."""
    first: float
    """Until the first event."""
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def failed(self) -> bool:
        """Whether the client did not get what it asked for."""
        return self.status != OK or not self.complete


class Streaming:
    """Asks for streams and keeps a `Sample` of each."""

    def __init__(self, http: aiohttp.ClientSession, gateway: str, *, limit: int = LIMIT) -> None:
        self._http = http
        self._url = f"{gateway}/v1/chat/completions"
        self._slots = asyncio.Semaphore(limit)
        self._began = asyncio.get_running_loop().time()
        self.samples: list[Sample] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the load began."""
        return asyncio.get_running_loop().time() - self._began

    async def __call__(self, request: TimedRequest) -> Answer:
        """Send `request` and keep what came of it."""
        body = {**request.chat(MODEL), "stream": True, "stream_options": {"include_usage": True}}
        async with self._slots:
            began, status, first, data = self.elapsed, 0, 0.0, b""
            try:
                async with self._http.post(self._url, json=body) as response:
                    status = response.status
                    data = await response.content.readany()
                    first = self.elapsed - began
                    data += await response.read()
            except (aiohttp.ClientError, OSError):
                pass
        prompt, cached = usage_of(data) if status == OK else (0, 0)
        complete = data.rstrip().endswith(b"data: [DONE]")
        self.samples.append(Sample(began, status, complete, first, prompt, cached))
        return Answer(request, status)


def usage_of(stream: bytes) -> tuple[int, int]:
    """Return prompt tokens and cached ones as the end of a stream of events tells them."""
    for event in reversed(stream.split(b"\n\n")):
        if b'"usage":{' in event:
            usage = _CHUNK.decode(event.removeprefix(b"data: ")).usage
            return usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens
    return 0, 0


async def play(requests: Sequence[TimedRequest], gateway: str) -> list[Sample]:
    """Send every request at its time."""
    async with client() as http:
        streaming = Streaming(http, gateway)
        await replay(requests, streaming)
    return streaming.samples


def client() -> aiohttp.ClientSession:
    """Return a session that never waits for a connection."""
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))


def chats(seconds: float, *, rate: float, seed: int) -> list[TimedRequest]:
    """Return conversations that arrive for so long, `rate` requests a second on average.

    A session is four turns, and a fifth of the arrivals are bursts of six sessions.
    """
    arrivals = rate / 8
    shape = Shape(sessions=round(arrivals * 2 * seconds), tenants=12, arrivals_per_second=arrivals)
    return [request for request in conversations(shape, seed) if request.at < seconds]


def singles(count: int, *, seed: int) -> list[TimedRequest]:
    """Return single questions, each with a prompt of its own."""
    return [
        TimedRequest(0.0, "one", f"{number}", 0, (Message("user", pseudo_text(f"{seed}/{number}", 400)),), 8)
        for number in range(count)
    ]


def trace(path: Path, seconds: float, *, rate: float) -> list[TimedRequest]:
    """Return as much of the beginning of a trace as fills the time at `rate` requests a second.

    A block of 512 tokens becomes one of 32, answers a tenth of their length: little repeats early in the trace, so that
    it takes many requests.
    """
    with path.open("rb") as lines:
        records = list(itertools.islice(mooncake.read(lines), int(seconds * rate)))
    scale = Scale(block_tokens=32, answers=0.1)
    return _spread(list(mooncake.requests(records, scale)), seconds)


def _spread(requests: list[TimedRequest], seconds: float) -> list[TimedRequest]:
    """Return `requests` evenly over the time: the trace's own times are rounded to three seconds.

    Played as they are, a dozen requests would come at the same moment, before anybody could know of the others.
    """
    return [
        dataclasses.replace(one, at=number * seconds / len(requests)) for number, one in enumerate(requests)
    ]


def hit_rate(samples: Sequence[Sample]) -> float:
    """Return the share of the prompts' tokens that was found in a cache."""
    prompt = sum(sample.prompt_tokens for sample in samples)
    return sum(sample.cached_tokens for sample in samples) / prompt if prompt else 0.0


def window(samples: Sequence[Sample], begin: float, end: float) -> list[Sample]:
    """Return what was asked within these seconds."""
    return [sample for sample in samples if begin <= sample.at < end]


def percentile(values: Sequence[float], rank: float) -> float:
    """Return the value at nearest rank; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * rank), len(ordered) - 1)] if ordered else 0.0


def picks(access_log: Path) -> Iterator[tuple[float, float]]:
    """Yield when each request came, in seconds since the epoch, and how many its pick took as Envoy saw it."""
    with access_log.open("rb") as lines:
        for line in lines:
            told = _LINE.decode(line)
            if told.epp and told.epp.startswith("rh:"):
                yield told.time.timestamp(), int(told.epp.split(":")[1]) / 1e6


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    prompt_tokens_details: _Details = msgspec.field(default_factory=_Details)


class _Chunk(msgspec.Struct):
    usage: _Usage


class _Line(msgspec.Struct):
    time: dt.datetime
    epp: str | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_LINE = msgspec.json.Decoder(_Line)
