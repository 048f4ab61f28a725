"""Tokens from a real vocabulary and from the mock server's `/tokenize`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
from tokenizers import Tokenizer

from services.extproc.config import ConfigError
from services.openai.dialects import Dialect
from services.openai.digest import digest_of
from services.openai.exact import exact_of
from services.openai.peek import peek
from services.tokens.config import TokenSource
from services.tokens.records import Found, Outcome
from services.tokens.source import QUEUED, Ask, Tokens, tokenizing
from tests.epp.stack import free_port, until
from tests.tokens.vocabulary import MOCK_TEMPLATE, text, write
from tools.model_server.core import Settings
from tools.model_server.server import serve

MODEL = "llama-3.1-8b-instruct"


@dataclass(slots=True)
class Notes:
    finds: Counter[Found] = field(default_factory=Counter)
    outcomes: Counter[Outcome] = field(default_factory=Counter)

    def found(self, model: str, found: Found) -> None:
        self.finds[found] += 1

    def tokenized(self, model: str, outcome: Outcome, seconds: float) -> None:
        self.outcomes[outcome] += 1


@contextlib.asynccontextmanager
async def source(**settings) -> AsyncIterator[tuple[Tokens, Notes]]:
    notes = Notes()
    async with tokenizing({MODEL: TokenSource(**settings)}, notes) as found:
        yield found[MODEL], notes


def ask(dialect: Dialect = Dialect.COMPLETIONS, *, adapter: str = "", **fields) -> Ask:
    body = json.dumps({"model": MODEL, **fields}).encode()
    seen = peek(body, dialect)
    return Ask(body, dialect, seen, digest_of(seen, adapter or MODEL), adapter)


def chat(*turns: str, **fields) -> Ask:
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": turn} for number, turn in enumerate(turns)]
    return ask(Dialect.CHAT, messages=messages, **fields)


async def test_a_vocabulary_tokenizes_plain_prompts(tmp_path):
    """As the library does, with the beginning that the model was trained with, under adapter and salt."""
    path = write(tmp_path)
    wanted = ask(prompt=text(300), adapter="food", cache_salt="tenant")
    async with source(file=str(path), wait_seconds=30) as (tokens, notes):
        found = await tokens.exact(wanted)
    ids = Tokenizer.from_file(str(path)).encode(text(300)).ids
    assert ids[0] == 0
    assert found == exact_of(
        ids, block_size=16, prompt_bytes=wanted.digest.prompt_bytes, adapter="food", cache_salt="tenant"
    )
    assert notes.finds == {Found.ALL: 1}


async def test_nothing_waits_and_the_next_turn_finds_what_was_learnt(tmp_path):
    """The first answer is at once and empty."""
    async with source(file=str(write(tmp_path))) as (tokens, notes):
        first, second = ask(prompt=text(100)), ask(prompt=text(100) + text(100, 3))
        assert await tokens.exact(first) is None
        await until(lambda: notes.outcomes[Outcome.TOKENIZED] == 1)
        known = await tokens.exact(second)
    assert known is not None
    assert known.prompt_bytes == first.digest.prompt_bytes
    assert notes.finds == {Found.NOTHING: 1, Found.BEGINNING: 1}


async def test_a_prompt_that_is_nearly_known_is_not_tokenized_again(tmp_path):
    """A long conversation would else be tokenized as often as it has turns."""
    async with source(file=str(write(tmp_path)), wait_seconds=30) as (tokens, notes):
        await tokens.exact(ask(prompt=text(1000)))
        await tokens.exact(ask(prompt=text(1000) + " and more"))
    assert notes.outcomes == {Outcome.TOKENIZED: 1}


async def test_ids_need_no_vocabulary(tmp_path):
    """A client that sends tokens has said all; what is no id is only not known."""
    async with source(file=str(write(tmp_path)), wait_seconds=30) as (tokens, notes):
        wanted = ask(prompt=list(range(100)))
        exact = exact_of(range(100), block_size=16, prompt_bytes=wanted.digest.prompt_bytes)
        assert await tokens.exact(wanted) == exact
        assert await tokens.exact(ask(prompt=[-1] * 100)) is None
        assert await tokens.exact(ask(prompt=list(range(500, 600)))) is not None
    assert notes.outcomes == {Outcome.TOKENIZED: 2, Outcome.FAILED: 1}


@pytest.mark.parametrize("tools", [{}, {"tools": [{"type": "function", "function": {"name": "find"}}]}])
async def test_a_conversation_is_tokenized_by_its_server_with_its_template(tools):
    """What the server computes for it begins with the same tokens."""
    async with (
        serve(Settings(model=MODEL)) as server,
        source(server=server.url, wait_seconds=30) as (tokens, _),
    ):
        wanted = chat(text(200), text(100, 2), text(50, 3), **tools)
        found = await tokens.exact(wanted)
        longer = await tokens.exact(
            chat(text(200), text(100, 2), text(50, 3), text(400, 4), text(4), **tools)
        )
    assert found is not None
    assert longer is not None
    assert 20 < len(found.hashes) < len(longer.hashes)
    assert longer.hashes[: len(found.hashes)] == found.hashes


async def test_a_conversation_is_tokenized_here_where_its_template_is(tmp_path):
    """To the same tokens as by its server."""
    vocabulary, template = str(write(tmp_path)), tmp_path / "own.jinja"
    template.write_text(MOCK_TEMPLATE)
    wanted = chat(text(200), text(100, 2), text(50, 3))
    async with (
        serve(Settings(model=MODEL, tokenizer=vocabulary)) as server,
        source(server=server.url, wait_seconds=30) as (tokens, _),
    ):
        served = await tokens.exact(wanted)
    async with source(file=vocabulary, template=str(template), wait_seconds=30) as (tokens, _):
        found = await tokens.exact(wanted)
    assert found is not None
    assert found == served


@pytest.mark.parametrize("odd", [{"chat_template": "x"}, {"continue_final_message": True}])
async def test_what_our_template_cannot_render_is_its_servers(tmp_path, odd):
    """A template of the client's own, a message to be continued: without a server they have no tokens."""
    files = {"file": str(write(tmp_path)), "template": str(tmp_path / "own.jinja")}
    (tmp_path / "own.jinja").write_text(MOCK_TEMPLATE)
    wanted = chat(text(200), **odd)
    async with source(**files, wait_seconds=30) as (tokens, notes):
        assert await tokens.exact(wanted) is None
    assert notes.finds == {Found.UNSUPPORTED: 1}
    async with (
        serve(Settings(model=MODEL, tokenizer=files["file"])) as server,
        source(**files, server=server.url, wait_seconds=30) as (tokens, _),
    ):
        assert await tokens.exact(wanted) is not None


async def test_a_conversation_that_the_template_refuses_is_not_known(tmp_path):
    """Its server will refuse it too; that is counted, and costs nothing."""
    template = tmp_path / "own.jinja"
    template.write_text("{{ raise_exception('no') }}")
    async with source(file=str(write(tmp_path)), template=str(template), wait_seconds=30) as (tokens, notes):
        assert await tokens.exact(chat(text(200))) is None
    assert notes.outcomes == {Outcome.FAILED: 1}


async def test_what_no_source_can_tokenize_is_not_tried(tmp_path):
    """A vocabulary has no template; images and other APIs have no tokens here."""
    async with source(file=str(write(tmp_path)), wait_seconds=30) as (tokens, notes):
        assert await tokens.exact(chat(text(200))) is None
        assert await tokens.exact(ask(prompt=[text(100), text(100)])) is None
    assert notes.finds == {Found.UNSUPPORTED: 2}


async def test_a_server_that_does_not_answer_costs_nothing():
    """Its prompts are not known, and the next one is tried again."""
    url = f"http://127.0.0.1:{free_port()}"
    async with source(server=url, wait_seconds=30) as (tokens, notes):
        assert await tokens.exact(chat(text(100))) is None
        assert await tokens.exact(chat(text(100))) is None
    assert notes.outcomes == {Outcome.FAILED: 2}


async def test_a_server_with_another_answer_costs_nothing():
    """A wrong URL, say."""
    async with (
        serve(Settings(model=MODEL)) as server,
        source(server=f"{server.url}/v1", wait_seconds=30) as (tokens, notes),
    ):
        assert await tokens.exact(chat(text(100))) is None
    assert notes.outcomes == {Outcome.FAILED: 1}


async def test_more_than_can_be_done_is_dropped():
    """The queue is bounded."""
    never = asyncio.Event()

    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()
        writer.close()

    async with await asyncio.start_server(stuck, "127.0.0.1", 0) as server:
        url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
        async with source(server=url, concurrency=1, timeout_seconds=60) as (tokens, notes):
            for number in range(QUEUED + 3):
                await tokens.exact(chat(text(100, number)))
        never.set()
    assert notes.outcomes[Outcome.DROPPED] >= 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "`file` or `server`"),
        ({"file": "/no/such/tokenizer.json"}, "is no file"),
        ({"file": __file__, "template": "/no/such/chat_template.jinja"}, "template: .* is no file"),
        ({"server": "http://x", "template": __file__}, "template: needs `file`"),
        ({"server": "llama-1:8000"}, "server"),
        ({"server": "http://x", "block_size": 0}, "block_size"),
        ({"server": "http://x", "wait_seconds": 50}, "wait_seconds"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    """At the start, with the reason."""
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(settings, TokenSource)


async def test_a_file_that_is_no_vocabulary_is_refused(tmp_path):
    """At the start too."""
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        async with source(file=str(path)):
            pass
