"""What each kind of judge would answer: bodies by mode, from its own documentation. `None`: it has no words for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TEXT = "my name is Jane, hello"
NAME = "Jane"
START, END = TEXT.index(NAME), TEXT.index(NAME) + len(NAME)
MASKED = TEXT.replace(NAME, "<name>")

Answer = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Fake:
    """One service. `parameters` are those it needs besides its address."""

    path: str
    allow: Answer
    block: Answer | None = None
    mask: Answer | None = None
    skipped: Answer | None = None
    partial: Answer | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    header: tuple[str, str] | None = ("authorization", "Bearer s3cret")
    """How the credential `s3cret` is sent; None: it is not."""


def armor(*, match, invocation="SUCCESS", **filters):
    return {
        "sanitizationResult": {
            "filterMatchState": "MATCH_FOUND" if match else "NO_MATCH_FOUND",
            "invocationResult": invocation,
            "filterResults": filters,
        }
    }


def injection(*, match=False, ran=True):
    return {
        "piAndJailbreakFilterResult": {
            "executionState": "EXECUTION_SUCCESS" if ran else "EXECUTION_SKIPPED",
            "matchState": "MATCH_FOUND" if match else "NO_MATCH_FOUND",
        }
    }


def deidentified(body):
    text = next(iter(body.values()))["text"].replace(NAME, "<name>")
    result = {
        "executionState": "EXECUTION_SUCCESS",
        "matchState": "MATCH_FOUND",
        "data": {"text": text},
        "transformedBytes": "4",
    }
    return armor(match=True, sdp={"sdpFilterResult": {"deidentifyResult": result}})


def moderation(body, *, hit):
    one = {
        "flagged": hit,
        "categories": {"violence": hit, "hate": False},
        "category_scores": {"violence": 0.9},
    }
    return {"id": "modr-1", "model": "m", "results": [one for _ in body["input"]]}


def litellm_masked(body):
    return {
        "action": "GUARDRAIL_INTERVENED",
        "texts": [text.replace(NAME, "<name>") for text in body["texts"]],
    }


def nemo(status):
    rails = {"self check input": {"status": status}}
    return {
        "status": status,
        "rails_status": rails,
        "messages": [{"index": 0, "role": "user", "rails": rails}],
    }


def webhook_masked(body):
    messages = [one | {"content": one["content"].replace(NAME, "<name>")} for one in body["body"]["messages"]]
    return {"action": {"body": {"messages": messages}, "reason": "pii"}}


def severities(level):
    return {"blocklistsMatch": [], "categoriesAnalysis": [{"category": "Violence", "severity": level}]}


def shield(*, attack):
    return {"userPromptAnalysis": {"attackDetected": attack}, "documentsAnalysis": []}


def intervened(action, **policy):
    return {"action": action, "outputs": [{"text": MASKED}] if policy else [], "assessments": [policy]}


def lakera(kind=None, payload=()):
    found = [{"detector_type": kind, "detected": True}] if kind else []
    return {"flagged": bool(kind), "payload": list(payload), "breakdown": found, "metadata": {}}


def completion(text):
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}


def always(answer):
    return lambda body: answer


SPAN = {"start": START, "end": END}
TEMPLATE = "projects/p/locations/eu/templates/t"

FAKES = {
    "model-armor": Fake(
        f"/v1/{TEMPLATE}:sanitizeUserPrompt",
        allow=always(armor(match=False, pi_and_jailbreak=injection())),
        block=always(armor(match=True, pi_and_jailbreak=injection(match=True))),
        mask=deidentified,
        skipped=always(armor(match=False, pi_and_jailbreak=injection(ran=False))),
        partial=always(armor(match=False, invocation="PARTIAL", pi_and_jailbreak=injection())),
        parameters={"template": TEMPLATE},
    ),
    "openai-moderations": Fake(
        "/v1/moderations",
        allow=lambda body: moderation(body, hit=False),
        block=lambda body: moderation(body, hit=True),
    ),
    "litellm": Fake(
        "/beta/litellm_basic_guardrail_api",
        allow=always({"action": "NONE"}),
        block=always({"action": "BLOCKED", "blocked_reason": "it says Jane"}),
        mask=litellm_masked,
        header=("x-api-key", "s3cret"),
    ),
    "nemo": Fake(
        "/v1/guardrail/checks",
        allow=always(nemo("success")),
        block=always(nemo("blocked")),
        parameters={"config_id": "c"},
    ),
    "webhook": Fake(
        "/request",
        allow=always({"action": {"reason": "fine"}}),
        block=always({"action": {"body": "no", "status_code": 403, "reason": "bad"}}),
        mask=webhook_masked,
    ),
    "azure-content-safety": Fake(
        "/contentsafety/text:analyze",
        allow=always(severities(2)),
        block=always(severities(6)),
        header=("ocp-apim-subscription-key", "s3cret"),
    ),
    "azure-prompt-shields": Fake(
        "/contentsafety/text:shieldPrompt",
        allow=always(shield(attack=False)),
        block=always(shield(attack=True)),
        header=("ocp-apim-subscription-key", "s3cret"),
    ),
    "bedrock": Fake(
        "/guardrail/g/version/1/apply",
        allow=always({"action": "NONE", "outputs": [], "assessments": [{}]}),
        block=always(
            intervened(
                "GUARDRAIL_INTERVENED",
                topicPolicy={"topics": [{"name": "weapons", "type": "DENY", "action": "BLOCKED"}]},
            )
        ),
        mask=always(
            intervened(
                "GUARDRAIL_INTERVENED",
                sensitiveInformationPolicy={
                    "piiEntities": [{"type": "NAME", "match": NAME, "action": "ANONYMIZED"}]
                },
            )
        ),
        partial=always(
            {"action": "NONE", "guardrailCoverage": {"textCharacters": {"guarded": 5, "total": 9}}}
        ),
        parameters={"region": "eu-west-1", "guardrail": "g", "version": "1"},
        header=None,
    ),
    "lakera": Fake(
        "/v2/guard",
        allow=always(lakera()),
        block=always(lakera("prompt_attack")),
        mask=always(lakera("pii/name", [SPAN | {"text": NAME, "detector_type": "pii/name", "labels": []}])),
        parameters={"project_id": "p"},
    ),
    "airs": Fake(
        "/v1/scan/sync/request",
        allow=always({"action": "allow", "category": "benign", "scan_id": "1", "report_id": "1"}),
        block=always(
            {"action": "block", "category": "malicious", "prompt_detected": {"injection": True, "dlp": False}}
        ),
        mask=always({"action": "allow", "category": "benign", "prompt_masked_data": {"data": MASKED}}),
        partial=always({"action": "allow", "category": "benign", "error": True, "errors": [{}]}),
        parameters={"profile_name": "p"},
        header=("x-pan-token", "s3cret"),
    ),
    "presidio": Fake(
        "/analyze",
        allow=always([]),
        mask=always([SPAN | {"entity_type": "PERSON", "score": 0.85}]),
    ),
    "llm-guard": Fake(
        "/analyze/prompt",
        allow=always({"is_valid": True, "scanners": {"Toxicity": 0.0}, "sanitized_prompt": TEXT}),
        block=always({"is_valid": False, "scanners": {"Toxicity": 0.9}, "sanitized_prompt": TEXT}),
        mask=always({"is_valid": True, "scanners": {}, "sanitized_prompt": MASKED}),
    ),
    "guard-model": Fake(
        "/v1/chat/completions",
        allow=always(completion("\n\nsafe")),
        block=always(completion("\n\nunsafe\nS1,S10")),
        parameters={"model": "guard", "format": "llama-guard"},
    ),
}
