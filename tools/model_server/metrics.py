"""GET /metrics in vLLM's names. Written by hand: scrapers come twenty times a second."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Sequence

from tools.model_server.loop import EngineLoop

TTFT_BUCKETS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
)
E2E_BUCKETS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0)
"""vLLM's buckets, in seconds; its longest left out."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts by upper bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value, in seconds."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> list[str]:
        """Return the samples."""
        totals = list(itertools.accumulate(self._counts))
        bounds = [*map(str, self._bounds), "+Inf"]
        buckets = [f'{name}_bucket{{le="{le}",{labels}}} {n}.0' for le, n in zip(bounds, totals, strict=True)]
        return [*buckets, f"{name}_count{{{labels}}} {totals[-1]}.0", f"{name}_sum{{{labels}}} {self._sum}"]


class Metrics:
    """The server's own counts, beside those of the engine."""

    def __init__(self, model: str) -> None:
        self._labels = f'engine="0",model_name="{model}"'
        self.ttft = Histogram(TTFT_BUCKETS)
        self.e2e = Histogram(E2E_BUCKETS)
        self.finished = Counter({"stop": 0, "length": 0})

    def render(self, loop: EngineLoop, now: float) -> str:
        """Return the exposition. `now` in seconds since the epoch."""
        engine, counters, labels = loop.engine, loop.engine.counters, self._labels
        gauges = {
            "num_requests_running": loop.running,
            "num_requests_waiting": engine.waiting,
            "kv_cache_usage_perc": engine.kv.usage,
        }
        totals = {
            "prefix_cache_queries": counters.cache_queries,
            "prefix_cache_hits": counters.cache_hits,
            "num_preemptions": counters.preemptions,
            "prompt_tokens": counters.prompt_tokens,
            "generation_tokens": counters.generation_tokens,
        }
        lines: list[str] = []
        for name, value in gauges.items():
            lines += [f"# TYPE vllm:{name} gauge", f"vllm:{name}{{{labels}}} {float(value)}"]
        for name, value in totals.items():
            lines += [f"# TYPE vllm:{name}_total counter", f"vllm:{name}_total{{{labels}}} {float(value)}"]
        lines += self._requests(loop.aborted) + _cache_config(loop) + _adapters(loop, now)
        return "\n".join([*lines, ""])

    def _requests(self, aborted: int) -> list[str]:
        labels = self._labels
        lines = ["# TYPE vllm:request_success_total counter"]
        for reason, count in {**self.finished, "abort": aborted}.items():
            lines.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {count}.0')
        for name, histogram in (("time_to_first_token", self.ttft), ("e2e_request_latency", self.e2e)):
            lines.append(f"# TYPE vllm:{name}_seconds histogram")
            lines += histogram.lines(f"vllm:{name}_seconds", labels)
        return lines


def _cache_config(loop: EngineLoop) -> list[str]:
    kv = loop.engine.kv
    labels = (
        f'block_size="{kv.block_size}",cache_dtype="auto",enable_prefix_caching="True",engine="0",'
        f'gpu_memory_utilization="0.9",num_gpu_blocks="{kv.total}",prefix_caching_hash_algo="builtin"'
    )
    return ["# TYPE vllm:cache_config_info gauge", f"vllm:cache_config_info{{{labels}}} 1.0"]


def _adapters(loop: EngineLoop, now: float) -> list[str]:
    engine = loop.engine
    labels = (
        f'max_lora="{engine.adapters.slots}",running_lora_adapters="{",".join(engine.running_adapters())}",'
        f'waiting_lora_adapters="{",".join(engine.waiting_adapters())}"'
    )
    return ["# TYPE vllm:lora_requests_info gauge", f"vllm:lora_requests_info{{{labels}}} {now}"]
