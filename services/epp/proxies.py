"""Which proxies are there, by the streams that each holds open here: its membership and its access log.

A proxy that was killed reports no more ends. Its connections break at that moment, and with the last of its streams
nothing that was picked for it is in flight any more. Replicas that held no stream of it are told by those that did.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator


def proxy_name(peer: str, node: str) -> str:
    """Return what tells one proxy from all others: its host, since copies may share a node id, and its node id.

    `peer` is gRPC's `ipv4:10.0.0.1:41784`; the port differs between the connections of one proxy. Empty without a
    node id.
    """
    return f"{peer.rpartition(':')[0]} {node}" if node else ""


class Proxies:
    """Counts streams by proxy. `gone` is called with the name of one that has lost its last, `came` of its first."""

    def __init__(self, gone: Callable[[str], None], came: Callable[[str], None] | None = None) -> None:
        self._streams: Counter[str] = Counter()
        self._gone = gone
        self._came = came

    def __contains__(self, name: str) -> bool:
        return self._streams[name] > 0

    @contextlib.contextmanager
    def stream(self, peer: str) -> Iterator[Callable[[str], None]]:
        """Count a stream while the block runs, from the moment in which what is given is called with its node id."""
        name = ""

        def named(node: str) -> None:
            nonlocal name
            if node and not name:
                name = proxy_name(peer, node)
                self._streams[name] += 1
                if self._came is not None and self._streams[name] == 1:
                    self._came(name)

        try:
            yield named
        finally:
            if name:
                self._left(name)

    def _left(self, name: str) -> None:
        self._streams[name] -= 1
        if not self._streams[name]:
            del self._streams[name]
            self._gone(name)
