"""What goes to stderr."""

from __future__ import annotations

import io
import json
import logging
import random

import pytest
import structlog

from services.extproc.config import Log
from services.extproc.events import Outcome
from services.extproc.log import StreamLog, configure
from services.extproc.observe import StreamRecord

RECORD = StreamRecord(
    Outcome.FORWARDED,
    method="POST",
    path="/v1/x",
    request_id="id",
    status=200,
    seconds=0.5,
    request_seconds=0.0021234,
    request_bytes=7,
)


@pytest.fixture
def stderr():
    """Give a place for the log, and put the process's own settings back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(stderr):
    return [json.loads(line) for line in stderr.getvalue().splitlines()]


def stream_log(stderr, *, level="info", sample=0.0, chance=0.5):
    class Fixed(random.Random):
        def random(self):
            return chance

    configure(level, stderr)
    return StreamLog("bbr", Log(sample=sample), chance=Fixed(), logger=structlog.get_logger())


@pytest.mark.parametrize(
    ("level", "sample", "chance", "expected"),
    [
        ("info", 0.0, 0.0, []),
        ("info", 0.5, 0.4, ["info"]),
        ("info", 0.5, 0.5, []),
        ("info", 1.0, 0.999, ["info"]),
        ("debug", 0.0, 0.5, ["debug"]),
        ("warning", 1.0, 0.0, []),
    ],
)
def test_a_share_of_the_requests_gets_a_line(stderr, level, sample, chance, expected):
    """The sampled ones at info, all at debug."""
    stream_log(stderr, level=level, sample=sample, chance=chance).ended(RECORD)
    assert [line["level"] for line in lines(stderr)] == expected


def test_the_line_says_who_what_and_how_long(stderr):
    """One line has all of it."""
    stream_log(stderr, sample=1.0).ended(RECORD)
    (line,) = lines(stderr)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "service": "bbr",
        "outcome": "forwarded",
        "reason": "",
        "method": "POST",
        "path": "/v1/x",
        "request_id": "id",
        "status": 200,
        "ms": 500.0,
        "request_decision_ms": 2.123,
        "response_decision_ms": 0.0,
        "request_bytes": 7,
        "response_bytes": 0,
        "dropped_headers": False,
    }


def test_a_failure_is_always_logged_with_its_stack(stderr):
    """Whatever the sampling."""
    log = stream_log(stderr, level="error")
    log.started()
    log.failed(ValueError("a bug"))
    log.ended(StreamRecord(Outcome.FAILED, "bug"))
    failed, request = lines(stderr)
    assert "ValueError: a bug" in failed["exception"]
    assert (request["level"], request["outcome"]) == ("error", "failed")


def test_other_libraries_log_json_too(stderr):
    """GRPC and aiohttp, from warnings up."""
    configure("info", stderr)
    logging.getLogger("grpc").info("chatter")
    logging.getLogger("grpc").warning("trouble")
    (line,) = lines(stderr)
    assert (line["event"], line["level"]) == ("trouble", "warning")
