"""JSON lines on stderr: one for a sampled share of the requests, one for every failure."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import MutableMapping
from typing import TextIO

import structlog

from services.extproc.config import Log
from services.extproc.events import Outcome
from services.extproc.observe import StreamRecord

_SHARED: tuple[structlog.typing.Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def configure(level: str, stream: TextIO = sys.stderr) -> None:
    """Set up logging for the process, the standard library's included (gRPC and aiohttp report through it)."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_SHARED, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    formatter = structlog.stdlib.ProcessorFormatter(
        processor=structlog.processors.JSONRenderer(), foreign_pre_chain=_SHARED
    )
    handler.setFormatter(formatter)
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


class StreamLog:
    """An `Observer` that logs: every failed stream, a share `log.sample` of the others at level info."""

    def __init__(
        self, service: str, log: Log, *, chance: random.Random, logger: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._logger = logger.bind(service=service)
        self._sample = log.sample
        self._chance = chance

    def started(self) -> None:
        """Say nothing: the line comes at the end."""

    def failed(self, error: BaseException) -> None:
        """Log a failure with its stack."""
        self._logger.error("stream_failed", exc_info=error)

    def ended(self, record: StreamRecord) -> None:
        """Log the one line of a request."""
        if record.outcome is Outcome.FAILED:
            self._logger.error("request", **_fields(record))
        elif self._sample and self._chance.random() < self._sample:
            self._logger.info("request", **_fields(record))
        else:
            self._logger.debug("request", **_fields(record))


def _fields(record: StreamRecord) -> MutableMapping[str, object]:
    return {
        "outcome": record.outcome.value,
        "reason": record.reason,
        "method": record.method,
        "path": record.path,
        "request_id": record.request_id,
        "status": record.status,
        "ms": round(record.seconds * 1000, 3),
        "request_decision_ms": round(record.request_seconds * 1000, 3),
        "response_decision_ms": round(record.response_seconds * 1000, 3),
        "request_bytes": record.request_bytes,
        "response_bytes": record.response_bytes,
        "dropped_headers": record.dropped_headers,
    }
