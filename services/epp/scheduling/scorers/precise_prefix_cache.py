"""Servers that say they hold the beginning of the prompt are better."""

from __future__ import annotations

from dataclasses import dataclass

from services.epp.scheduling.scorers.prefix_cache import PrefixCache


@dataclass(frozen=True, slots=True)
class PrecisePrefixCache(PrefixCache):
    """`prefix-cache-scorer` for profiles that count on the servers' own word: it needs a pool with `kv_events`.

    Where that word is not known, for a request or for a server, what was sent there counts.
    """
