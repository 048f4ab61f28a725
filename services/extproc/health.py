"""The gRPC health service (grpc.health.v1), told by a `Readiness`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio

from services.extproc.background import background
from services.extproc.readiness import Readiness
from services.extproc.servicer import SERVICE_NAME

LIVENESS = "liveness"
READY_NAMES = ("", "readiness", SERVICE_NAME)
"""With `liveness` the names that the Gateway API Inference Extension's probes ask for."""

_Status = health_pb2.HealthCheckResponse


class Health:
    """Health of one process. `liveness` is SERVING as long as it lives, `READY_NAMES` follow the readiness.

    `details` are further names with states of their own.
    """

    def __init__(self, readiness: Readiness, details: Mapping[str, Readiness] | None = None) -> None:
        self._states = {READY_NAMES: readiness} | {(name,): state for name, state in (details or {}).items()}
        self._leaving = False
        self._servicer = aio.HealthServicer()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve it on `server` too."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow the readiness while the block runs."""
        await self._servicer.set(LIVENESS, _Status.SERVING)
        await self._publish()
        async with contextlib.AsyncExitStack() as stack:
            for state in self._states.values():
                await stack.enter_async_context(background(self._follow(state)))
            yield

    async def leave(self) -> None:
        """Say NOT_SERVING from now on, whatever the readiness says: the process is about to stop."""
        self._leaving = True
        await self._publish()

    async def _follow(self, state: Readiness) -> None:
        while True:
            await state.change()
            await self._publish()

    async def _publish(self) -> None:
        for names, state in self._states.items():
            serving = state.ready and not self._leaving
            for name in names:
                await self._servicer.set(name, _Status.SERVING if serving else _Status.NOT_SERVING)
