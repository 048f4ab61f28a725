"""Our own contract, `protos/safety.proto`, over gRPC: the one that says everything a policy can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import grpc
import grpc.aio
import msgspec

from services.pb import safety_pb2 as pb
from services.safety.providers.base import Context, Provider, ProviderVerdict
from services.safety.providers.guard import Failure
from services.safety.providers.judging import Judging
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import Auth, Secret, Settings, read
from services.safety.verdict import Action, Confidence, Direction, Finding, State

NAME = "grpc"
METHOD = "/inference_gateway.safety.v1.Judge/Judge"

_DIRECTIONS = {Direction.PROMPT: pb.PROMPT, Direction.RESPONSE: pb.RESPONSE}
_ACTIONS = {
    pb.ALLOW: Action.ALLOW,
    pb.INSPECT: Action.INSPECT,
    pb.REDACT: Action.REDACT,
    pb.BLOCK: Action.BLOCK,
}
_STATES = {
    pb.JUDGED: State.JUDGED,
    pb.SKIPPED: State.SKIPPED,
    pb.PARTIAL: State.PARTIAL,
    pb.LIMIT: State.LIMIT,
}
_CONFIDENCE = {pb.LOW: Confidence.LOW, pb.MEDIUM: Confidence.MEDIUM}
_AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED}


class Contract(Settings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters."""

    address: Annotated[str, msgspec.Meta(min_length=1)]
    """host:port, or any other target that gRPC knows."""
    tls: bool = False
    auth: Auth | None = None
    """Sent as `authorization: Bearer …`."""


class GrpcJudge:
    """Asks a server of the contract."""

    size = 100_000
    items = 256
    alone = False

    def __init__(self, settings: Contract) -> None:
        self.size = settings.size or self.size
        self._settings = settings
        self._secret = Secret.maybe(settings.auth)
        self._channel: grpc.aio.Channel | None = None

    async def ask(self, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:
        """Return one verdict per piece; raise `Failure`."""
        request = pb.JudgeRequest(
            request_id=context.request_id,
            direction=_DIRECTIONS[context.direction],
            model=context.model,
            policy=context.policy,
            texts=[pb.Text(value=piece.value, role=piece.role) for piece in pieces],
            final=context.final,
        )
        try:
            metadata = [("authorization", f"Bearer {self._secret()}")] if self._secret else None
            answer = await self._call()(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from error
        except ValueError as error:
            raise Failure(State.ERROR, str(error)) from error
        return _verdicts(answer, len(pieces))

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    def _call(self) -> grpc.aio.UnaryUnaryMultiCallable[pb.JudgeRequest, pb.JudgeResponse]:
        if self._channel is None:
            address = self._settings.address
            self._channel = (
                grpc.aio.secure_channel(address, grpc.ssl_channel_credentials())
                if self._settings.tls
                else grpc.aio.insecure_channel(address)
            )
        return self._channel.unary_unary(
            METHOD,
            request_serializer=pb.JudgeRequest.SerializeToString,
            response_deserializer=pb.JudgeResponse.FromString,
        )


def _failure(error: grpc.aio.AioRpcError) -> Failure:
    code = error.code()
    states = {
        grpc.StatusCode.RESOURCE_EXHAUSTED: State.THROTTLED,
        grpc.StatusCode.DEADLINE_EXCEEDED: State.TIMEOUT,
        grpc.StatusCode.OUT_OF_RANGE: State.LIMIT,
    }
    return Failure(states.get(code, State.ERROR), code.name, again=code in _AGAIN)


def _verdicts(answer: pb.JudgeResponse, count: int) -> list[ProviderVerdict]:
    """Return one verdict per text. Each carries the action; what was found stands where it was found."""
    action, state = _ACTIONS.get(answer.action), _STATES.get(answer.state)
    places = [finding.text for finding in answer.findings] + [one.text for one in answer.replacements]
    if action is None or state is None or any(place >= count for place in places):
        raise Failure(State.ERROR, "malformed answer")
    return [
        ProviderVerdict(
            action,
            state,
            tuple((0, _finding(found)) for found in answer.findings if found.text == index),
            _replaced(answer, index),
            answer.reason,
        )
        for index in range(count)
    ]


def _replaced(answer: pb.JudgeResponse, index: int) -> dict[int, str]:
    values = [one.value for one in answer.replacements if one.text == index]
    return {0: values[-1]} if values else {}


def _finding(found: pb.Finding) -> Finding:
    confidence = _CONFIDENCE.get(found.confidence, Confidence.HIGH)
    return Finding(found.rule, found.start, found.end, found.category, confidence)


def make(parameters: Mapping[str, object]) -> Provider:
    """Make the provider."""
    settings = read(parameters, Contract)
    return Judging(NAME, GrpcJudge(settings), settings)
