"""Each service's whole part in one exchange, with the configuration of `config/` and all but gRPC: bytes to bytes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.chain.backend import STREAM_EVENTS
from bench.chain.workload import MODEL, Workload
from bench.cost.prompts import SIZES, label
from bench.cost.protocol import LIMIT, body, request_headers, response_body, response_headers
from bench.cost.scheduling import director
from bench.cost.timing import Case
from services.bbr.__main__ import build as build_bbr
from services.bbr.config import Config as BbrConfig
from services.epp.service import EndpointPicker
from services.extproc import wire
from services.extproc.budget import Budget
from services.extproc.config import load
from services.extproc.conversation import Conversation
from services.extproc.exchange import Service
from services.extproc.lifecycle import App, Parts
from services.extproc.log import configure
from services.extproc.observe import Observers
from services.extproc.prometheus import StreamMetrics
from services.openai.dialects import Dialect
from services.openai.digest import digest_of, encode
from services.openai.peek import peek
from services.safety.__main__ import build as build_safety
from services.safety.config import SafetyConfig

CONFIG = Path(__file__).parents[2] / "config"
EVENTS = 400
TEXTS = 256  # different prompts before one comes again
T = TypeVar("T")


class Stage:
    """One service with its metrics, ready for conversations."""

    def __init__(self, service: Service, parts: Parts) -> None:
        self._service = service
        self._budget = Budget(64 * LIMIT)
        self._observer = Observers([StreamMetrics(service.name, parts.registry)])

    def exchange(self, messages: Iterable[bytes]) -> None:
        """Hold one conversation."""
        conversation = Conversation(
            self._service, {}, body_limit=LIMIT, budget=self._budget, observer=self._observer
        )
        for message in messages:
            for reply in _now(conversation.receive(wire.decode(message))):
                for _ in wire.encode(reply):
                    pass
        conversation.close()


def cases() -> Iterator[Case]:
    """Yield request and answer, for each service that sees them."""
    configure("warning")
    bbr, safety, epp = asyncio.run(_stages())
    for size in SIZES:
        buffered = _messages(size)
        yield Case("service", f"BBR, request of {label(size)}", partial(_next, bbr, buffered))
        yield Case("service", f"safety, request of {label(size)}", partial(_next, safety, buffered))
        yield Case("service", f"EPP, request of {label(size)}", partial(_next, epp, _digests(size)))
    yield Case("service", "safety, per streamed event", partial(safety.exchange, _streamed()), EVENTS)


async def _stages() -> tuple[Stage, Stage, Stage]:
    ours, theirs, parts = Parts(), Parts(), Parts()
    async with (
        build_bbr(load(CONFIG / "bbr.yaml", BbrConfig), ours) as bbr,
        build_safety(load(CONFIG / "safety.yaml", SafetyConfig), theirs) as safety,
    ):
        picker = App(EndpointPicker(director(16)))
        return Stage(bbr.service, ours), Stage(safety.service, theirs), Stage(picker.service, parts)


def _streamed() -> list[bytes]:
    """Return a short request and its answer in so many events that the request hardly counts."""
    events = [event.partition(b"\r\n")[2][:-2] for event in STREAM_EVENTS] * (EVENTS // len(STREAM_EVENTS))
    return [
        request_headers("BUFFERED", {"x-gateway-model-name": MODEL}, answer="FULL_DUPLEX_STREAMED"),
        body(b'{"model":"m","messages":[]}', end=True),
        response_headers(),
        *(response_body(event, end=False) for event in events[:-1]),
        response_body(events[-1], end=True),
    ]


def _messages(size: int) -> Iterator[list[bytes]]:
    bodies = (request.partition(b"\r\n\r\n")[2] for request in Workload(size, stream=False).requests())
    head = request_headers("BUFFERED", {"x-gateway-model-name": MODEL})
    return itertools.cycle([[head, body(text, end=True)] for text in itertools.islice(bodies, TEXTS)])


def _digests(size: int) -> Iterator[list[bytes]]:
    bodies = (request.partition(b"\r\n\r\n")[2] for request in Workload(size, stream=False).requests())
    seen = (peek(text, Dialect.CHAT) for text in itertools.islice(bodies, TEXTS))
    texts = [encode(digest_of(one, one.model)) for one in seen]
    return itertools.cycle([[request_headers("NONE", {}, {"gw.bbr": {"digest": text}})] for text in texts])


def _next(stage: Stage, exchanges: Iterator[list[bytes]]) -> None:
    stage.exchange(next(exchanges))


def _now(work: Coroutine[object, None, T]) -> T:
    """Run what never waits for anything, without an event loop."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("the decision waits for something")
