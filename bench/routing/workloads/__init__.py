"""The workloads by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from bench.routing.fleet import CHAT_8B, FAST_8B, LARGE_70B, Outage
from bench.routing.workloads.base import Workload
from bench.routing.workloads.chat import one_system, priorities, tenants, unshared
from bench.routing.workloads.heavy import adapters, agents, bursts, documents
from bench.routing.workloads.traces import trace

TEN = dataclasses.replace(CHAT_8B, servers=10)
HALF = dataclasses.replace(CHAT_8B, speeds=((0, 0.5),))
DYING = dataclasses.replace(CHAT_8B, outage=Outage(server=0, begins=0.4, ends=0.7))

ALL = (
    Workload("unshared", "nothing shared, lengths as in ShareGPT: the reference's benchmark", TEN, unshared, 2000,
             shares=False),
    Workload("one-system", "one system prompt for everybody, single questions", CHAT_8B, one_system, 1500),
    Workload("tenants", "system prompts of 32 tenants by Zipf, growing conversations", CHAT_8B, tenants, 1800),
    Workload("tenants-70b", "the same in front of a 70B model", LARGE_70B, tenants, 1200),
    Workload("conversation", "Mooncake's conversation trace", FAST_8B, trace("conversation"), 800),
    Workload("synthetic", "Mooncake's synthetic trace", FAST_8B, trace("synthetic"), 800),
    Workload("agents", "agent sessions of 100,000 tokens", LARGE_70B, agents, 240),
    Workload("documents", "long documents among chats", FAST_8B, documents, 1200),
    Workload("adapters", "24 LoRA adapters, 4 slots a server", CHAT_8B, adapters, 1500),
    Workload("bursts", "bursts of siblings", CHAT_8B, bursts, 1200),
    Workload("half-speed", "tenants, with one server at half speed", HALF, tenants, 1800),
    Workload("outage", "tenants, while one server dies and returns", DYING, tenants, 1800),
    Workload("priorities", "three classes, of which one may be shed", CHAT_8B, priorities, 1500, overload=2.0),
)  # fmt: skip

WORKLOADS: Mapping[str, Workload] = {workload.name: workload for workload in ALL}
