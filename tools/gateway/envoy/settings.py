"""What a route says to the ext_proc filters: off, the pool, the model, or another processing mode."""

from __future__ import annotations

from collections.abc import Mapping

from betterproto2 import Message
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.google.protobuf import Any as ProtoAny

from tools.gateway.envoy.filters import BBR_RESPONSE, safety_mode
from tools.gateway.envoy.typed import packed

POOL_CONTEXT = "x-gateway-pool"
"""The gRPC initial metadata that tells the EPP which pool it picks from."""
MODEL_CONTEXT = "x-gateway-model"
"""The gRPC initial metadata that tells BBR which model is meant, whatever the body says."""

Settings = Mapping[str, Message]
"""By the filter's name."""


def per_filter(*settings: Settings) -> dict[str, ProtoAny]:
    """Return a route's field; of two settings for one filter the later counts."""
    return {name: packed(message) for part in settings for name, message in part.items()}


def off(*names: str) -> Settings:
    """Take filters off the route."""
    return {name: ext_proc.ExtProcPerRoute(disabled=True) for name in names}


def pool_is(pool: str) -> Settings:
    """Tell the EPP its pool."""
    return {"epp": _overrides(initial={POOL_CONTEXT: pool})}


def model_is(model: str) -> Settings:
    """Tell BBR the model."""
    return {"bbr": _overrides(initial={MODEL_CONTEXT: model})}


def answers_unchecked() -> Settings:
    """Take safety off the way back."""
    return {"safety": _overrides(mode=safety_mode(answers=False))}


def names_restored() -> Settings:
    """Let BBR put the client's own name of the model into the answer."""
    return {BBR_RESPONSE: _overrides()}


def _overrides(
    *, mode: ext_proc.ProcessingMode | None = None, initial: Mapping[str, str] | None = None
) -> ext_proc.ExtProcPerRoute:
    context = [core.HeaderValue(key=key, value=value) for key, value in (initial or {}).items()]
    return ext_proc.ExtProcPerRoute(
        overrides=ext_proc.ExtProcOverrides(processing_mode=mode, grpc_initial_metadata=context)
    )
