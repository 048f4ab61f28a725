"""What `up` will start, worked out before anything starts: pure values from options and configuration."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tools.gateway.binaries import Binaries
from tools.gateway.demo import SERVERS, MockServer
from tools.gateway.envoy.addresses import LOOPBACK, AddressBook
from tools.gateway.ports import Ports, ServicePorts

SERVICES = ("bbr", "safety", "epp")
NO_REDIS = "off"
"""In place of a URL: each replica of the EPP knows what passed through itself alone."""


class PlanError(ValueError):
    """Options that contradict each other or the configuration. The message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of `up`."""

    config_dir: Path
    port: int = 8080
    port_offset: int = 0
    endpoints: tuple[str, ...] = ()
    """POOL=URL, each a real server that takes the place of that pool's mocks."""
    redis: str | None = None
    """Where replicas share their state; None for the embedded server, `off` for nowhere."""
    log_level: str = "info"
    epp_replicas: int = 1

    @property
    def ports(self) -> Ports:
        """The ports that these options mean."""
        return Ports.at(self.port, self.port_offset)


@dataclass(frozen=True, slots=True)
class Command:
    """A process to start; its log is named after it."""

    name: str
    argv: tuple[str, ...]
    spare: bool = False
    """Whether others do the same work, so that the stack outlives this one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `up` starts, and where."""

    options: Options
    ports: Ports
    servers: tuple[Command, ...]
    server_urls: tuple[str, ...]
    """Of the mock servers that this plan starts."""
    redis_command: Command | None
    redis_url: str
    """Empty when the replicas share nothing."""
    services: tuple[Command, ...]
    envoy: Command
    pools: tuple[str, ...]
    endpoints: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By pool, of the pools whose servers are mocks or given on the command line."""

    @property
    def run_ports(self) -> list[tuple[str, int]]:
        """Name and number of every port that must be free."""
        embedded = self.redis_command is not None
        replicas = self.options.epp_replicas
        return list(self.ports.named(servers=len(self.servers), redis=embedded, replicas=replicas))

    @property
    def service_ports(self) -> dict[str, ServicePorts]:
        """The services' processes by name."""
        return self.ports.services(self.options.epp_replicas)

    def addresses(self) -> AddressBook:
        """Return what Envoy's configuration has to know."""
        return self.ports.addresses(self.options.epp_replicas)


def make_plan(options: Options, pools: tuple[str, ...], binaries: Binaries, run_dir: Path) -> Plan:
    """Return the plan for the pools that the routes name. Raises `PlanError`."""
    ports = options.ports
    given = parse_endpoints(options.endpoints, pools)
    mocks = [server for server in SERVERS if server.pool in pools and server.pool not in given]
    urls = tuple(_url(ports.server(index)) for index in range(len(mocks)))
    endpoints = dict(given)
    for server, url in zip(mocks, urls, strict=True):
        endpoints[server.pool] = (*endpoints.get(server.pool, ()), url)
    redis_url = f"redis://{LOOPBACK}:{ports.redis}/0" if options.redis is None else options.redis
    redis_url = "" if redis_url == NO_REDIS else redis_url
    return Plan(
        options=options,
        ports=ports,
        servers=tuple(_mock(server, ports.server(index), options) for index, server in enumerate(mocks)),
        server_urls=urls,
        redis_command=_redis(binaries, ports.redis, run_dir) if options.redis is None else None,
        redis_url=redis_url,
        services=tuple(
            _service(name, ports, options, endpoints, redis_url)
            for name, ports in ports.services(options.epp_replicas).items()
        ),
        envoy=_envoy(binaries, run_dir, options.log_level),
        pools=pools,
        endpoints=endpoints,
    )


def parse_endpoints(values: tuple[str, ...], pools: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return pool → URLs of `POOL=URL` options. Raises `PlanError`."""
    found: dict[str, tuple[str, ...]] = {}
    for value in values:
        pool, _, url = value.partition("=")
        if pool not in pools:
            raise PlanError(
                f"--endpoint {value}: no route names the pool {pool!r}; there are {', '.join(pools)}"
            )
        found[pool] = (*found.get(pool, ()), _checked_url(value, url))
    return found


def _checked_url(option: str, url: str) -> str:
    expected = f"--endpoint {option}: expected POOL=http://HOST:PORT"
    try:
        parts = urlsplit(url)
        good = parts.scheme == "http" and parts.hostname and parts.port and parts.path in {"", "/"}
    except ValueError as error:
        raise PlanError(f"{expected}: {error}") from error
    if not good:
        raise PlanError(expected)
    return f"http://{parts.netloc}"


def _url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    # -P: a folder named `services` where the user stands must not take the package's place.
    return (sys.executable, "-P", "-m", module, *arguments)


def _mock(server: MockServer, port: int, options: Options) -> Command:
    adapters = [flag for adapter in server.adapters for flag in ("--adapter", adapter)]
    return Command(
        server.name,
        _python(
            "tools.model_server",
            *("--host", LOOPBACK, "--port", str(port), "--name", server.name, "--model", server.model),
            *adapters,
            *("--log-level", options.log_level),
        ),
    )


def _redis(binaries: Binaries, port: int, run_dir: Path) -> Command:
    # Nothing is kept: what replicas share is worth little after a restart of all of them.
    keep_nothing = ("--save", "", "--appendonly", "no", "--dir", str(run_dir))
    return Command("redis", (str(binaries.redis), "--bind", LOOPBACK, "--port", str(port), *keep_nothing))


def _service(
    name: str,
    ports: ServicePorts,
    options: Options,
    endpoints: dict[str, tuple[str, ...]],
    redis_url: str,
) -> Command:
    service = name.partition("-")[0]
    arguments = [
        *(
            "--config",
            str(options.config_dir / f"{service}.yaml"),
            "--host",
            LOOPBACK,
            "--port",
            str(ports.grpc),
        ),
        *("--health-port", str(ports.health), "--metrics-port", str(ports.metrics)),
        *("--log-level", options.log_level),
    ]
    if service == "epp":
        for pool, urls in endpoints.items():
            arguments += [flag for url in urls for flag in ("--endpoint", f"{pool}={url}")]
        arguments += ["--redis", redis_url]
    spare = service == "epp" and options.epp_replicas > 1
    return Command(name, _python(f"services.{service}", *arguments), spare=spare)


def _envoy(binaries: Binaries, run_dir: Path, log_level: str) -> Command:
    # Hot restart shares memory by a number that two stacks on one machine would have to agree on.
    options = ("--disable-hot-restart", "--concurrency", "2", "--log-level", log_level)
    return Command("envoy", (str(binaries.envoy), "-c", str(run_dir / "envoy.json"), *options))
