"""Labelled sets in a folder: the public ones by the names of their files, any others as JSON lines.

A line of `NAME.jsonl` is `{"text": "…", "attack": false, "spans": [{"start": 0, "end": 5, "kind": "EMAIL_ADDRESS"}]}`;
`attack` says whether it is an injection or a jailbreak, `spans` is only there where all personal data is marked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
import msgspec


class Span(msgspec.Struct, frozen=True):
    """Something personal in a text, as the set's authors marked it."""

    start: int
    end: int
    kind: str


class Sample(msgspec.Struct, frozen=True):
    """One text and what is known about it."""

    text: str
    attack: bool = False
    """Whether it is an injection or a jailbreak."""
    variant: str = ""
    """What kind of attack, in the words of the set."""
    spans: tuple[Span, ...] | None = None
    """All personal data in it; None: nobody has marked any."""

    @property
    def held_out(self) -> bool:
        """Whether nobody looked at it while the rules were written: a hash of the text decides."""
        return hashlib.blake2b(self.text.encode(), digest_size=1).digest()[0] % 2 == 1


class LabelledSet(msgspec.Struct, frozen=True):
    """A set by the name of its file."""

    name: str
    samples: tuple[Sample, ...]


class _Labelled(msgspec.Struct):
    prompt: str
    label: int = 0
    source: str = ""


class _Injected(msgspec.Struct):
    user_input: str
    injection_variant: str = ""


class _Borderline(msgspec.Struct):
    mutated_prompt: str


class _Marked(msgspec.Struct):
    entity_type: str
    start_position: int
    end_position: int


class _Synthetic(msgspec.Struct):
    full_text: str
    spans: list[_Marked]


def _labelled(data: bytes) -> Iterator[Sample]:
    found = msgspec.json.decode(data, type=list[_Labelled])
    return (Sample(one.prompt, bool(one.label), one.source) for one in found)


def _injected(data: bytes) -> Iterator[Sample]:
    found = msgspec.json.decode(data, type=list[_Injected])
    return (Sample(one.user_input, attack=True, variant=one.injection_variant) for one in found)


def _borderline(data: bytes) -> Iterator[Sample]:
    return (Sample(one.mutated_prompt) for one in msgspec.json.decode(data, type=list[_Borderline]))


def _synthetic(data: bytes) -> Iterator[Sample]:
    for one in msgspec.json.decode(data, type=list[_Synthetic]):
        spans = (Span(mark.start_position, mark.end_position, mark.entity_type) for mark in one.spans)
        yield Sample(one.full_text, spans=tuple(spans))


def _lines(data: bytes) -> Iterator[Sample]:
    return (msgspec.json.decode(line, type=Sample) for line in data.splitlines() if line.strip())


READERS: Mapping[str, Callable[[bytes], Iterator[Sample]]] = {
    "notinject_*.json": _labelled,
    "piguard_*.json": _labelled,
    "cyberseceval_prompt_injection*.json": _injected,
    "cyberseceval_mitre_frr.json": _borderline,
    "presidio_synth_dataset*.json": _synthetic,
    "*.jsonl": _lines,
}
"""File name → what reads it. The first that fits does."""


def load(folder: Path) -> list[LabelledSet]:
    """Read every set in `folder`; raise `click.ClickException` that says what is wrong with which file."""
    sets = []
    for path in sorted(folder.iterdir()):
        reader = next((reader for pattern, reader in READERS.items() if path.match(pattern)), None)
        if reader is None:
            continue
        try:
            sets.append(LabelledSet(path.stem, tuple(reader(path.read_bytes()))))
        except msgspec.DecodeError as error:
            raise click.ClickException(f"{path}: {error}") from error
    if not sets:
        raise click.ClickException(f"{folder}: expected one of {', '.join(READERS)}")
    return sets
