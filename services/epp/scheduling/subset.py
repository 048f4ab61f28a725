"""The proxy's subset hint: which servers it allows (endpoint picker protocol 1.0, `envoy.lb.subset_hint`)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from services.epp.endpoints import Server, join, split
from services.extproc.events import Value


@dataclass(frozen=True, slots=True)
class Subset:
    """Allowed addresses (`ip:port`) and hosts (every port of an `ip`)."""

    addresses: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()

    def allows(self, server: Server) -> bool:
        """Say whether `server` is in the subset."""
        return server.address in self.addresses or (
            bool(self.hosts) and split(server.address)[0] in self.hosts
        )


def parse(value: Value) -> Subset | None:
    """Read the hint: a list, or a comma list in one string, of `ip:port` or `ip`; None when there is no hint.

    An empty hint allows nobody, as the protocol has it; what is no address allows nobody either. A value of another
    type cannot be obeyed and must not be taken for "all": it allows nobody.
    """
    if value is None:
        return None
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    addresses, hosts = set(), set()
    for item in (item.strip() for item in items if isinstance(item, str)):
        host = _host(item)
        if host is not None:
            hosts.add(host)
        else:
            addresses.add(_address(item))
    return Subset(frozenset(addresses), frozenset(hosts))


def _host(item: str) -> str | None:
    """Return the canonical spelling of an address without a port."""
    try:
        return str(ipaddress.ip_address(item.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def _address(item: str) -> str:
    try:
        return join(*split(item))
    except ValueError:
        return item
