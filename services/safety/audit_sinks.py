"""Where audit records go besides the log. A sink takes a record at once and writes it later; a full one drops, and counts."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from services.extproc.background import background
from services.safety.audit import Record, fields
from services.safety.audit_config import FileSink
from services.safety.audit_versions import Versions

_BATCH = 256  # records at once: one write, one pipeline
_RETRY = 1.0  # seconds after a failed write
_LAST_CHANCE = 2.0  # seconds for what is left when the service stops


class Writer(Protocol):
    """Writes lines somewhere."""

    async def write(self, lines: Sequence[bytes]) -> None:
        """Write all; raise `OSError` when none or not all were written."""

    async def close(self) -> None:
        """Give back what is open."""


class Sink:
    """An `Observer` in front of a writer. `versions` may be replaced when the configuration is."""

    def __init__(
        self,
        name: str,
        writer: Writer,
        versions: Versions,
        *,
        limit: int,
        dropped: Callable[[str], None],
        now: Callable[[], str],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.versions = versions
        self._writer = writer
        self._limit = limit
        self._dropped = dropped
        self._now = now
        self._sleep = sleep
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._log = structlog.get_logger("safety.audit").bind(sink=name)

    def verdict(self, record: Record) -> None:
        """Take one record."""
        if len(self._waiting) >= self._limit:
            self._dropped(self.name)
            return
        document = {"time": self._now(), **described(record, self.versions)}
        self._waiting.append(msgspec.json.encode(document))
        self._wake.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write while the block runs, and what is left when it ends."""
        try:
            async with background(self._run()):
                yield
        finally:
            await self._last()
            await self._writer.close()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            try:
                await self._write()
            except OSError as error:
                self._log.warning("audit records wait", waiting=len(self._waiting), error=str(error))
                await self._sleep(_RETRY)

    async def _write(self) -> None:
        while self._waiting:
            batch = [self._waiting[at] for at in range(min(_BATCH, len(self._waiting)))]
            await self._writer.write(batch)
            for _ in batch:
                self._waiting.popleft()
        self._wake.clear()

    async def _last(self) -> None:
        try:
            async with asyncio.timeout(_LAST_CHANCE):
                await self._write()
        except (OSError, TimeoutError) as error:
            for _ in self._waiting:
                self._dropped(self.name)
            self._log.warning("audit records lost", lost=len(self._waiting), error=str(error))


def described(record: Record, versions: Versions) -> dict[str, object]:
    """Return the record as plain values, with the versions of what it was judged by."""
    document = fields(record)
    found = {located.finding.rule for located in record.verdict.findings}
    document["policy_digest"] = versions.policies.get(record.policy, "")
    document["rule_versions"] = {rule: versions.rules[rule] for rule in sorted(found & versions.rules.keys())}
    return document


class FileWriter:
    """Appends lines in a thread: a full disk or a slow one holds nobody up."""

    def __init__(self, settings: FileSink) -> None:
        self._path = Path(settings.path)
        self._settings = settings

    async def write(self, lines: Sequence[bytes]) -> None:
        """Append all lines, in one write."""
        await asyncio.to_thread(self._append, b"".join(line + b"\n" for line in lines))

    async def close(self) -> None:
        """Nothing is open between writes."""

    def _append(self, data: bytes) -> None:
        if self._path.exists() and self._path.stat().st_size + len(data) > self._settings.max_bytes:
            self._rotate()
        # Spans and hashes say little, but to nobody else.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(data)

    def _rotate(self) -> None:
        for number in range(self._settings.keep - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
