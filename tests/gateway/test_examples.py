from __future__ import annotations

import json
import shlex

import msgspec

from tools.gateway.examples import examples
from tools.gateway.stack import Ready

METRICS = {"bbr": "http://127.0.0.1:9094/metrics", "epp": "http://127.0.0.1:9092/metrics"}
READY = Ready(
    gateway="http://127.0.0.1:9080",
    admin="http://127.0.0.1:10901",
    metrics=METRICS,
    models=["it's-a-model", "other"],
    endpoints={},
    redis="redis://127.0.0.1:7390/0",
)


def test_the_commands_can_be_pasted_as_they_are():
    """A shell reads each as one request to this gateway, whatever the model is called."""
    text = examples(READY).replace("\\\n", " ")
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("curl")]
    bodies = [json.loads(command[-1]) for command in commands]
    assert [body["model"] for body in bodies] == ["it's-a-model", "other"]
    assert [body.get("stream", False) for body in bodies] == [False, True]
    assert all("http://127.0.0.1:9080/v1/chat/completions" in command for command in commands)
    assert 'base_url="http://127.0.0.1:9080/v1"' in text


def test_replicas_are_told_of_only_where_there_are_several():
    """With what they share, or that they share nothing."""
    assert "endpoint pickers" not in examples(READY)
    two = msgspec.structs.replace(READY, metrics={**METRICS, "epp-2": "http://127.0.0.1:9202/metrics"})
    assert "2 endpoint pickers (epp, epp-2) share their state" in examples(two)
    assert "\ninference-gateway state redis://127.0.0.1:7390/0\n" in examples(two)
    assert "share nothing" in examples(msgspec.structs.replace(two, redis=""))
