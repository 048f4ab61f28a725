"""The reference's metrics: each is here under its name, or `docs/metrics.md` says why not."""

from __future__ import annotations

import re
from pathlib import Path

from services.epp.app import build
from services.epp.config import EndpointPickerConfig
from services.extproc.config import parse
from services.extproc.lifecycle import Parts

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
pools: [{name: llama, endpoints: ['127.0.0.1:9'], metrics: {enabled: false}}]
"""

REFERENCE = {
    "inference_objective_": """
        request_total request_error_total inference_request_metric request_ttft_seconds request_tpot_seconds
        request_predicted_ttft_seconds request_predicted_tpot_seconds request_ttft_prediction_duration_seconds
        request_tpot_prediction_duration_seconds request_slo_violation_total request_duration_seconds request_sizes
        response_sizes input_tokens output_tokens prompt_cached_tokens running_requests
        normalized_time_per_output_token_seconds""",
    "inference_pool_": """
        average_kv_cache_utilization average_queue_size average_running_requests ready_pods per_pod_queue_size""",
    "inference_extension_": """
        scheduler_e2e_duration_seconds scheduler_attempts_total plugin_duration_seconds prefix_indexer_size
        prefix_indexer_hit_ratio prefix_indexer_hit_bytes info model_rewrite_decisions_total
        flow_control_request_queue_duration_seconds flow_control_dispatch_cycle_duration_seconds
        flow_control_request_enqueue_duration_seconds flow_control_queue_size flow_control_queue_bytes
        flow_control_pool_saturation""",
    "llm_d_inference_scheduler_": """
        pd_decision_total disagg_decision_total datalayer_poll_errors_total datalayer_extract_errors_total""",
}
NAMES = [prefix + name for prefix, names in REFERENCE.items() for name in names.split()]


async def exported() -> set[str]:
    parts = Parts()
    async with build(parse(CONFIG, EndpointPickerConfig), parts):
        return {
            family.name + ("_total" if family.type == "counter" else "")
            for family in parts.registry.collect()
        }


def absent() -> set[str]:
    """Return the names in the page's table of what is not here."""
    table = PAGE.partition("## Not here")[2]
    rows = re.findall(r"^\| (.*?) \| \S.*\|$", table, flags=re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


async def test_every_name_is_here_or_the_page_says_why_not():
    """And none is in both places."""
    here = await exported()
    assert [name for name in NAMES if name not in here | absent()] == []
    assert here & absent() == set()
    assert absent() <= set(NAMES)


async def test_the_page_names_what_is_here_under_the_reference_s_prefixes():
    """Nothing of ours hides among them."""
    told = set(re.findall(r"`(\w+)`", PAGE))
    assert sorted(name for name in await exported() - told if name.startswith(tuple(REFERENCE))) == []
