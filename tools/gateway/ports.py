"""Which process listens where. Every port moves with the offset, so that two stacks run side by side."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from tools.gateway.envoy.addresses import LOOPBACK, Address, AddressBook

HIGHEST = 65535


class PortError(ValueError):
    """A port that cannot be had. The message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class ServicePorts:
    """One service: ext_proc over gRPC, gRPC health, Prometheus metrics."""

    grpc: int
    health: int
    metrics: int


@dataclass(frozen=True, slots=True)
class Ports:
    """Every port of one stack."""

    gateway: int
    admin: int
    bbr: ServicePorts
    safety: ServicePorts
    epp: ServicePorts
    redis: int
    first_server: int
    """The mock servers listen from here on."""
    next_replica: int
    """Further replicas of the EPP have three ports each from here on, far above the mock servers."""

    @classmethod
    def at(cls, port: int = 8080, offset: int = 0) -> Ports:
        """Return the usual ports moved by `offset`; `port` is the gateway's before that."""
        return cls(
            gateway=port + offset,
            admin=9901 + offset,
            bbr=ServicePorts(9004 + offset, 9005 + offset, 9094 + offset),
            safety=ServicePorts(9006 + offset, 9007 + offset, 9096 + offset),
            epp=ServicePorts(9002 + offset, 9003 + offset, 9092 + offset),
            redis=6390 + offset,
            first_server=8101 + offset,
            next_replica=9200 + offset,
        )

    def server(self, index: int) -> int:
        """Return the port of mock server `index`, counted from 0."""
        return self.first_server + index

    def epps(self, replicas: int) -> dict[str, ServicePorts]:
        """Return the EPP's replicas by name: `epp` on the usual ports, then `epp-2` and on."""
        more = {
            f"epp-{number + 2}": ServicePorts(*range(first, first + 3))
            for number in range(replicas - 1)
            for first in (self.next_replica + 3 * number,)
        }
        return {"epp": self.epp, **more}

    def services(self, replicas: int = 1) -> dict[str, ServicePorts]:
        """Return every process of the three services by name."""
        return {"bbr": self.bbr, "safety": self.safety, **self.epps(replicas)}

    def named(self, *, servers: int, redis: bool, replicas: int = 1) -> Iterator[tuple[str, int]]:
        """Yield name and port of all that this stack opens."""
        yield "gateway", self.gateway
        yield "Envoy's admin", self.admin
        for name, ports in self.services(replicas).items():
            yield name, ports.grpc
            yield f"{name}'s health", ports.health
            yield f"{name}'s metrics", ports.metrics
        if redis:
            yield "redis", self.redis
        for index in range(servers):
            yield f"model server {index + 1}", self.server(index)

    def addresses(self, replicas: int = 1) -> AddressBook:
        """Return what Envoy's configuration has to know: everything on loopback."""
        return AddressBook(
            gateway=Address(LOOPBACK, self.gateway),
            admin=Address(LOOPBACK, self.admin),
            bbr=Address(LOOPBACK, self.bbr.grpc),
            safety=Address(LOOPBACK, self.safety.grpc),
            epp=Address(LOOPBACK, self.epp.grpc),
            more_epps=tuple(Address(LOOPBACK, ports.grpc) for ports in self.epps(replicas).values())[1:],
        )


def require_free(ports: list[tuple[str, int]]) -> None:
    """Raise a `PortError` that names every port which is out of range, used twice or taken."""
    outside = [f"{port} ({name})" for name, port in ports if not 0 < port <= HIGHEST]
    if outside:
        raise PortError(f"no such port: {', '.join(outside)}; choose a smaller --port-offset")
    numbers = [port for _, port in ports]
    twice = [f"{port} ({name})" for name, port in ports if numbers.count(port) > 1]
    if twice:
        raise PortError(f"one port for two purposes: {', '.join(twice)}; choose another --port")
    taken = [f"{port} ({name})" for name, port in ports if not _free(port)]
    if taken:
        one = len(taken) == 1
        raise PortError(
            f"{'port' if one else 'ports'} in use: {', '.join(taken)}; "
            "another --port moves the gateway, --port-offset moves everything"
        )


def _free(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        # As the servers do, or ports of a stack that has just stopped would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True
