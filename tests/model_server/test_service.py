"""The endpoints beside generation, in vLLM's forms."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.model_server.conftest import ADAPTER, MODEL

COMPLETIONS = "/v1/chat/completions"


def ask(model=MODEL, **more):
    return {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "hello " * 40}], **more}


async def samples(http):
    """Return the metrics by name; a real parser must be able to read them."""
    text = (await http.get("/metrics")).text
    return {s.name: s for family in text_string_to_metric_families(text) for s in family.samples}


async def test_metrics_have_vllm_names_and_count(http):
    """What a picker scrapes, and the totals of what was served."""
    for _ in range(2):
        usage = (await http.post(COMPLETIONS, json=ask())).json()["usage"]
    found = await samples(http)
    assert {n: found[n].value for n in ("vllm:num_requests_running", "vllm:num_requests_waiting")} == {
        "vllm:num_requests_running": 0,
        "vllm:num_requests_waiting": 0,
    }
    assert found["vllm:generation_tokens_total"].value == 16
    assert found["vllm:prefix_cache_queries_total"].value == 2 * usage["prompt_tokens"]
    assert (
        found["vllm:prefix_cache_hits_total"].value == usage["prompt_tokens_details"]["cached_tokens"] == 64
    )
    assert found["vllm:kv_cache_usage_perc"].labels == {"engine": "0", "model_name": MODEL}
    config = found["vllm:cache_config_info"]
    assert (config.value, config.labels["block_size"], config.labels["num_gpu_blocks"]) == (1, "16", "131072")
    assert found["vllm:time_to_first_token_seconds_count"].value == 2


async def test_metrics_show_running_requests_and_adapters(http):
    """While an answer is on its way."""
    body, pace = ask(ADAPTER, stream=True, max_tokens=100_000), {"x-mock-token-ms": "1"}
    async with http.stream("POST", COMPLETIONS, json=body, headers=pace) as answer:
        await anext(answer.aiter_bytes())
        found = await samples(http)
    assert found["vllm:num_requests_running"].value == 1
    assert found["vllm:kv_cache_usage_perc"].value > 0
    info = found["vllm:lora_requests_info"]
    assert info.labels == {"max_lora": "4", "running_lora_adapters": ADAPTER, "waiting_lora_adapters": ""}
    assert info.value > 1_000_000_000


async def test_text_turns_into_tokens_and_back(http):
    """/tokenize and /detokenize are inverse."""
    there = (await http.post("/tokenize", json={"prompt": "Grüße, 東京"})).json()
    assert there["count"] == len(there["tokens"])
    back = await http.post("/detokenize", json={"tokens": there["tokens"]})
    assert back.json() == {"prompt": "Grüße, 東京"}


async def test_tokenized_messages_are_what_usage_counts(http):
    """The chat template is the same."""
    count = (await http.post("/tokenize", json={"messages": ask()["messages"]})).json()["count"]
    assert (await http.post(COMPLETIONS, json=ask())).json()["usage"]["prompt_tokens"] == count


async def test_adapters_are_loaded_and_unloaded(http):
    """In vLLM's words, errors included."""
    load = {"lora_name": "cad", "lora_path": "/adapters/cad"}
    assert (await http.post(COMPLETIONS, json=ask("cad"))).status_code == 404
    assert (
        await http.post("/v1/load_lora_adapter", json=load)
    ).text == "Success: LoRA adapter 'cad' added successfully."
    assert (await http.post(COMPLETIONS, json=ask("cad"))).json()["model"] == "cad"
    assert (await http.get("/v1/models")).json()["data"][-1]["root"] == "/adapters/cad"
    again = await http.post("/v1/load_lora_adapter", json=load)
    assert (again.status_code, again.json()["error"]["type"]) == (400, "InvalidUserInput")
    gone = await http.post("/v1/unload_lora_adapter", json={"lora_name": "cad"})
    assert gone.text == "Success: LoRA adapter 'cad' removed successfully."
    assert (await http.post(COMPLETIONS, json=ask("cad"))).status_code == 404
    assert (await http.post("/v1/unload_lora_adapter", json={"lora_name": "cad"})).status_code == 404
    assert (await http.post("/v1/load_lora_adapter", json={"lora_name": "x"})).status_code == 400


@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings", "responses", "messages"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"model": 7}', b'{"model":"\xff"}', b"[" * 100_000]
)
async def test_a_body_that_cannot_be_read_is_a_400(http, path, body):
    """With an error that says where."""
    answer = await http.post("/v1/" + path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


async def test_a_large_body_is_served(http):
    """A million bytes are a quarter of a million tokens."""
    body = ask() | {"messages": [{"role": "user", "content": "word " * 200_000}]}
    answer = await http.post(COMPLETIONS, json=body)
    assert answer.json()["usage"]["prompt_tokens"] > 250_000


async def test_the_cache_can_be_emptied(http):
    """By /reset_prefix_cache, as vLLM's."""
    await http.post(COMPLETIONS, json=ask())
    await http.post("/reset_prefix_cache")
    answer = await http.post(COMPLETIONS, json=ask())
    assert answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_small_endpoints_answer(http):
    """Health, version, and 404 for the rest."""
    assert (await http.get("/health")).status_code == 200
    assert (await http.get("/version")).json()["version"]
    assert (await http.get("/v1/nothing")).status_code == 404
