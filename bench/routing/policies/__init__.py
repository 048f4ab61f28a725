"""The policies that are compared, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.routing.policies.affinity import CacheAware, Smg
from bench.routing.policies.base import Policy, Surroundings
from bench.routing.policies.hashing import PrefixHash, SessionSticky
from bench.routing.policies.oracle import Oracle
from bench.routing.policies.picker import Picker, Reference
from bench.routing.policies.plain import LeastRequest, PowerOfTwo, Random, RoundRobin

DEFAULT, ORACLE = "default", "oracle"

POLICIES: Mapping[str, Callable[[Surroundings], Policy]] = {
    "round-robin": RoundRobin,
    "random": Random,
    "least-request": LeastRequest,
    "power-of-two": PowerOfTwo,
    "prefix-hash": PrefixHash,
    "session": SessionSticky,
    "cache-aware": CacheAware,
    "reference": Reference,
    "smg": Smg,
    DEFAULT: Picker,
    ORACLE: Oracle,
}
