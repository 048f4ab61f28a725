"""A candidate policy beside the one in force: it sees the same traffic, changes nothing, and reports what it would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from services.extproc.events import Request
from services.safety.answer import Ask, StreamedAnswer
from services.safety.audit import Record
from services.safety.judge import Tally
from services.safety.policy import Policy, Side
from services.safety.prompt import judge_answer, judge_prompt
from services.safety.verdict import Direction

Asker = Callable[[Direction, Side, Tally], Ask]


class Shadow:
    """One exchange as the candidate judges it."""

    def __init__(self, policy: Policy, tally: Callable[[], Tally]) -> None:
        self.policy = policy
        self._prompt = tally()
        self._answer = tally()
        self._stream: StreamedAnswer | None = None

    async def prompt(self, request: Request, asker: Asker) -> None:
        """Judge the prompt."""
        side = self.policy.prompt
        if not side.idle or self.policy.response.prompt_checks:
            await judge_prompt(request, side, asker(Direction.PROMPT, side, self._prompt), self._prompt)

    async def answer(self, body: bytes, asker: Asker, encoding: str) -> None:
        """Judge a whole answer."""
        side = self.policy.response.bound(self._prompt.prompt)
        if not side.idle:
            await judge_answer(
                body, side, asker(Direction.RESPONSE, side, self._answer), self._answer, encoding
            )

    def follow(self, asker: Asker) -> None:
        """Begin to judge a streamed answer."""
        side = self.policy.response.bound(self._prompt.prompt)
        if not side.idle:
            self._stream = StreamedAnswer(side, self._answer, asker(Direction.RESPONSE, side, self._answer))

    async def feed(self, data: bytes, *, end: bool) -> None:
        """Judge a piece of it."""
        if self._stream is not None:
            await self._stream.feed(data, end=end)

    def record(self, record: Record) -> Record:
        """Return the candidate's record beside that of the policy in force."""
        tally = self._prompt if record.direction is Direction.PROMPT else self._answer
        held = self._stream.most_held if self._stream else None
        return replace(
            record,
            verdict=tally.verdict(),
            policy=self.policy.name,
            held_bytes=held,
            reported=tuple(tally.reported),
            enforced=False,
            against=record.verdict.action,
        )
