"""On real Envoy with the picker alone, as behind a gateway without our router: the OpenAI SDK asks for an alias."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from services.epp.config import EndpointPickerConfig
from services.extproc.config import parse
from tests.epp.stack import any_port, envoy, envoy_config, picker, until
from tests.epp.test_envoy import total
from tools.model_server.core import Settings
from tools.model_server.server import serve

pytestmark = pytest.mark.e2e

CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
pools: [{name: llama, endpoints: ['%s'], metrics: {interval_seconds: 0.05}}]
rewrites:
- name: alias
  rules:
  - matches: [{model: {type: Exact, value: "my é/model"}}]
    targets: [{modelRewrite: %s}]
"""
FULL = "FULL_DUPLEX_STREAMED"
ASKED = "my é/model"


def with_modes(config: dict[str, Any], request: str, answer: str) -> dict[str, Any]:
    """Have the picker's filter send it both bodies in these modes, as gateways do that know the protocol."""
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    pick = chain["filters"][0]["typed_config"]["http_filters"][0]["typed_config"]
    trailers = (
        {f"{side}_trailer_mode": "SEND" for side in ("request", "response")}
        if FULL in {request, answer}
        else {}
    )
    pick["processing_mode"] = {
        "request_header_mode": "SEND",
        "request_body_mode": request,
        "response_header_mode": "SEND",
        "response_body_mode": answer,
        **trailers,
    }
    return config


@pytest.mark.parametrize(
    ("request_mode", "answer_mode", "seed"),
    [(FULL, FULL, 31), ("BUFFERED", "BUFFERED", 32), ("BUFFERED", FULL, 33)],
)
async def test_a_user_of_the_sdk_sees_the_name_that_it_asked_for(tmp_path, request_mode, answer_mode, seed):
    """Plain and streamed, in chat, responses and embeddings; the server knows only its own name for the model."""
    async with serve(Settings(model="served")) as server:
        config = parse(CONFIG % (server.url, "served"), EndpointPickerConfig)
        async with picker(config) as (ports, parts):
            await until(lambda: parts.readiness.ready)
            port = any_port(seed)
            gateway = with_modes(envoy_config(epp=ports.grpc, port=port), request_mode, answer_mode)
            sdk = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=20)
            async with envoy(gateway, tmp_path), sdk:
                models = await asked_in_every_way(sdk)
                with pytest.raises(openai.NotFoundError):
                    await sdk.chat.completions.create(
                        model="nobody", messages=[{"role": "user", "content": "x"}]
                    )
                await until(lambda: total(parts, "epp_inflight_requests") == 0)

    assert models == {ASKED}
    counted = {"model_rewrite_name": "alias", "model_name": ASKED, "target_model": "served"}
    assert total(parts, "inference_extension_model_rewrite_decisions_total", **counted) == 5


async def asked_in_every_way(sdk: openai.AsyncOpenAI) -> set[str]:
    """Return the models that five answers and all their events name."""
    chat = sdk.chat.completions
    messages: Any = [{"role": "user", "content": "hello " * 500}]
    plain = await chat.create(model=ASKED, messages=messages, max_tokens=5)
    assert plain.usage is not None
    assert plain.usage.completion_tokens == 5
    events = [
        event async for event in await chat.create(model=ASKED, messages=messages, max_tokens=5, stream=True)
    ]
    assert len(events) > 5
    whole = await sdk.responses.create(model=ASKED, input="hello")
    inner = [
        event.response.model
        async for event in await sdk.responses.create(model=ASKED, input="hello", stream=True)
        if event.type in {"response.created", "response.completed"}
    ]
    assert len(inner) == 2
    vectors = await sdk.embeddings.create(model=ASKED, input="hello")
    return {plain.model, whole.model, vectors.model, *inner, *(event.model for event in events)}
