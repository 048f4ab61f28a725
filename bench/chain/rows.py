"""The rows of the table: the gateway's real Envoy configuration with fewer filters, as Envoy's JSON."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import msgspec
import yaml

from tools.gateway.envoy import bootstrap
from tools.gateway.envoy.addresses import Address, AddressBook
from tools.gateway.routes import Routes

Json = dict[str, "Json"] | list["Json"] | str | float | bool | None
Object = dict[str, Json]

LOOPBACK = "127.0.0.1"
NOOP = "noop"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the ext_proc filters that are left."""

    title: str
    filters: tuple[str, ...]
    check_answers: bool = True
    """Whether safety sees the answers too."""


ROWS = (
    Row("Envoy alone", ()),
    Row("+ one no-op ext_proc", (NOOP,)),
    Row("+ BBR", ("bbr",)),
    Row("+ BBR + safety", ("bbr", "safety")),
    Row("full chain", ("bbr", "safety", "epp")),
)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens on loopback."""

    bbr: int
    safety: int
    epp: int
    noop: int
    backends: tuple[int, ...]


def envoy_config(row: Row, routes: str, ports: Ports, *, listen: int, admin: int) -> Object:
    """Return the bootstrap of `row`: what the text of `config/routes.yaml` makes, less the filters it does without.

    The full chain is left as it is. Without the EPP the pools' members are fixed and taken in turn; without BBR
    there is no model header, so one route leads to the first pool.
    """
    config = _full(row, routes, ports, listen, admin)
    if "epp" in row.filters:
        return config
    resources = _object(config["staticResources"])
    manager = _connection_manager(resources)
    manager["accessLog"] = []
    for cluster in map(_object, _list(resources["clusters"])):
        if str(cluster["name"]).startswith("pool-"):
            _take_in_turn(cluster, ports.backends)
    if NOOP in row.filters:
        _add_noop(manager, resources, ports.noop)
    if "bbr" not in row.filters:
        _one_route(manager)
    manager["httpFilters"] = [
        one for one in map(_object, _list(manager["httpFilters"])) if one["name"] in (*row.filters, ROUTER)
    ]
    return config


ROUTER = "envoy.filters.http.router"


def _full(row: Row, routes: str, ports: Ports, listen: int, admin: int) -> Object:
    book = AddressBook(
        gateway=Address(LOOPBACK, listen),
        admin=Address(LOOPBACK, admin),
        bbr=Address(LOOPBACK, ports.bbr),
        safety=Address(LOOPBACK, ports.safety),
        epp=Address(LOOPBACK, ports.epp),
    )
    parsed = msgspec.convert(yaml.safe_load(routes), Routes)
    if not row.check_answers:
        unchecked = tuple(msgspec.structs.replace(route, check_answers=False) for route in parsed.routes)
        parsed = msgspec.structs.replace(parsed, routes=unchecked)
    config: Json = msgspec.json.decode(bootstrap.to_json(bootstrap.build(parsed, book)))
    return _object(config)


def _connection_manager(resources: Object) -> Object:
    listener = _object(_list(resources["listeners"])[0])
    chain = _object(_list(listener["filterChains"])[0])
    return _object(_object(_list(chain["filters"])[0])["typedConfig"])


def _take_in_turn(cluster: Object, backends: tuple[int, ...]) -> None:
    for key in ("edsClusterConfig", "loadBalancingPolicy", "ignoreHealthOnHostRemoval"):
        cluster.pop(key, None)
    members: list[Json] = [{"endpoint": {"address": _address(port)}} for port in backends]
    cluster.update(
        type="STATIC",
        lbPolicy="ROUND_ROBIN",
        loadAssignment={"clusterName": cluster["name"], "endpoints": [{"lbEndpoints": members}]},
    )


def _add_noop(manager: Object, resources: Object, port: int) -> None:
    """Put a twin of BBR's filter and cluster in, so that the same messages are sent, to the no-op server."""
    filters, clusters = _list(manager["httpFilters"]), _list(resources["clusters"])
    twin = copy.deepcopy(_named(filters, "bbr"))
    service = _object(_object(twin["typedConfig"])["grpcService"])
    service["envoyGrpc"] = {"clusterName": NOOP}
    twin["name"] = NOOP
    filters.insert(0, twin)
    cluster = copy.deepcopy(_named(clusters, "bbr"))
    endpoints: list[Json] = [{"lbEndpoints": [{"endpoint": {"address": _address(port)}}]}]
    cluster.update(name=NOOP, loadAssignment={"clusterName": NOOP, "endpoints": endpoints})
    clusters.append(cluster)


def _one_route(manager: Object) -> None:
    host = _object(_list(_object(manager["routeConfig"])["virtualHosts"])[0])
    routed = next(route for route in map(_object, _list(host["routes"])) if "retryPolicy" in str(route))
    routed["match"] = {"prefix": "/"}
    routed.pop("typedPerFilterConfig", None)
    host["routes"] = [routed]


def _address(port: int) -> Json:
    return {"socketAddress": {"address": LOOPBACK, "portValue": port}}


def _named(items: list[Json], name: str) -> Object:
    return next(item for item in map(_object, items) if item["name"] == name)


def _object(value: Json) -> Object:
    assert isinstance(value, dict)
    return value


def _list(value: Json) -> list[Json]:
    assert isinstance(value, list)
    return value
