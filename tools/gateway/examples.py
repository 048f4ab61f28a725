"""What to paste once the gateway is ready."""

from __future__ import annotations

import json
import shlex

from tools.gateway.stack import Ready


def examples(ready: Ready) -> str:
    """Return commands that work against this stack as they are."""
    model = ready.models[0] if ready.models else "MODEL"
    other = next((name for name in ready.models if name != model), model)
    return "\n".join(
        (
            "",
            "Try it:",
            "",
            _curl(ready.gateway, {"model": model, "messages": [{"role": "user", "content": "Hello"}]}),
            "",
            _curl(
                ready.gateway,
                {"model": other, "stream": True, "messages": [{"role": "user", "content": "Hello"}]},
                "-N",
            ),
            "",
            "from openai import OpenAI",
            f'client = OpenAI(base_url="{ready.gateway}/v1", api_key="unused")',
            "client.chat.completions.create(",
            f'    model="{model}", messages=[{{"role": "user", "content": "Hello"}}]',
            ")",
            "",
            *_replicas(ready),
        )
    )


def _replicas(ready: Ready) -> list[str]:
    """Say what several pickers are and how they go together; nothing of a single one."""
    names = [name for name in ready.metrics if name.partition("-")[0] == "epp"]
    if len(names) == 1:
        return []
    told = f"{len(names)} endpoint pickers ({', '.join(names)})"
    if not ready.redis:
        return [f"{told} share nothing (--redis off)", ""]
    return [f"{told} share their state:", "", f"inference-gateway state {shlex.quote(ready.redis)}", ""]


def _curl(gateway: str, body: dict[str, object], *options: str) -> str:
    flags = "".join(f" {option}" for option in options)
    return (
        f"curl{flags} {gateway}/v1/chat/completions -H 'content-type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body))}"
    )
