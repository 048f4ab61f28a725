"""What services say that has been misread before, by others or easily."""

from __future__ import annotations

import json
import math

import pytest

from services.safety.providers import airs, azure, bedrock, guard_model, litellm, llm_guard, model_armor, nemo
from services.safety.providers.base import Context
from services.safety.providers.pieces import Part, Piece
from services.safety.providers.settings import read
from services.safety.providers.shape import CLEAN
from services.safety.verdict import Action, Confidence, Direction, Finding, State
from tests.safety.providers.fakes import TEMPLATE, armor, injection

PROMPT = Context(Direction.PROMPT, "m", "p", "r-1")
RESPONSE = Context(Direction.RESPONSE, "m", "p", "r-1")
PIECE = Piece("0123456789", "user", (Part(0, 0, 0, 10),))
URL = {"url": "http://judge"}


def said(shape, document, context=PROMPT, pieces=(PIECE,)):
    return shape.read(json.dumps(document).encode(), pieces, context)[0]


ARMOR = model_armor.Shape(read({**URL, "template": TEMPLATE}, model_armor.ModelArmor))


@pytest.mark.parametrize("wrapper", ["csamFilterFilterResult", "csamFilterResult"])
def test_a_csam_match_is_not_lost_for_a_doubled_word(wrapper):
    """The API's own wrapper name says `Filter` twice."""
    verdict = said(ARMOR, armor(match=True, csam={wrapper: {"matchState": "MATCH_FOUND"}}))
    assert (verdict.action, verdict.reason) == (Action.BLOCK, "csam")


def test_model_armor_finds_spans_and_says_how_sure_it_is():
    """`codepointRange` has int64, which JSON carries as strings; a start of 0 is left out."""
    found = {"infoType": "US_SSN", "likelihood": "LIKELY", "location": {"codepointRange": {"end": "4"}}}
    inspected = {"executionState": "EXECUTION_SUCCESS", "matchState": "MATCH_FOUND", "findings": [found]}
    rai = {
        "executionState": "EXECUTION_SUCCESS",
        "matchState": "MATCH_FOUND",
        "raiFilterTypeResults": {
            "hate_speech": {"confidenceLevel": "MEDIUM_AND_ABOVE", "matchState": "MATCH_FOUND"},
            "harassment": {"matchState": "NO_MATCH_FOUND"},
        },
    }
    filters = {"sdp": {"sdpFilterResult": {"inspectResult": inspected}}, "rai": {"raiFilterResult": rai}}
    verdict = said(ARMOR, armor(match=True, **filters))
    assert [found for _, found in verdict.findings] == [
        Finding("model-armor/us-ssn", 0, 4, "sdp"),
        Finding("model-armor/hate-speech", 0, 10, "hate-speech", Confidence.MEDIUM),
    ]


def test_one_filter_that_was_skipped_leaves_the_text_unjudged():
    """Over its token limit Model Armor finds nothing and says so; others take that for clean."""
    verdict = said(ARMOR, armor(match=False, pi=injection(ran=False), other=injection()))
    assert (verdict.action, verdict.state) == (Action.ALLOW, State.SKIPPED)


def test_a_failed_invocation_is_an_error():
    """With 200."""
    assert said(ARMOR, armor(match=False, invocation="FAILURE")).state is State.ERROR


def test_model_armor_judges_answers_by_their_own_template():
    """`sanitizeModelResponse`."""
    other = TEMPLATE.replace("templates/t", "templates/out")
    settings = read({**URL, "template": TEMPLATE, "response_template": other}, model_armor.ModelArmor)
    call = model_armor.Shape(settings).call([PIECE], RESPONSE)
    assert call.path == f"/v1/{other}:sanitizeModelResponse"
    assert call.document == {"modelResponseData": {"text": PIECE.value}}


BEDROCK = bedrock.Shape(read({**URL, "region": "r", "guardrail": "g"}, bedrock.Bedrock))


def test_an_intervention_without_assessments_blocks():
    """It exists, and has been taken for nothing."""
    verdict = said(BEDROCK, {"action": "GUARDRAIL_INTERVENED", "outputs": [], "assessments": []})
    assert (verdict.action, verdict.reason) == (Action.BLOCK, "guardrail")


def test_a_mask_beside_a_block_is_a_block():
    """Anonymised names do not make a forbidden topic pass."""
    assessment = {
        "sensitiveInformationPolicy": {"piiEntities": [{"type": "NAME", "action": "ANONYMIZED"}]},
        "contentPolicy": {"filters": [{"type": "HATE", "confidence": "LOW", "action": "BLOCKED"}]},
    }
    answer = {"action": "GUARDRAIL_INTERVENED", "outputs": [{"text": "x"}], "assessments": [assessment]}
    verdict = said(BEDROCK, answer)
    assert verdict.action is Action.BLOCK
    assert ("hate", Confidence.LOW) in {(found.category, found.confidence) for _, found in verdict.findings}


@pytest.mark.parametrize(
    ("answer", "state"), [({"timeout": True}, State.TIMEOUT), ({"error": True}, State.PARTIAL)]
)
def test_a_scan_that_did_not_end_is_not_clean(answer, state):
    """AIRS says `allow` beside it."""
    shape = airs.Shape(read({"profile_name": "p"}, airs.Airs))
    assert said(shape, {"action": "allow", **answer}).state is state


def test_litellm_holds_back_in_both_forms():
    """A number for all texts, or a list."""
    shape = litellm.Shape(read(URL, litellm.Generic))
    for sizes in (7, [7]):
        answer = {"action": "GUARDRAIL_INTERVENED", "texts": ["x"], "stream_holdback_chars": sizes}
        assert said(shape, answer).holdback == {0: 7}


@pytest.mark.parametrize(
    "answer",
    [
        {"action": "GUARDRAIL_INTERVENED"},
        {"action": "GUARDRAIL_INTERVENED", "texts": []},
    ],
)
def test_an_intervention_without_texts_blocks(answer):
    """There is nothing to put in their place."""
    assert said(litellm.Shape(read(URL, litellm.Generic)), answer).action is Action.BLOCK


@pytest.mark.parametrize(
    "answer", [{"action": "ALLOW"}, {"action": "GUARDRAIL_INTERVENED", "texts": ["a", "b"]}]
)
def test_litellm_says_one_of_three_words_and_gives_every_text_back(answer):
    """Anything else is malformed."""
    with pytest.raises(ValueError, match=r"\w"):
        said(litellm.Shape(read(URL, litellm.Generic)), answer)


def test_nemo_blocks_the_message_that_its_rail_names():
    """So that a policy can name the rail."""
    shape = nemo.Shape(read({**URL, "config_id": "c"}, nemo.Nemo))
    answer = {
        "status": "blocked",
        "messages": [
            {"index": 0, "role": "user", "rails": {"regex check": "success", "self check": "blocked"}}
        ],
    }
    ((_, found),) = said(shape, answer).findings
    assert found == Finding("nemo/self-check", 0, 10, "self-check")
    assert said(shape, {"status": "error"}).state is State.ERROR
    with pytest.raises(ValueError, match="status"):
        said(shape, {"status": "modified"})


def test_what_a_tool_returns_is_a_document_to_prompt_shields():
    """Indirect attacks stand in documents."""
    shape = azure.ShieldShape(read(URL, azure.Azure))
    tool = Piece("do evil", "tool", ())
    assert shape.call([tool], PROMPT).document == {"userPrompt": "", "documents": ["do evil"]}
    answer = {"userPromptAnalysis": None, "documentsAnalysis": [{"attackDetected": True}]}
    assert said(shape, answer, pieces=(tool,)).reason == "injection"
    with pytest.raises(ValueError, match="analysis"):
        said(shape, {})


def test_azure_counts_from_the_configured_severity():
    """Per category, and a list that matched always."""
    settings = read({**URL, "severity": 4, "severities": {"Hate": 2}}, azure.ContentSafety)
    answer = {
        "categoriesAnalysis": [
            {"category": "Hate", "severity": 2},
            {"category": "SelfHarm", "severity": 2},
            {"category": "Sexual", "severity": 4},
        ],
        "blocklistsMatch": [{"blocklistName": "Our Words", "blocklistItemText": "x"}],
    }
    found = [finding for _, finding in said(azure.ContentShape(settings), answer).findings]
    assert [(one.category, one.confidence) for one in found] == [
        ("hate", Confidence.LOW),
        ("sexual", Confidence.MEDIUM),
        ("our-words", Confidence.HIGH),
    ]


def test_llm_guard_judges_answers_as_outputs():
    """And masks them by `sanitized_output`."""
    shape = llm_guard.Shape(read(URL, llm_guard.LlmGuard))
    assert shape.call([PIECE], RESPONSE).path == "/analyze/output"
    verdict = said(shape, {"is_valid": True, "sanitized_output": "x"}, RESPONSE)
    assert verdict.replacements == {0: "x"}


def guard(kind, **more):
    settings = read({**URL, "model": "g", "format": kind, **more}, guard_model.GuardModel)
    return guard_model.Shape(settings)


def completion(text, first=None):
    tops = [{"token": token, "logprob": math.log(p)} for token, p in (first or {}).items()]
    logprobs = {"content": [{"token": text, "logprob": 0, "top_logprobs": tops}]} if first else None
    return {"choices": [{"index": 0, "message": {"content": text}, "logprobs": logprobs}]}


QWEN = "Safety: {}\nCategories: {}\nRefusal: No"


@pytest.mark.parametrize(
    ("shape", "answer", "categories"),
    [
        (guard("llama-guard"), completion("\n\nsafe"), []),
        (guard("llama-guard"), completion("unsafe\nS1, S10"), ["violent-crimes", "hate"]),
        (guard("llama-guard"), completion("unsafe\nS99"), ["s99"]),
        (guard("qwen3guard"), completion(QWEN.format("Safe", "None")), []),
        (guard("qwen3guard"), completion(QWEN.format("Unsafe", "Violent, PII")), ["violent", "pii"]),
        (guard("qwen3guard"), completion(QWEN.format("Controversial", "None")), ["unsafe"]),
        (guard("qwen3guard", controversial="allow"), completion(QWEN.format("Controversial", "Violent")), []),
        (guard("shieldgemma", policy="no hate"), completion("Yes", {"Yes": 0.6, "No": 0.3}), ["guideline"]),
        (guard("shieldgemma", policy="no hate", threshold=0.7), completion("Yes", {"Yes": 0.6, "No": 0.3}), []),
        (guard("shieldgemma", policy="no hate"), completion("No", {"No": 0.9}), []),
        (guard("gpt-oss-safeguard", policy="no hate"), completion('{"violation": 1, "category": "Hate"}'), ["hate"]),
        (guard("gpt-oss-safeguard", policy="no hate"), completion('{"violation": 0}'), []),
    ],
)  # fmt: skip
def test_guard_models_are_read_by_their_cards(shape, answer, categories):
    """Words, codes, probabilities and JSON."""
    verdict = said(shape, answer)
    assert [found.category for _, found in verdict.findings] == categories
    assert (verdict == CLEAN) == (not categories)


@pytest.mark.parametrize(
    ("shape", "answer"),
    [
        (guard("llama-guard"), completion("I cannot help with that")),
        (guard("llama-guard"), completion("safely")),
        (guard("qwen3guard"), completion("Safety: Maybe")),
        (guard("shieldgemma", policy="x"), completion("Well", {"Well": 0.9})),
        (guard("gpt-oss-safeguard", policy="x"), completion("no violation")),
        (guard("llama-guard"), {"choices": []}),
        (guard("llama-guard"), {"choices": [{"message": {"content": None}}]}),
    ],
)
def test_a_guard_model_that_rambles_has_not_judged(shape, answer):
    """Its text is never taken for clean."""
    with pytest.raises(ValueError, match=r"\w"):
        said(shape, answer)


def test_shieldgemma_gets_its_guideline_and_gives_probabilities():
    """By the server's chat template."""
    document = guard("shieldgemma", policy="no hate").call([PIECE], RESPONSE).document
    assert document["chat_template_kwargs"] == {"guideline": "no hate"}
    assert (document["max_tokens"], document["logprobs"]) == (1, True)
    assert [message["role"] for message in document["messages"]] == ["user", "assistant"]


def test_a_policy_goes_where_one_is_needed():
    """And nowhere else."""
    for kind, policy in (("llama-guard", "x"), ("gpt-oss-safeguard", "")):
        with pytest.raises(ValueError, match="policy"):
            guard(kind, policy=policy)
