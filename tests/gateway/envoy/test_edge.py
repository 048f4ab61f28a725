from __future__ import annotations

from tools.gateway.envoy.edge import header_mutations


def steps(trusted: tuple[str, ...]) -> list[str]:
    found = []
    for mutation in header_mutations(trusted):
        if mutation.remove_on_match:
            found.append(f"remove {mutation.remove_on_match.key_matcher.prefix}*")  # type: ignore[union-attr]
        elif mutation.append:
            header = mutation.append.header
            found.append(f"set {header.key} to {header.value}")  # type: ignore[union-attr]
        else:
            found.append(f"remove {mutation.remove}")
    return found


def test_without_trust_every_control_header_goes():
    """The default believes nobody."""
    assert steps(())[:4] == ["remove x-gateway-*", "remove x-llm-d-*", "remove x-slo-*", "remove x-envoy-*"]


def test_a_trusted_header_is_carried_around_the_removal():
    """Emptied, set aside, removed, put back, and tidied up: in this order."""
    name = "x-slo-ttft-ms"
    assert [step for step in steps((name,)) if name in step or step == "remove x-slo-*"] == [
        f"remove edge-trusted-{name}",
        f"set edge-trusted-{name} to %REQ({name})%",
        "remove x-slo-*",
        f"set {name} to %REQ(edge-trusted-{name})%",
        f"remove edge-trusted-{name}",
    ]
