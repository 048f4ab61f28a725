from __future__ import annotations

import json

import pytest

from services.bbr.__main__ import build
from services.bbr.config import Config
from services.extproc.config import ConfigError, parse
from services.extproc.lifecycle import Parts
from services.extproc.script import Script
from services.openai.digest import decode as decode_digest
from services.openai.exact import decode
from tests.tokens.vocabulary import text, write

CONFIG = """
models: [{name: llama, adapters: [food]}, {name: plain}]
aliases: {l: llama}
tokens: {llama: {file: FILE, wait_seconds: 30}}
"""


async def metadata(config: Config, parts: Parts, model: str) -> dict[str, object]:
    body = json.dumps({"model": model, "prompt": text(200)}).encode()
    async with build(config, parts) as app:
        sent = await Script(app.service).request({":path": "/v1/completions"}, body)
    return dict(sent.metadata["gw.bbr"])


@pytest.mark.parametrize(("model", "known"), [("l", True), ("food", True), ("plain", False)])
async def test_tokens_travel_beside_the_digest(tmp_path, model, known):
    """Where the model has a tokenizer, its adapters included; they cover the digest's prompt."""
    parts = Parts()
    config = parse(CONFIG.replace("FILE", str(write(tmp_path))), Config)
    values = await metadata(config, parts, model)
    digest = decode_digest(str(values["digest"]))
    assert ("tokens" in values) is known
    if known:
        exact = decode(str(values["tokens"]))
        assert exact.prompt_bytes == digest.prompt_bytes
        assert len(exact.hashes) == exact.tokens // 16
        labels = {"model": "llama", "known": "all"}
        assert parts.registry.get_sample_value("bbr_token_lookups_total", labels) == 1


async def test_an_adapter_has_other_hashes_than_its_model(tmp_path):
    """Servers keep their caches apart too."""
    config = parse(CONFIG.replace("FILE", str(write(tmp_path))), Config)
    base, adapter = [(await metadata(config, Parts(), model))["tokens"] for model in ("llama", "food")]
    assert base != adapter


def test_tokens_of_an_unknown_model_are_refused(tmp_path):
    """A slip in the name would else be silent."""
    with pytest.raises(ConfigError, match="no model 'food' under `models`"):
        parse(CONFIG.replace("FILE", str(write(tmp_path))).replace("{llama: {f", "{food: {f"), Config)
