"""The EPP's decision: pick and release with the default profile, for small and large pools."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from functools import partial

from bench.chain.workload import MODEL
from bench.cost.timing import Case
from services.epp.assemble import make_detector, make_scheduler
from services.epp.config import EndpointPickerConfig
from services.epp.director import Ask, Director
from services.epp.endpoints import Endpoint, Metrics
from services.epp.pool import Pool
from services.epp.records import Release, Silent
from services.epp.state import Alone
from services.openai.blocks import WIDTH, Blocks
from services.openai.digest import BOUNDARIES, Digest

POOL_SIZES = (16, 1000)
BLOCKS = (31, 360)  # of prompts of 2 KB and of 200 KB
CONVERSATIONS = 256


def cases() -> Iterator[Case]:
    """Yield a decision for prompts that nobody has seen and for conversations that go on."""
    for servers, blocks in itertools.product(POOL_SIZES, BLOCKS):
        size = f"{servers} endpoints, prompt of {blocks} blocks"
        fresh, known = director(servers), director(servers)
        yield Case("EPP", f"pick and release, {size}, unseen", partial(_decide, fresh, _unseen(blocks)))
        yield Case("EPP", f"pick and release, {size}, known", partial(_decide, known, _known(blocks)))


def _decide(of: Director, digests: Iterator[Digest]) -> None:
    reservation = of.pick(Ask(digest=next(digests), base_model=MODEL))  # as the router names it
    of.release("llama", reservation.id, Release.ACCESS_LOG)


def director(servers: int) -> Director:
    """Return a director over one pool of so many servers, all idle or a little busy."""
    config = EndpointPickerConfig(api_version="llm-d.ai/v1alpha1", kind="EndpointPickerConfig")
    return Director(
        {"llama": _pool(servers)},
        make_scheduler(config),
        detector=make_detector(config),
        objectives={},
        clock=time.monotonic,
        rng=random.Random(1),
        observer=Silent(),  # metrics cost the same whatever the decision
        state=Alone(),
    )


def _pool(servers: int) -> Pool:
    rng = random.Random(servers)
    pool = Pool("llama", clock=time.monotonic)
    addresses = [f"10.0.{index // 250}.{index % 250 + 1}:8000" for index in range(servers)]
    pool.set_members(Endpoint(address) for address in addresses)
    for address in addresses:
        metrics = Metrics(
            waiting=rng.randrange(3),
            running=rng.randrange(20),
            kv_usage=rng.random(),
            block_size=16,
            num_blocks=20_000,
            scraped_at=time.monotonic(),
        )
        pool.observe(address, metrics)
    return pool


def _digest(rng: random.Random, blocks: int) -> Digest:
    hashes = Blocks(rng.randbytes(WIDTH * blocks))
    return Digest(MODEL, stream=True, prompt_bytes=BOUNDARIES[blocks - 1], max_tokens=200, blocks=hashes)


def _unseen(blocks: int) -> Iterator[Digest]:
    """Yield new prompts."""
    rng = random.Random(2)
    while True:
        yield _digest(rng, blocks)


def _known(blocks: int) -> Iterator[Digest]:
    rng = random.Random(3)
    return itertools.cycle([_digest(rng, blocks) for _ in range(CONVERSATIONS)])
