from __future__ import annotations

import pytest

from services.openai.dialects import (
    SHAPES,
    Dialect,
    ErrorForm,
    dialect_of,
    error_form,
    is_versioned,
    model_id,
    path_model,
)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/chat/completions", Dialect.CHAT),
        ("/v1/completions", Dialect.COMPLETIONS),
        ("/v1/embeddings", Dialect.EMBEDDINGS),
        ("/v1/responses", Dialect.RESPONSES),
        ("/v1/messages", Dialect.MESSAGES),
        ("/v1/messages/count_tokens", Dialect.COUNT_TOKENS),
        ("/v1/rerank", Dialect.RERANK),
        ("/v2/rerank", Dialect.RERANK),
        ("/rerank", Dialect.RERANK),
        ("/v1/score", Dialect.SCORE),
        ("/score", Dialect.SCORE),
        ("/pooling", Dialect.POOLING),
        ("/classify", Dialect.POOLING),
        ("/tokenize", Dialect.TOKENIZE),
        ("/detokenize", Dialect.DETOKENIZE),
        ("/v1/images/generations", Dialect.IMAGES),
        ("/v1/images/edits", Dialect.IMAGE_EDITS),
        ("/v1/audio/transcriptions", Dialect.TRANSCRIPTIONS),
        ("/v1/audio/translations", Dialect.TRANSLATIONS),
        ("/v1/audio/speech", Dialect.SPEECH),
    ],
)
def test_a_post_is_known_by_its_path(path, dialect):
    """Every endpoint of the model APIs has its dialect."""
    assert dialect_of("POST", path) is dialect


@pytest.mark.parametrize(
    "path",
    [
        "/openai/v1/chat/completions",
        "/v1beta/chat/completions",
        "/chat/completions",
        "/openai/deployments/gpt/chat/completions?api-version=2024-06-01",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "/v1/chat/completions?x=/v1/models",
    ],
)
def test_prefixes_queries_and_slashes_do_not_matter(path):
    """A gateway mounts the API where it likes."""
    assert dialect_of("POST", path) is Dialect.CHAT


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/threads/t1/messages"),
        ("POST", "/v1/responses/r1/cancel"),
        ("POST", "/v1/chat"),
        ("POST", "/v1"),
        ("POST", "/"),
        ("POST", ""),
        ("POST", "/v1/models"),
        ("POST", "/v1/chat%2Fcompletions"),
        ("GET", "/v1/chat/completions"),
        ("DELETE", "/v1/models/x"),
        ("GET", "/v1/responses/r1"),
        ("GET", "/metrics"),
    ],
)
def test_what_is_no_endpoint_is_other(method, path):
    """Under a version the whole rest of the path counts, so another API's `messages` is not Anthropic's."""
    assert dialect_of(method, path) is Dialect.OTHER


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models", ""),
        ("/v1/models/", ""),
        ("/v1/models/llama", "llama"),
        ("/v1/models/meta-llama/Llama-3", "meta-llama/Llama-3"),
        ("/v1/models/meta-llama%2FLlama-3?x=1", "meta-llama/Llama-3"),
        ("/openai/v1/models/llama", "llama"),
        ("/models/llama", "llama"),
    ],
)
def test_a_model_id_may_hold_slashes(path, model):
    """Names of the Hugging Face kind are asked for both plain and escaped."""
    assert dialect_of("GET", path) is Dialect.MODELS
    assert model_id(path) == model


def test_every_dialect_has_a_shape_and_errors_in_its_own_form():
    """Only Anthropic's endpoints answer in Anthropic's form."""
    anthropic = {dialect for dialect in Dialect if error_form(dialect) is ErrorForm.ANTHROPIC}
    assert set(SHAPES) == set(Dialect)
    assert anthropic == {Dialect.MESSAGES, Dialect.COUNT_TOKENS}


@pytest.mark.parametrize(
    ("path", "expected"), [("/v1/x", True), ("/openai/v1/x", True), ("/x", False), ("/vx/y", False)]
)
def test_model_apis_live_under_a_version(path, expected):
    """Other paths may belong to other routes."""
    assert is_versioned(path) is expected


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/llama", "llama"),
        ("/v1/models/llama:predict", "llama"),
        ("/v1beta/models/gemma:streamGenerateContent?alt=sse", "gemma"),
        ("/v1/models/org/llama:predict", "org/llama"),
        ("/v1/models/llama3:8b:predict", "llama3:8b"),
        ("/openai/v1/models/a%20b:x", "a b"),
        ("/v1/models/llama/", "llama"),
        ("/v1/models", None),
        ("/v1/models/", None),
        ("/v1/models/?x=/v1/models/y", None),
        ("/models/llama", None),
        ("/v1/x/v1/models/llama", None),
        ("/v1/chat/completions?x=/v1/models/y", None),
    ],
)
def test_a_path_can_name_a_model(path, model):
    """Up to its last colon; only right behind the first version segment."""
    found = path_model("POST", path)
    assert (found.model if found else None) == model


def test_only_a_post_is_for_a_model():
    """The others are about it."""
    assert path_model("GET", "/v1/models/llama") is None
    assert path_model("DELETE", "/v1/models/llama") is None


def test_a_model_in_a_path_is_replaced_and_nothing_else():
    """Escaped where a path demands it; slashes stay."""
    path = "/openai/v1//models/a%20b:generate?model=a%20b"
    found = path_model("POST", path)
    assert found is not None
    assert found.renamed(path, "org/é x") == "/openai/v1//models/org/%C3%A9%20x:generate?model=a%20b"
