"""Small constructors for the shapes that Envoy's API repeats everywhere."""

from __future__ import annotations

from datetime import timedelta

from betterproto2 import Message
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.google.protobuf import Any as ProtoAny

from tools.gateway.envoy.addresses import Address


def packed(message: Message) -> ProtoAny:
    return ProtoAny.pack(message)


def extension(name: str, message: Message) -> core.TypedExtensionConfig:
    return core.TypedExtensionConfig(name=name, typed_config=packed(message))


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def address(where: Address) -> core.Address:
    return core.Address(socket_address=core.SocketAddress(address=where.host, port_value=where.port))
