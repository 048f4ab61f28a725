"""One record per verdict, without the text: what was found where, by which rules, and how much was read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from services.safety.verdict import Action, Direction, Report, Verdict

_DIGEST = 16  # bytes; equal texts are told by it, and 128 bits do not collide

_SHOWN = 100  # findings in one record: a list of addresses can hold thousands


@dataclass(frozen=True, slots=True)
class Record:
    """The judgement on one prompt or answer."""

    direction: Direction
    verdict: Verdict
    policy: str
    model: str
    request_id: str = ""
    text_hash: str = ""
    """Keyed hash of the body as it came; empty where nothing was found or the body came in pieces."""
    held_bytes: int | None = None
    """Of a stream: the most bytes that one text had to wait."""
    reported: tuple[Report, ...] = ()
    """Providers that were asked."""
    enforced: bool = True
    """False: it changed nothing, because the stream's mode is `audit` or the policy judges in the shadow of another."""
    against: Action | None = None
    """Of a shadow policy: what the policy in force did."""


class Observer(Protocol):
    """Hears about every verdict. Must not raise and must not block."""

    def verdict(self, record: Record) -> None:
        """Take one record."""


class Observers:
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def verdict(self, record: Record) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.verdict(record)


class AuditLog:
    """Writes records to the log: at level info when something was found or not judged, else at debug."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("safety.audit")

    def verdict(self, record: Record) -> None:
        """Write one line."""
        verdict = record.verdict
        quiet = verdict.action is Action.ALLOW and not verdict.skipped
        write = self._log.debug if quiet else self._log.info
        write("verdict", **fields(record))


def fields(record: Record) -> dict[str, object]:
    """Return the record as plain values. Paths and spans, never text."""
    verdict = record.verdict
    return {
        "direction": record.direction.value,
        "verdict": verdict.action.value,
        "state": verdict.state.value,
        "policy": record.policy,
        "model": record.model,
        "request_id": record.request_id,
        "reason": verdict.reason,
        "findings": [
            {
                "rule": located.finding.rule,
                "category": located.finding.category,
                "action": located.action.value,
                "path": [step if isinstance(step, str | int) else "(key)" for step in located.path],
                "span": [located.finding.start, located.finding.end],
                "confidence": located.finding.confidence.value,
            }
            for located in verdict.findings[:_SHOWN]
        ],
        "findings_total": len(verdict.findings),
        "text_hash": record.text_hash,
        "scanned_bytes": verdict.scanned_bytes,
        "skipped_bytes": verdict.skipped_bytes,
        "exempt_bytes": verdict.exempt_bytes,
        "skipped": list(verdict.skipped),
        "held_bytes": record.held_bytes,
        "failed_open": list(verdict.failed_open),
        "enforced": record.enforced,
        "against": record.against.value if record.against else "",
        "providers": [_report(report) for report in record.reported],
    }


def _report(report: Report) -> dict[str, object]:
    return {
        "provider": report.provider,
        "state": report.state.value,
        "verdict": report.action.value,
        "ms": round(report.seconds * 1000, 3),
        "failed_open": report.failed_open,
    }


def text_hash(key: bytes, body: bytes) -> str:
    """Return the keyed BLAKE2b hash of `body` in hex: equal bodies can be told, nobody without the key can guess."""
    return hashlib.blake2b(body, digest_size=_DIGEST, key=key[:64]).hexdigest()
