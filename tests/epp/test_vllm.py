"""The scanner reads what prometheus_client's parser reads, of the few lines that are wanted."""

from __future__ import annotations

import math
import random

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.epp.endpoints import Metrics
from services.epp.vllm import MetricsError, parse

PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="llama"} 3.0
# HELP vllm:num_requests_waiting Number of requests waiting. vllm:num_requests_waiting 99
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="llama"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 0.25
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="1000"} 1.0
# TYPE vllm:lora_requests_info gauge
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.7000001e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a, b",waiting_lora_adapters="c"} 1.7000002e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters="x"} 1.7e+09
"""
FULL = Metrics(
    waiting=2,
    running=3,
    kv_usage=0.25,
    block_size=16,
    num_blocks=1000,
    active_adapters=frozenset({"a", "b"}),
    waiting_adapters=frozenset({"c"}),
    max_adapters=4,
    scraped_at=5.0,
)
LEAST = "vllm:num_requests_waiting 1\nvllm:num_requests_running 2\n"


def test_a_page_is_read():
    """Exact names only: neither the help texts nor longer names; the newest LoRA series by its value."""
    assert parse(PAGE.encode(), 5.0) == FULL


def test_the_least_that_a_server_says():
    """Without cache and LoRA figures they are unknown."""
    assert parse(LEAST.encode(), 0.0) == Metrics(waiting=1, running=2)


@pytest.mark.parametrize(
    ("more", "field", "expected"),
    [
        ("vllm:gpu_cache_usage_perc 0.5\n", "kv_usage", 0.5),
        ("vllm:gpu_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc 0.75\n", "kv_usage", 0.75),
        ("vllm:kv_cache_usage_perc NaN\n", "kv_usage", 0.0),
        ('vllm:kv_cache_usage_perc{e="0"} 0.2\nvllm:kv_cache_usage_perc{e="1"} 0.4\n', "kv_usage", 0.3),
        ('vllm:num_requests_waiting{e="1"} 4\n', "waiting", 5),
        ('vllm:num_requests_running{e="1"} 4 1700000000000\n', "running", 6),
        ('vllm:cache_config_info{num_gpu_blocks="None",block_size="16"} 1\n', "num_blocks", 0),
        (
            'vllm:cache_config_info{num_gpu_blocks="3"} 1\nvllm:cache_config_info{num_gpu_blocks="4"} 1\n',
            "num_blocks",
            7,
        ),
        ('vllm:lora_requests_info{running_lora_adapters="q\\"}{,r"} 1\n', "active_adapters", {'q"}{', "r"}),
        ('vllm:lora_requests_info{running_lora_adapters="b\\\\s\\nl"} 1\n', "active_adapters", {"b\\s\nl"}),
        ('vllm:lora_requests_info{max_lora="many"} 1\n', "max_adapters", 0),
    ],
)
def test_variants(more, field, expected):
    """Old names, several engines, escapes, what is not known yet."""
    found = getattr(parse((LEAST + more).encode(), 0.0), field)

    assert found == (pytest.approx(expected) if isinstance(expected, float) else expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>not found</html>",
        "vllm:num_requests_waiting 1\n",
        "vllm:num_requests_running 1\n",
        "vllm:num_requests_waiting\nvllm:num_requests_running 1\n",
        "vllm:num_requests_waiting x\nvllm:num_requests_running 1\n",
        "vllm:num_requests_waiting{\nvllm:num_requests_running 1\n",
        "vllm:num_requests_waiting NaN\nvllm:num_requests_running 1\n",
        "other:vllm:num_requests_waiting 1\nvllm:num_requests_running 1\n",
        "vllm:num_requests_waiting \nvllm:num_requests_running 1\n",
    ],
)
def test_what_no_vllm_server_says_is_an_error(text):
    """A wrong port must not look like an idle server."""
    with pytest.raises(MetricsError):
        parse(text.encode(), 0.0)


def test_every_cut_of_a_page_is_an_error_or_a_prefix_of_the_truth():
    """A truncated answer never crashes the scraper."""
    page = PAGE.encode()
    for end in range(len(page)):
        try:
            assert parse(page[:end], 5.0).waiting in {0, 2}
        except MetricsError:
            continue


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_the_official_parser(seed):
    """On random pages with strange label values, comments and neighbours."""
    rng = random.Random(seed)
    text = "\n".join(rng.sample(lines := list(random_lines(rng)), len(lines))) + "\n"

    assert parse(text.encode(), 0.0) == oracle(text)


def random_lines(rng: random.Random) -> list[str]:
    def value() -> str:
        letters = rng.choices(
            ["a", '\\"', "\\\\", "}", "{", ",", "=", " ", "é", "\\n", "#"], k=rng.randint(0, 6)
        )
        return "".join(letters)

    lines = [f"# HELP x {value()}" for _ in range(3)]
    for name, scale in (("num_requests_waiting", 9), ("num_requests_running", 9), ("kv_cache_usage_perc", 0)):
        for engine in range(rng.randint(1, 3)):
            number = rng.randint(0, scale) if scale else rng.random()
            lines.append(f'vllm:{name}{{engine="{engine}",model_name="{value()}"}} {number}')
            lines.append(f'vllm:{name}_other{{engine="{engine}"}} 1')
    lines.append(
        f'vllm:cache_config_info{{x="{value()}",block_size="16",num_gpu_blocks="{rng.randint(1, 9)}"}} 1'
    )
    lines.extend(
        f'vllm:lora_requests_info{{max_lora="2",running_lora_adapters="{value()}",'
        f'waiting_lora_adapters="{value()}"}} {moment}'
        for moment in rng.sample(range(1000), 3)
    )
    return lines


def oracle(text: str) -> Metrics:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def values(name: str) -> list[float]:
        return [s.value for s in samples if s.name == f"vllm:{name}" and math.isfinite(s.value)]

    def names(labels: dict[str, str], key: str) -> frozenset[str]:
        return frozenset(part.strip() for part in labels[key].split(",") if part.strip())

    cache = next(s.labels for s in samples if s.name == "vllm:cache_config_info")
    lora = max((s for s in samples if s.name == "vllm:lora_requests_info"), key=lambda s: s.value).labels
    usage = values("kv_cache_usage_perc")
    return Metrics(
        waiting=int(sum(values("num_requests_waiting"))),
        running=int(sum(values("num_requests_running"))),
        kv_usage=sum(usage) / len(usage),
        block_size=int(cache["block_size"]),
        num_blocks=int(cache["num_gpu_blocks"]),
        active_adapters=names(lora, "running_lora_adapters"),
        waiting_adapters=names(lora, "waiting_lora_adapters"),
        max_adapters=int(lora["max_lora"]),
    )
