"""What safety's exact mode adds to the first piece of a clean streamed answer, its head included."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator

from bench.chain.workload import MODEL
from bench.cost.protocol import LIMIT, body, request_headers, response_body, response_headers
from bench.cost.services import CONFIG
from services.extproc import wire
from services.extproc.budget import Budget
from services.extproc.config import load
from services.extproc.conversation import Conversation
from services.extproc.exchange import Service
from services.extproc.lifecycle import Parts
from services.extproc.log import configure
from services.extproc.observe import Observers
from services.safety.__main__ import build
from services.safety.config import SafetyConfig

ROUNDS = 300
FORMS = {
    "chat": b'{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":"%s"},"finish_reason":null}]}',
    "completions": b'{"id":"c","object":"text_completion","created":1,"model":"m","choices":'
    b'[{"index":0,"text":"%s","finish_reason":null}]}',
    "messages": b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}',
    "responses": b'{"type":"response.output_text.delta","item_id":"i","output_index":0,"content_index":0,'
    b'"delta":"%s","sequence_number":4}',
}
"""The first event with text in it: nothing is known of the stream's shape yet."""


def main() -> None:
    """Print the added time to first token, in µs of CPU time: the machine does other things too, for each dialect."""
    configure("warning")
    print("| dialect | p50, µs | p99, µs | held bytes |\n| --- | ---: | ---: | ---: |")
    for name, (times, held) in asyncio.run(_all()).items():
        p99 = statistics.quantiles(times, n=100)[-1]
        print(f"| {name} | {statistics.median(times):.0f} | {p99:.0f} | {held} |")


async def _all() -> dict[str, tuple[list[float], int]]:
    async with build(load(CONFIG / "safety.yaml", SafetyConfig), Parts()) as app:
        return {name: await _times(app.service, form) for name, form in FORMS.items()}


async def _times(service: Service, form: bytes) -> tuple[list[float], int]:
    times, held = [], 0
    for word in _words():
        event = b"data: " + form % word + b"\n\n"
        conversation = Conversation(
            service, {}, body_limit=LIMIT, budget=Budget(64 * LIMIT), observer=Observers()
        )
        for message in (
            request_headers("BUFFERED", {"x-gateway-model-name": MODEL}, answer="FULL_DUPLEX_STREAMED"),
            body(b'{"model":"m","messages":[]}', end=True),
        ):
            await conversation.receive(wire.decode(message))
        began = time.process_time()
        sent = 0
        for message in (response_headers(), response_body(event, end=False)):
            for reply in await conversation.receive(wire.decode(message)):
                sent += sum(map(len, wire.encode(reply)))
        times.append(1e6 * (time.process_time() - began))
        held = max(held, len(event) - sent)
        conversation.close()
    return times, held


def _words() -> Iterator[bytes]:
    for number in range(ROUNDS):
        yield b"Word%d of it" % number


if __name__ == "__main__":
    main()
