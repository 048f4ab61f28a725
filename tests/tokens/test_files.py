"""Files as model repositories have them: vocabulary, configuration, template."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer

from services.extproc.config import ConfigError
from services.tokens.files import Files, load_template
from services.tokens.prompts import Conversation, Plain
from tests.tokens.vocabulary import text, write

TOOL = {"type": "function", "function": {"name": "f"}}
BARE: dict[str, object] = {"messages": []}
TOOLS = {"messages": [], "tools": [TOOL]}


def rendered(folder, path: str, config: object = None, **files: str) -> tuple[str, str]:
    """Return what the template at `path` makes of a conversation without and with tools."""
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name, content in files.items():
        file = folder / name.replace("__", "/").replace("_jinja", ".jinja")
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    template = load_template(str(folder / path), str(folder / "tokenizer.json"))
    return template.render(BARE), template.render(TOOLS)


def test_a_template_in_the_configuration(tmp_path):
    """With its special tokens, in both forms that they are written in."""
    config = {
        "chat_template": "{{ bos_token }}{{ eos_token }}",
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", "lstrip": False},
        "pad_token": None,
        "add_bos_token": True,
    }
    assert rendered(tmp_path, "tokenizer_config.json", config) == ("<s></s>", "<s></s>")


def test_templates_by_name(tmp_path):
    """One of them for conversations with tools."""
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    assert rendered(tmp_path, "tokenizer_config.json", {"chat_template": named}) == ("plain", "tools")


def test_files_beside_the_configuration_come_first(tmp_path):
    """As newer repositories have it."""
    found = rendered(
        tmp_path,
        "tokenizer_config.json",
        {"chat_template": "old", "bos_token": "<s>"},
        chat_template_jinja="{{ bos_token }}new",
        additional_chat_templates__tool_use_jinja="tools",
    )
    assert found == ("<s>new", "tools")


def test_a_template_alone(tmp_path):
    """The special tokens come from beside the vocabulary, where they are there."""
    assert rendered(tmp_path, "own.jinja", own_jinja="{{ bos_token }}x") == ("x", "x")
    assert rendered(tmp_path, "own.jinja", {"bos_token": "<s>"}) == ("<s>x", "<s>x")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "holds no chat template"),
        ('{"chat_template": "{% if %}"}', "cannot be read"),
        ('{"chat_template": 5}', "cannot be read"),
        ("[]", "cannot be read"),
        ("\xff", "cannot be read"),
    ],
)
def test_what_is_no_template_is_refused(tmp_path, content, says):
    """At start, with the path."""
    (tmp_path / "tokenizer_config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=says):
        load_template(str(tmp_path / "tokenizer_config.json"), "")


def test_a_rendered_conversation_gets_no_second_beginning(tmp_path):
    """Templates write the first token themselves; plain prompts get it from the vocabulary."""
    vocabulary = write(tmp_path)
    (tmp_path / "own.jinja").write_text("{{ bos_token }}{{ messages[0].content }}")
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    files = Files(str(vocabulary), str(tmp_path / "own.jinja"))
    body = json.dumps({"messages": [{"role": "user", "content": text(50)}]}).encode()
    wanted = Tokenizer.from_file(str(vocabulary)).encode(text(50)).ids
    assert wanted[0] == 0
    assert files.encode(Conversation(body)) == wanted
    assert files.encode(Conversation(body, special=True)) == [0, *wanted]
    assert files.encode(Plain(text(50))) == wanted


def test_what_only_a_server_can_render(tmp_path):
    """A client's own template, a message to be continued; and every conversation without a template."""
    vocabulary = str(write(tmp_path))
    (tmp_path / "own.jinja").write_text("x")
    files = Files(vocabulary, str(tmp_path / "own.jinja"))
    assert files.can(Conversation(b"{}"))
    assert not files.can(Conversation(b"{}", odd=True))
    assert not Files(vocabulary).can(Conversation(b"{}"))
    assert Files(vocabulary).can(Plain("x"))
