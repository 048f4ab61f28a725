"""A model's chat template, rendered here as its server would: the text that is then tokenized. Pure.

Templates are Jinja as `apply_chat_template` of Hugging Face's transformers runs them. What a template gets to see of a
message is what vLLM gives it. A template is the operator's; messages are only ever its values.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.tokens.prompts import RenderError

Json = dict[str, Any]
"""A JSON object."""

MESSAGES = "messages"
RESERVED = frozenset({MESSAGES, "tools", "documents", "add_generation_prompt", "chat_template", "tokenize"})
"""Names that `chat_template_kwargs` may not give."""


class ChatTemplate:
    """`template` and, for conversations with tools, perhaps one of their own; raises `RenderError` for what is none."""

    def __init__(
        self,
        template: str,
        *,
        with_tools: str = "",
        special: Mapping[str, object] | None = None,
        now: Callable[[], dt.datetime] = dt.datetime.now,
    ) -> None:
        """Compile; `special`: the tokenizer's special tokens by name (`bos_token`), which templates refer to."""
        self._special = dict(special or {})
        environment = _environment(now)
        self._plain = _Compiled(environment, template)
        self._with_tools = _Compiled(environment, with_tools) if with_tools else self._plain

    def render(self, conversation: Json) -> str:
        """Return the prompt of a body for vLLM's `/tokenize`: `messages`, `tools`, and the template's own fields."""
        own = conversation.get("chat_template_kwargs") or {}
        if taken := sorted(RESERVED & own.keys()):
            raise RenderError(f"chat_template_kwargs: {taken[0]!r} is not the client's to say")
        try:
            tools = [_tool(tool) for tool in conversation.get("tools") or ()] or None
            compiled = self._with_tools if tools else self._plain
            messages = [_message(message, compiled.takes_parts) for message in conversation[MESSAGES]]
            return compiled.template.render(
                {
                    **self._special,
                    **own,
                    MESSAGES: messages,
                    "tools": tools,
                    "documents": None,
                    "add_generation_prompt": conversation.get("add_generation_prompt", True),
                }
            )
        except (TemplateError, AttributeError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise RenderError(f"the template: {error}") from error


class _Compiled:
    def __init__(self, environment: ImmutableSandboxedEnvironment, text: str) -> None:
        try:
            self.takes_parts = _takes_parts(environment.parse(text))
            self.template = environment.from_string(text)
        except TemplateError as error:
            raise RenderError(f"no template: {error}") from error


class _Generation(Extension):
    """`{% generation %}` marks what the model wrote, for training; the text is the same without."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what is between the marks."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment(now: Callable[[], dt.datetime]) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    # Jinja's own filter would escape <, > and & as for a web page.
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: now().strftime(form)
    return environment


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _takes_parts(tree: nodes.Template) -> bool:
    """Say whether the template goes through the parts of a message's content, so that it wants a list of them.

    vLLM's rule (`--chat-template-content-format auto`): somewhere it loops over `content` of what a loop over messages
    yields.
    """
    lists = {MESSAGES}
    assigned = [(node.target, node.node) for node in tree.find_all(nodes.Assign)]
    while (
        more := {to.name for to, of in assigned if isinstance(to, nodes.Name) and _name(of) in lists} - lists
    ):
        lists |= more
    loops = list(tree.find_all(nodes.For))
    items = {
        loop.target.name
        for loop in loops
        if isinstance(loop.target, nodes.Name) and _name(loop.iter) in lists
    }
    return any(_name(of) in items for loop in loops for of in _content(loop.iter))


def _bare(node: nodes.Node | None) -> nodes.Node | None:
    """Return what filters, tests and slices stand on."""
    while isinstance(node, nodes.Filter | nodes.Test) or (
        isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
    ):
        node = node.node
    return node


def _name(node: nodes.Node | None) -> str:
    found = _bare(node)
    return found.name if isinstance(found, nodes.Name) else ""


def _content(node: nodes.Node) -> Iterator[nodes.Node]:
    """Yield what `node` is the content of."""
    found = _bare(node)
    by_key = (
        isinstance(found, nodes.Getitem)
        and isinstance(found.arg, nodes.Const)
        and found.arg.value == "content"
    )
    by_name = isinstance(found, nodes.Getattr) and found.attr == "content"
    if (
        isinstance(found, nodes.Getitem | nodes.Getattr)
        and (by_key or by_name)
        and isinstance(found.node, nodes.Name)
    ):
        yield found.node


def _message(message: Json, takes_parts: bool) -> Json:
    """Return a message as vLLM hands it to a template."""
    role, content = message["role"], message.get("content")
    given: Sequence[str | Json] = [content] if isinstance(content, str) else content or []
    texts = [
        text for part in given if (text := part if isinstance(part, str) else part.get("text")) is not None
    ]
    if takes_parts and role != "tool":
        seen: Json = {"role": role, "content": [{"type": "text", "text": text} for text in texts]}
    else:  # few templates take a list of what a tool said
        seen = {"role": role, "content": "\n".join([text for text in texts if text or takes_parts])}
    if role == "assistant":
        if message.get("tool_calls"):
            seen["tool_calls"] = [_call(call) for call in message["tool_calls"]]
        if (reasoning := message.get("reasoning")) is not None:
            seen |= {"reasoning": reasoning, "reasoning_content": reasoning}
    elif role == "tool" and "tool_call_id" in message:
        seen["tool_call_id"] = message["tool_call_id"]
    elif role == "developer":
        seen["tools"] = message.get("tools")
    if isinstance(message.get("name"), str):
        seen["name"] = message["name"]
    return seen


def _call(call: Json) -> Json:
    """Return a call of a tool whose arguments are an object: templates expect no text there."""
    function = dict(call["function"])
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {}
    function["arguments"] = arguments if isinstance(arguments, dict) else {}
    return {**call, "function": function}


def _tool(tool: Json) -> Json:
    """Return a tool with the fields that vLLM's request model always has, in its order."""
    function = tool["function"]
    fields = {"name": function["name"], "description": None, "parameters": None} | function
    return {"type": "function", "function": fields} | {
        key: tool[key] for key in tool if key not in {"type", "function"}
    }
