"""What the reference's files may name and this picker does not do: each with the sentence that says what to do."""

from __future__ import annotations

from collections.abc import Mapping

_DISCOVERY = "members are told under $.pools[].endpoints and $.pools[].dns"
_METRICS = "servers are asked for vLLM's metrics, under $.pools[].metrics"
_PRODUCER = "the prefix index and the load in flight are always there and need no producer"
_LATENCY = "latency is estimated in this process, learnt from what finished; there is no predictor beside it"
_IMAGES = "a digest does not tell one image from another"
_BLOCKS = "blocks are of 64 bytes and grow along the prompt, so that all of it is matched: leave it out"
_CAPACITY = "each server's list is as long as the cache that it reports: leave it out"
_HEADROOM = "a detector is no filter here: utilization-filter passes over servers above a limit"
_LENGTH = "cost-scorer counts the seconds that a match saves, so that longer ones are worth more"
_ONE_CLUSTER = "one gateway serves one cluster"

PLUGINS: Mapping[str, str] = {
    "active-request-filter": "use utilization-filter with the metric active-requests",
    "agent-identity": "flows are told apart by the fairness id's header",
    "burst-prefix-cache-producer": _PRODUCER + "; a prompt counts as sent at once",
    "data-parallel-profile-handler": "each port is an endpoint of its own: list them all under $.pools[].endpoints",
    "dcgm-data-source": _METRICS,
    "dcgm-extractor": _METRICS,
    "destination-endpoint-served-verifier": "what served a request is in the access log's metadata",
    "disaggregatedset-rollout-screener": "there is no Kubernetes here to tell a rollout by",
    "endpoint-attribute-filter": "use utilization-filter or label-selector-filter",
    "endpoint-attribute-scorer": "use the scorer for that metric, or write one: docs/plugins.md",
    "endpoint-notification-source": _DISCOVERY,
    "file-discovery": _DISCOVERY,
    "header-label-affinity-scorer": "write one in ten lines: docs/plugins.md",
    "k8s-notification-source": _DISCOVERY,
    "latency-slo-admitter": "requests with a negative priority are shed when their pool is saturated",
    "lora-load-state-scorer": "use lora-affinity-scorer",
    "lora-residency-filter": "use lora-capacity-filter",
    "mm-embeddings-cache-producer": _IMAGES,
    "mm-embeddings-cache-scorer": _IMAGES,
    "models-data-source": _METRICS,
    "models-extractor": _METRICS,
    "multicluster-kv-cache-utilization-scorer": _ONE_CLUSTER,
    "multicluster-prefix-cache-scorer": _ONE_CLUSTER,
    "multicluster-queue-scorer": _ONE_CLUSTER,
    "multicluster-topology-scorer": _ONE_CLUSTER + "; use zone-affinity-scorer",
    "p2p-source-producer": "no server is told to fetch another's cache",
    "passthrough-parser": "a path that is no inference API is always passed, and picked by load",
    "precise-prefix-cache-producer": "tell where the events are under $.pools[].kv_events",
    "predicted-latency-producer": _LATENCY,
    "probabilistic-admitter": "requests with a negative priority are shed when their pool is saturated",
    "request-attribute-reporter": "usage is in the metrics",
    "served-model-filter": "every server of a pool serves the pool's models",
    "session-affinity-filter": "use session-affinity-scorer, with a weight above all others",
    "session-id-producer": "name the header under sessionIdConfig.sources of session-affinity-scorer",
    "token-producer": "tokens come with the digest; name tokenizers under $.tokens of config/bbr.yaml",
    "topology-affinity-filter": "use topology-affinity-scorer, or label-selector-filter",
    "topology-extractor": "labels of endpoints are told under $.pools[].endpoints",
    "vertexai-parser": "the OpenAI and Anthropic APIs are read, by path",
    "vllmgrpc-parser": "the OpenAI and Anthropic APIs are read, by path",
    "vllmhttp-parser": "the OpenAI and Anthropic APIs are read, by path",
    "sglanghttp-parser": "the OpenAI and Anthropic APIs are read, by path",
}

_PREFIXES: Mapping[str, str] = {
    "autoTune": _BLOCKS,
    "blockSize": _BLOCKS,
    "blockSizeTokens": _BLOCKS,
    "hashBlockSize": _BLOCKS,
    "minBlockSizeTokens": _BLOCKS,
    "maxPrefixBlocksToMatch": _BLOCKS,
    "maxPrefixTokensToMatch": _BLOCKS,
    "lruCapacityPerServer": _CAPACITY,
    "matchLengthWeight": _LENGTH,
    "matchLengthScaleTokens": _LENGTH,
}

PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "approx-prefix-cache-producer": _PREFIXES,
    "concurrency-detector": {"headroom": _HEADROOM},
    "prefix-cache-scorer": _PREFIXES,
    "utilization-detector": {"headroom": _HEADROOM},
    "precise-prefix-cache-scorer": {
        "kvEventsConfig": "tell where the events are under $.pools[].kv_events",
        "tokenProcessorConfig": "the block size is under $.tokens of config/bbr.yaml, and no hash seed plays a part",
        "indexerConfig": "name tokenizers under $.tokens of config/bbr.yaml",
        "speculativeIndexing": "what was just sent to a server always counts",
        "speculativeTTL": "what was just sent to a server counts for 2s",
    },
}
"""Of plugins that are there, what is said elsewhere."""

FEATURE_GATES: Mapping[str, str] = {
    "dataLayer": "it is gone in the reference too; leave it out",
    "enableLegacyMetrics": "it is gone in the reference too; leave it out",
    "haPopulateNonLeaderDatastore": "all replicas serve, none leads",
    "prepareDataPlugins": "it is gone in the reference too; leave it out",
}
