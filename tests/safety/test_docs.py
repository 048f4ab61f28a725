"""What docs/safety.md says of fields and views is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.openai.texts import KINDS, LABELS, OPAQUE, Kind, walk
from services.safety.canonical.views import DEPTH
from tests.safety import tricks
from tests.safety.canonical.test_check import KEYS, followed
from tests.safety.kit import SECRET

MANUAL = (Path(__file__).parents[2] / "docs/safety.md").read_text()


def table(section):
    """Return the cells of a section's tables, row by row, heads left out."""
    text = MANUAL.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not set(row[0]) <= set("- ")]


def names(cell):
    return set(re.findall(r"`([^`]+)`", cell))


FIELDS = {row[0]: names(row[1]) for row in table("What is read") if row[0] in set(Kind)}
PLACES = [
    (dialect, path)
    for dialect, requests, answers in (row for row in table("What is read") if row[0] not in {"Class", *Kind})
    for path in sorted(names(requests) | names(answers))
]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in {Kind.RESULT, Kind.NUMBER}])
def test_the_manual_names_the_fields_of_each_class(kind):
    """No more and no less than the walk knows."""
    known = {name for name, of in (KINDS | OPAQUE).items() if of is kind}
    assert FIELDS[kind] == (set(LABELS) if kind is Kind.LABEL else known)


@pytest.mark.parametrize(("dialect", "path"), PLACES)
def test_a_text_is_read_wherever_the_manual_says(dialect, path):
    """Each place of each dialect is one of the scannable texts."""
    value: object = SECRET
    for step in reversed(path.split(".")):
        name, lists = step.rstrip("[]"), step.count("[]")
        for _ in range(lists):
            value = [value]
        value = {name: value}
    (found,) = [text for text in walk(value) if text.value == SECRET]  # type: ignore[arg-type]  # JSON
    assert found.scannable


VIEWS = {row[0]: row[2:] for row in table("Canonical view")}
TRICKS = {
    "characters": tricks.SINGLE,
    "escapes": tricks.ESCAPED,
    "encodings": tricks.WRAPPED,
    "ciphers": tricks.CIPHERS,
    "languages": tricks.UNSEEN,
}


@pytest.mark.parametrize("group", TRICKS)
def test_each_kind_of_trick_is_seen_where_the_manual_says(group):
    """In an exact stream, and in whole texts and windows."""
    in_streams, in_texts = (cell.startswith("yes") for cell in VIEWS[group])
    for trick in TRICKS[group].values():
        text = f"key {trick(SECRET)} ok"
        assert bool(followed(KEYS, text)) is in_streams
        assert bool(KEYS.scan(text)) is in_texts


def test_the_manual_knows_the_depth():
    """Of one encoding in the other."""
    assert f"undone {DEPTH} layers deep" in MANUAL
