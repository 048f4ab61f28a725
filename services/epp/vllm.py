"""Read vLLM's `/metrics` without reading all of it: a few wanted lines out of thousands.

Prometheus text format 0.0.4. Several series of one gauge are several engines behind one port (data parallel): counts
are summed, the KV usage is averaged, and cache sizes are summed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from services.epp.endpoints import Metrics

WAITING = b"vllm:num_requests_waiting"
RUNNING = b"vllm:num_requests_running"
KV_USAGE = b"vllm:kv_cache_usage_perc"
OLD_KV_USAGE = b"vllm:gpu_cache_usage_perc"  # the name up to vLLM 0.9
CACHE_CONFIG = b"vllm:cache_config_info"
LORA = b"vllm:lora_requests_info"
PROMPT_TOKENS = b"vllm:prompt_tokens_total"
STARTED = b"process_start_time_seconds"

_NEWLINE = ord("\n")
_AFTER_NAME = (b"{", b" ", b"\t")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


class MetricsError(ValueError):
    """The text is not what a vLLM server says."""


def parse(text: bytes, scraped_at: float) -> Metrics:
    """Return what the server reports; raise `MetricsError` when its queue and batch cannot be read from `text`."""
    block_size, num_blocks = _cache(text)
    active, waiting, most = _adapters(text)
    return Metrics(
        waiting=round(sum(_required(text, WAITING))),
        running=round(sum(_required(text, RUNNING))),
        kv_usage=_kv_usage(text),
        block_size=block_size,
        num_blocks=num_blocks,
        active_adapters=active,
        waiting_adapters=waiting,
        max_adapters=most,
        started_at=max(_values(text, STARTED), default=0.0),
        prompt_tokens_total=sum(_values(text, PROMPT_TOKENS)),
        scraped_at=scraped_at,
    )


def _series(text: bytes, name: bytes) -> Iterator[tuple[str, float]]:
    """Yield labels as written and value of every series of exactly `name`."""
    at = text.find(name)
    while at >= 0:
        after = at + len(name)
        # Comments and longer names contain the name too: it must begin its line and end here.
        if (at == 0 or text[at - 1] == _NEWLINE) and text[after : after + 1] in _AFTER_NAME:
            end = text.find(b"\n", after)
            yield _sample(text[after : end if end >= 0 else len(text)])
        at = text.find(name, after)


def _sample(rest: bytes) -> tuple[str, float]:
    """Split what follows a name: labels, value, and perhaps a timestamp."""
    line = rest.decode("utf-8", "replace")
    labels, _, value = line.rpartition("}")
    try:
        return labels, float(value.split()[0])
    except (ValueError, IndexError) as error:
        raise MetricsError(f"no value in {line[:100]!r}") from error


def _values(text: bytes, name: bytes) -> list[float]:
    """Return the finite values of `name`; a gauge that is NaN says nothing."""
    return [value for _, value in _series(text, name) if math.isfinite(value)]


def _required(text: bytes, name: bytes) -> list[float]:
    values = _values(text, name)
    if not values:
        raise MetricsError(f"no {name.decode()}")
    return values


def _kv_usage(text: bytes) -> float:
    values = _values(text, KV_USAGE) or _values(text, OLD_KV_USAGE)
    return sum(values) / len(values) if values else 0.0


def _cache(text: bytes) -> tuple[int, int]:
    """Return tokens in a block and the number of blocks of all engines; 0 for what is not told."""
    size, blocks = 0, 0
    for written, _ in _series(text, CACHE_CONFIG):
        labels = _labels(written)
        size = _count(labels.get("block_size", ""))
        blocks += _count(labels.get("num_gpu_blocks", ""))
    return size, blocks


def _adapters(text: bytes) -> tuple[frozenset[str], frozenset[str], int]:
    """Return running and waiting adapters and their limit from the newest series: its value is a Unix time."""
    newest = max(_series(text, LORA), key=lambda series: series[1], default=None)
    if newest is None:
        return frozenset(), frozenset(), 0
    labels = _labels(newest[0])
    active, waiting = (_names(labels.get(f"{state}_lora_adapters", "")) for state in ("running", "waiting"))
    return active, waiting, _count(labels.get("max_lora", ""))


def _names(value: str) -> frozenset[str]:
    return frozenset(name.strip() for name in value.split(",") if name.strip())


def _count(value: str) -> int:
    """Read a label that may say `None` while the engine starts."""
    return int(value) if value.isascii() and value.isdecimal() else 0


def _labels(written: str) -> dict[str, str]:
    return {name: _ESCAPE.sub(_unescape, value) for name, value in _LABEL.findall(written)}


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
