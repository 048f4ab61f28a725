"""Where everything listens. All that differs between compose and the local run."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
EPP_CONTROL = "epp-control"
"""The cluster of the EPP once more, for what stays open: its access log and EDS. Counted with the picks, these streams would keep the
picks away from the replica that has them."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by IP or by name, and a TCP port."""

    host: str
    port: int

    @property
    def is_ip(self) -> bool:
        """Whether the host needs no DNS."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class AddressBook:
    """The addresses that Envoy's configuration names."""

    gateway: Address
    admin: Address
    bbr: Address
    safety: Address
    epp: Address
    """A name may stand for several replicas."""
    more_epps: tuple[Address, ...] = ()
    """Further replicas of the EPP, where each has an address of its own."""
    access_log: str | None = None
    """A file, or /dev/stdout; None writes no text log."""


COMPOSE = AddressBook(
    gateway=Address("0.0.0.0", 8080),  # noqa: S104 - inside a container
    admin=Address(LOOPBACK, 9901),
    bbr=Address("bbr", 9004),
    safety=Address("safety", 9006),
    epp=Address("epp", 9002),
    access_log="/dev/stdout",
)
"""The addresses of docker-compose.yaml."""
