"""One request and its answer before the safety service, without a proxy."""

from __future__ import annotations

import json

from services.extproc.script import Script
from services.safety.service import Safety
from tests.safety import kit

JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}


class Heard:
    """An observer that keeps the records."""

    def __init__(self):
        self.records = []

    def verdict(self, record):
        self.records.append(record)


class Judge:
    """A remote judge that says what the test wants."""

    def __init__(self, answer):
        self.answer, self.seen = answer, []

    async def judge(self, texts, context, deadline):
        self.seen += [text.value for text in texts]
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self):
        pass


class Exchange:
    """A script against a service with the test's policies."""

    def __init__(
        self,
        *,
        request="BUFFERED",
        response="FULL_DUPLEX_STREAMED",
        policies=None,
        providers=None,
        context=None,
        shadows=None,
    ):
        self.heard = Heard()
        self.service = Safety(
            policies or kit.demo(), self.heard, b"key", providers, nonce=lambda: "9f", shadows=shadows
        )
        self.script = Script(self.service, request_body=request, response_body=response, context=context)

    async def ask(self, document, *, path="/v1/chat/completions", headers=()):
        body = document if isinstance(document, bytes) else kit.body(document)
        return await self.script.request({":path": path, **JSON, **dict(headers)}, body)

    async def answer(self, *args, **more):
        return await self.script.response(*args, **more)


def prompt(text):
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def error(rejected):
    return json.loads(rejected.body)["error"]
