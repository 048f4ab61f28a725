"""Small constructors for the shapes that Envoy's API repeats everywhere."""

from __future__ import annotations

from datetime import timedelta

from betterproto2 import Message
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.google.protobuf import Any as ProtoAny

from tools.gateway.envoy.addresses import Address


def packed(message: Message) -> ProtoAny:
    """Return `message` as `google.protobuf.Any`; its type must come from `envoy_data_plane`."""
    return ProtoAny.pack(message)


def extension(name: str, message: Message) -> core.TypedExtensionConfig:
    """Return an extension under the name by which Envoy knows its factory."""
    return core.TypedExtensionConfig(name=name, typed_config=packed(message))


def seconds(value: float) -> timedelta:
    """Return a duration; 0 is set and not left out, which Envoy reads as "never"."""
    return timedelta(seconds=value)


def address(where: Address) -> core.Address:
    """Return the socket address of `where`."""
    return core.Address(socket_address=core.SocketAddress(address=where.host, port_value=where.port))


def set_header(name: str, value: str) -> core.HeaderValueOption:
    """Return the header `name` with one value, whatever it had before; `value` may hold Envoy's %…% commands."""
    return core.HeaderValueOption(
        header=core.HeaderValue(key=name, value=value),
        append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )
