"""The gRPC health service (grpc.health.v1), told by a `Readiness`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

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

    Each detail of the readiness has a name of its own, for people: balancers ask for the others.
    """

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
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
        async with background(self._follow()):
            yield

    async def leave(self) -> None:
        """Say NOT_SERVING from now on, whatever the readiness says: the process is about to stop."""
        self._leaving = True
        await self._publish()

    async def _follow(self) -> None:
        while True:
            await self._readiness.change()
            await self._publish()

    async def _publish(self) -> None:
        serving = self._readiness.ready and not self._leaving
        states = {**dict.fromkeys(READY_NAMES, serving), **self._readiness.details}
        for name, well in states.items():
            await self._servicer.set(name, _Status.SERVING if well else _Status.NOT_SERVING)
