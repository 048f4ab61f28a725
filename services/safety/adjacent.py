"""What adjacent parts of one message say together: a secret cut in two parts is one to the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from services.openai.texts import Path, Text
from services.safety.checks.base import Check, Scan
from services.safety.verdict import Finding

_JOINTS = ("", "\n")
"""What chat templates put between the parts of a message."""


def crossing(texts: Iterable[Text], checks: Sequence[Check]) -> dict[Path, list[Finding]]:
    """Return the findings that cross from one part of a message into the next, by part, in the part's offsets."""
    found: dict[Path, list[Finding]] = {}
    for parts in _messages(texts):
        for joint in _JOINTS:
            for check in checks:
                for path, finding in _crossing(parts, joint, check):
                    here = found.setdefault(path, [])
                    if finding not in here:
                        here.append(finding)
    return found


def _messages(texts: Iterable[Text]) -> Iterator[list[Text]]:
    """Yield the text parts of each message that has several. What stands between them, such as a picture, is no part."""
    for _, group in groupby((text for text in texts if _message(text)), key=_message):
        if len(parts := list(group)) > 1:
            yield parts


def _message(text: Text) -> tuple[Path, str] | None:
    path = text.path
    if text.scannable and len(path) > 2 and path[-1] == "text" and isinstance(path[-2], int):  # noqa: PLR2004 - field, position, "text"
        return path[:-2], text.role
    return None


def _crossing(parts: Sequence[Text], joint: str, check: Check) -> Iterator[tuple[Path, Finding]]:
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + len(part.value) + len(joint))
    for finding in check.scan(joint.join(part.value for part in parts)):
        touched = [
            (part, max(finding.start - start, 0), min(finding.end - start, len(part.value)))
            for part, (start, end) in zip(parts, pairwise(starts), strict=True)
            if finding.start < end - len(joint) and finding.end > start
        ]
        if len(touched) > 1:
            yield from ((part.path, replace(finding, start=start, end=end)) for part, start, end in touched)


@dataclass(frozen=True, slots=True)
class Known:
    """A check that finds what was found already."""

    findings: Sequence[Finding]
    max_length: int | None = None

    def scan(self, text: str) -> Sequence[Finding]:  # noqa: ARG002 - whatever the text says
        """Return the findings."""
        return self.findings

    def scanner(self) -> Known:
        """Return itself: it is for texts of one piece."""
        return self

    def feed(self, text: str, *, final: bool = False) -> Scan:  # noqa: ARG002 - whole texts only
        """Take the whole text."""
        return Scan(self.findings, len(text))
