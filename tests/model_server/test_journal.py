"""What is remembered is bounded."""

from __future__ import annotations

from tools.model_server.journal import REMEMBERED, Journal


def test_the_oldest_requests_are_forgotten():
    """Counts go on; entries do not pile up."""
    journal = Journal()
    for index in range(REMEMBERED + 5):
        journal.add(f"r-{index}", "POST", "/v1/completions", (), b"")
    ids = [entry.id for entry in journal.entries()]
    assert (len(ids), ids[0]) == (REMEMBERED, "r-5")
    assert journal.requests["/v1/completions"] == REMEMBERED + 5


def test_a_repeated_id_keeps_the_newest():
    """A retry replaces what it repeats."""
    journal = Journal()
    for body in (b"one", b"three"):
        journal.add("r", "POST", "/", (), body)
    assert [entry.body_length for entry in journal.entries()] == [5]


def test_a_request_without_id_gets_one():
    """Two of them are two."""
    journal = Journal()
    for _ in range(2):
        journal.add("", "POST", "/", (), b"")
    assert len({entry.id for entry in journal.entries()}) == 2
