"""Record what Hugging Face's transformers makes of the templates beside: `python -m tests.tokens.record_templates`.

Run it where transformers is installed (it is no dependency), once for a new template or a new release; the recording is
`templates/recorded.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).with_name("templates")
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "What it is like <there> & now",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Köln", "Łódź"]}},
        },
    },
}
CALLED = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Köln"}}}


def turns(*texts: str, system: str = "") -> list[dict[str, object]]:
    """Return messages that take turns."""
    roles = ("user", "assistant")
    first: list[dict[str, object]] = [{"role": "system", "content": system}] if system else []
    return first + [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]


def parts(messages: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return messages with their content in parts, as a template that goes through parts is given it."""
    return [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]


CASES: list[dict[str, object]] = [
    {"template": "turns", "messages": turns("Hello")},
    {"template": "turns", "messages": turns("Hello", "Hi", "And?\n", system="Be brief.")},
    {"template": "turns", "messages": turns("Hello", "Hi"), "add_generation_prompt": False},
    {"template": "turns", "messages": turns("Hello"), "chat_template_kwargs": {"enable_thinking": False}},
    {"template": "turns", "messages": turns("Rain?", system="Be brief."), "tools": [WEATHER]},
    {
        "template": "turns",
        "messages": [
            *turns("Rain?"),
            {"role": "assistant", "content": "", "tool_calls": [CALLED]},
            {"role": "tool", "content": "yes", "tool_call_id": "1"},
        ],
        "tools": [WEATHER],
    },
    {
        "template": "dated",
        "messages": turns("Hello", "Hi", "x" * 50),
        "chat_template_kwargs": {"date": "today"},
    },
    {"template": "dated", "messages": turns("Hello"), "chat_template_kwargs": {"date": "<b>"}},
    {"template": "parts", "messages": parts(turns(" Hello ", "Hi", "And?"))},
    {
        "template": "parts",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
        ],
    },
    {"template": "parts", "messages": parts(turns("Hello", system="Be brief."))},
]


def main() -> None:
    """Render every case."""
    import transformers  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415 - no dependency of ours
    from tokenizers import Tokenizer, models  # noqa: PLC0415

    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **SPECIAL)
    recorded = []
    for case in CASES:
        template = (FOLDER / f"{case['template']}.jinja").read_text(encoding="utf-8")
        own = case.get("chat_template_kwargs", {})
        assert isinstance(own, dict)
        try:
            text = tokenizer.apply_chat_template(
                case["messages"],
                tools=case.get("tools"),
                chat_template=template,
                add_generation_prompt=case.get("add_generation_prompt", True),
                tokenize=False,
                **own,
            )
        except Exception as error:  # noqa: BLE001 - whatever a template raises is its answer
            recorded.append({**case, "refused": str(error)})
        else:
            recorded.append({**case, "text": text})
    found = {"by": f"transformers {transformers.__version__}", "cases": recorded}
    (FOLDER / "recorded.json").write_text(
        json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
