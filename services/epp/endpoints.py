"""Model servers as values: where one is, what it last reported, and what the scheduler may know of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's address and what the operator says about it."""

    address: str
    """`ip:port` as Envoy prints it, IPv6 in brackets: what `override_host` compares with."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a server said about itself at `scraped_at`, a reading of the monotonic clock in seconds."""

    waiting: int = 0
    """Requests in the server's queue."""
    running: int = 0
    """Requests in its batch."""
    kv_usage: float = 0.0
    """Used share of the KV cache, 0 to 1."""
    block_size: int = 0
    """Tokens in a KV block; 0 when the server does not say."""
    num_blocks: int = 0
    """KV blocks on the accelerator; 0 when the server does not say."""
    active_adapters: frozenset[str] = frozenset()
    waiting_adapters: frozenset[str] = frozenset()
    max_adapters: int = 0
    """LoRA adapters that fit at once; 0 without LoRA."""
    started_at: float = 0.0
    """When the server's process started, as it says: Unix time in seconds; 0 when it does not say."""
    prompt_tokens_total: float = 0.0
    """Prompt tokens since the start. Going back means a restart."""
    scraped_at: float = 0.0

    @property
    def cache_tokens(self) -> int:
        """Tokens that fit the KV cache; 0 when unknown."""
        return self.block_size * self.num_blocks

    def restarted_since(self, before: Metrics) -> bool:
        """Say whether the server's process is another one than when `before` was scraped, its cache empty."""
        return (
            self.started_at > before.started_at > 0
            or self.prompt_tokens_total < before.prompt_tokens_total
            or 0 < before.num_blocks != self.num_blocks > 0
        )


@dataclass(frozen=True, slots=True)
class Server:
    """One member of a pool's snapshot."""

    endpoint: Endpoint
    slot: int
    """A small number, unique among the pool's present members: its bit in prefix masks and its index in loads."""
    metrics: Metrics = Metrics()
    ready: bool = False
    """It answered a scrape and has not missed too many since."""

    @property
    def address(self) -> str:
        """Return `ip:port`."""
        return self.endpoint.address


def join(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address and in its canonical spelling."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return f"{host}:{port}"
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"  # noqa: PLR2004 - the IP version


def split(address: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`; raise ValueError for anything else."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isascii() or not port.isdecimal() or (":" in host and not bracketed):
        raise ValueError(f"expected host:port, got {address!r}")
    if not 0 < int(port) <= MAX_PORT:
        raise ValueError(f"expected a port from 1 to {MAX_PORT}, got {address!r}")
    return (host[1:-1] if bracketed else host), int(port)
