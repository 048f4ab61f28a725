from __future__ import annotations

import json
import shlex

from tools.gateway.examples import examples
from tools.gateway.stack import Ready

READY = Ready(
    gateway="http://127.0.0.1:9080",
    admin="http://127.0.0.1:10901",
    metrics={},
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
