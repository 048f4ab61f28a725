from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.safety import kit
from tools.gateway.cli import main

LOOSE = "policies: {default: {prompt: {actions: [{match: [secret], action: inspect}]}}}"
STRICT = "policies: {default: {prompt: {actions: [{match: [secret], action: block}]}}}"


@pytest.fixture
def replay(tmp_path):
    """Return what runs the command on records and configurations."""

    def run(records, config=STRICT, against=None) -> Result:
        recording = tmp_path / "recorded.jsonl"
        recording.write_text(
            records if isinstance(records, str) else "".join(json.dumps(one) + "\n" for one in records)
        )
        arguments = ["safety", "replay", str(recording), "--config", written("new.yaml", config)]
        if against:
            arguments += ["--against", written("old.yaml", against)]
        return CliRunner().invoke(main, arguments)

    def written(name: str, text: str) -> str:
        path = tmp_path / name
        Path(path).write_text(text)
        return str(path)

    return run


def prompt(text, **more):
    body = {"messages": [{"role": "user", "content": text}]}
    return {"direction": "prompt", "model": "m", "body": body, **more}


def test_two_configurations_are_compared(replay):
    """A line per difference, with rules, and the counts."""
    result = replay([prompt("hi"), prompt(kit.SECRET, id="r-2")], against=LOOSE)
    assert result.stdout.splitlines() == [
        "2 r-2 prompt m: inspect (aws-access-key) -> block (aws-access-key)"
    ]
    assert result.stderr.strip() == "2 records, 1 differ: 1 inspect -> block"
    assert result.exit_code == 1


def test_without_another_configuration_the_recorded_verdict_counts(replay):
    """A record that says nothing was let through."""
    same = prompt(kit.SECRET, verdict="block", rules=["aws-access-key"])
    assert replay([same, prompt("hi")]).exit_code == 0
    assert "allow -> block" in replay([prompt(kit.SECRET)]).stdout


def test_a_recorded_policy_is_followed(replay):
    """As the route chose it; one that is gone is trouble."""
    config = STRICT.replace("policies: {", "policies: {none: {}, ")
    assert replay([prompt(kit.SECRET, policy="none")], config).exit_code == 0
    assert replay([prompt(kit.SECRET, policy="gone")], config).exit_code == 2


BOTH = "policies: {default: {response: {actions: [{match: [secret], action: ACTION}], stream: MODE}}}"


def streamed(events, **more):
    return {"direction": "response", "model": "m", "stream": events, **more}


def test_recorded_streams_are_judged_as_they_flowed(replay):
    """Pieces or whole texts of events; a match over two events is one finding."""
    pieces = [event.decode() for event in kit.chat(["key AK", kit.SECRET[2:], " ok"])]
    records = [streamed(pieces, id="s-1"), streamed("".join(pieces)), streamed("".join(pieces).split(" "))]
    old, new = BOTH.replace("MODE", "exact").replace("ACTION", "redact"), BOTH.replace("MODE", "exact")
    result = replay(records, new.replace("ACTION", "block"), against=old)
    assert result.stdout.splitlines()[0] == (
        "1 s-1 response m: redact (aws-access-key) -> block (aws-access-key)"
    )
    assert result.stderr.strip() == "3 records, 3 differ: 3 redact -> block"


def test_modes_of_a_stream_differ_where_encodings_hide_something(replay):
    """Windows read what an exact stream lets pass."""
    events = "".join(event.decode() for event in kit.chat([f"key {kit.SECRET.encode().hex()} ok"]))
    old, new = (BOTH.replace("ACTION", "redact").replace("MODE", mode) for mode in ("exact", "window"))
    assert replay([streamed(events)], new, against=old).stdout.splitlines() == [
        "1 response m: allow -> redact (aws-access-key)"
    ]
    assert replay([streamed("data: {oops\n\n")], new).stdout.splitlines() == [
        "1 response m: allow -> undecodable"
    ]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ('{"direction": "up", "body": {}}\n', "line 1"),
        ('\n{"direction"', "line 2"),
        ('{"direction": "response"}\n', "either `body` or `stream`"),
        ('{"direction": "response", "body": {}, "stream": ""}\n', "either `body` or `stream`"),
        ('{"direction": "prompt", "stream": ""}\n', "for answers"),
    ],
)
def test_a_line_that_is_no_record_is_named(replay, records, message):
    """Status 2, as diff has it."""
    result = replay(records)
    assert result.exit_code == 2
    assert message in result.stderr


def test_no_text_is_printed(replay):
    """Differences may go into a ticket."""
    result = replay([prompt(f"my key {kit.SECRET}")])
    assert kit.SECRET not in result.output
