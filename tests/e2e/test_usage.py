"""The picker learns from the servers' own counts, although it sees no answers: safety reads them."""

from __future__ import annotations

import pytest

from tests.e2e.gateway.stack import Gateway
from tests.e2e.harness.wait import wait_until

pytestmark = pytest.mark.e2e

CACHED, OUTPUT = "inference_objective_prompt_cached_tokens_count", "inference_objective_output_tokens_sum"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_servers_counts_reach_the_picker(gateway: Gateway, stream: bool):
    """Seven tokens are seven, and not what their bytes look like."""
    wait_until(gateway.at_rest, "nothing is in flight before")
    counted, tokens = gateway.metric("epp", CACHED), gateway.metric("epp", OUTPUT)
    options = {"include_usage": True} if stream else None
    answer = gateway.chat("how much is it?", max_tokens=7, stream=stream, stream_options=options)
    assert answer.status_code == 200
    wait_until(lambda: gateway.metric("epp", CACHED) == counted + 1, "the end has come with its usage")
    assert gateway.metric("epp", OUTPUT) == tokens + 7
