from __future__ import annotations

import pytest

from services.epp.config import KvEvents
from services.epp.unsupported import PARAMETERS
from services.extproc.config import ConfigError
from tests.epp.test_reference_config import made

EVENTS = "pools: [{name: a, endpoints: ['10.0.0.1:1'], kv_events: {port: 5556, topic: kv@}}]\n"
PRECISE = "plugins: [{type: precise-prefix-cache-scorer}]\n"


def test_a_pool_says_where_its_events_are():
    """The rest has defaults: those of vLLM, and no replay, as there."""
    assert made("", EVENTS).config.pools[0].kv_events == KvEvents(port=5556, topic="kv@")
    assert made("").config.pools[0].kv_events is None


def test_the_precise_scorer_needs_events():
    """Without any it would only repeat what was sent."""
    made(PRECISE, EVENTS)
    with pytest.raises(ConfigError, match=r"plugins\[0\].*needs a pool with events"):
        made(PRECISE)


@pytest.mark.parametrize("parameter", PARAMETERS["precise-prefix-cache-scorer"])
def test_the_references_parameters_are_refused_by_name(parameter):
    """With where the same is said."""
    with pytest.raises(ConfigError, match=rf"plugins\[0\]: parameters\.{parameter}: "):
        made(PRECISE.replace("}", f", parameters: {{{parameter}: x}}}}"), EVENTS)


def test_a_label_that_should_be_a_port_is_checked_at_the_start():
    """And not when the listener first connects."""
    labelled = "{url: '10.0.0.1:1', labels: {inference-gateway/kv-replay-port: none}}"
    with pytest.raises(ConfigError, match="kv-replay-port"):
        made("", EVENTS.replace("'10.0.0.1:1'", labelled))
