"""What can go wrong on demand: for one answer by request header, for the whole server over the admin API."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from tools.model_server.errors import bad_request

_FAULT = re.compile(r"(?P<kind>reset|stall)-after=(?P<after>\d+)(?P<unit>[be]?)|status=(?P<status>[1-5]\d\d)")
_AMOUNT = re.compile(r"(\d+)([be]?)")


class Kind(enum.Enum):
    """How an answer fails."""

    RESET = "reset"
    STALL = "stall"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure of one answer: after so many bytes of its body, or events, or instead of it."""

    kind: Kind
    after: int = 0
    """0 is before the head of the answer."""
    events: bool = False
    """`after` counts server-sent events, not bytes."""
    status: int = 0


@dataclass(frozen=True, slots=True)
class Steering:
    """What the request's headers ask of its answer. Times in seconds.

    | header | meaning |
    |---|---|
    | `x-mock-chunk-bytes: N` | cut the body every N bytes, each piece its own HTTP chunk and write; the last may be shorter |
    | `x-mock-ttft-ms: T` | the first token comes T ms after the request, or later if the engine is slower |
    | `x-mock-token-ms: T` | every further token comes T ms after the one before, or later |
    | `x-mock-fault: reset-after=K` | TCP reset after K bytes of the body; `Ke` counts events; 0 is before the head |
    | `x-mock-fault: stall-after=K` | send nothing more after K and keep the connection |
    | `x-mock-fault: status=500` | answer with this status and an error body |
    """

    chunk_bytes: int = 0
    ttft: float = 0.0
    token: float = 0.0
    fault: Fault | None = None

    @property
    def paced(self) -> bool:
        """Whether tokens wait for more than the engine."""
        return bool(self.ttft or self.token)

    @property
    def plain(self) -> bool:
        """Whether the body goes out as it is."""
        return not self.chunk_bytes and self.fault is None


def steering(headers: Mapping[str, str], server_fault: Fault | None) -> Steering:
    """Read the headers; the request's own fault goes before the server's. Raise `ApiError` 400."""
    fault = headers.get("x-mock-fault")
    return Steering(
        chunk_bytes=int(_number(headers, "x-mock-chunk-bytes")),
        ttft=_number(headers, "x-mock-ttft-ms") / 1000,
        token=_number(headers, "x-mock-token-ms") / 1000,
        fault=parse_fault(fault) if fault else server_fault,
    )


def parse_fault(text: str) -> Fault:
    """Read the value of `x-mock-fault`."""
    found = _FAULT.fullmatch(text)
    if found is None:
        raise bad_request(f"x-mock-fault: {text!r} is not reset-after=K, stall-after=K or status=N")
    if found["status"]:
        return Fault(Kind.STATUS, status=int(found["status"]))
    return Fault(Kind(found["kind"]), int(found["after"]), found["unit"] == "e")


class ServerFaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /admin/faults. Each call replaces the faults of the one before.

    `reset_after` and `stall_after` take bytes (`100`) or events (`"3e"`); they and `status` apply to answers of the
    API, not to `/health` and `/metrics`.
    """

    refuse: bool = False
    """No listening socket, and open connections reset."""
    start_delay: float = 0.0
    """A restart: refuse for so many seconds, then come back with an empty cache."""
    reset_after: int | str | None = None
    stall_after: int | str | None = None
    status: int | None = None
    slow: float = 1.0
    """The engine takes this many times as long."""
    seconds: float | None = None
    """The faults end by themselves after this."""

    def of_answer(self) -> Fault | None:
        """Return what each answer suffers."""
        if self.status is not None:
            return Fault(Kind.STATUS, status=self.status)
        for kind, amount in ((Kind.RESET, self.reset_after), (Kind.STALL, self.stall_after)):
            if amount is not None:
                return _after(kind, amount)
        return None


def read_faults(body: bytes) -> ServerFaults:
    """Read the body of POST /admin/faults; raise `ApiError` 400."""
    try:
        faults = _FAULTS.decode(body)
    except msgspec.DecodeError as error:
        raise bad_request(str(error)) from error
    if faults.slow <= 0:
        raise bad_request("slow: expected a number above 0")
    faults.of_answer()  # raises for what it cannot read
    return faults


def _after(kind: Kind, amount: int | str) -> Fault:
    found = _AMOUNT.fullmatch(str(amount))
    if found is None:
        raise bad_request(f"{kind.value}_after: {amount!r} is not a number of bytes, or of events as in '3e'")
    return Fault(kind, int(found[1]), found[2] == "e")


def _number(headers: Mapping[str, str], name: str) -> float:
    text = headers.get(name)
    if text is None:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise bad_request(f"{name}: {text!r} is not a number of 0 or more")
    return value


_FAULTS = msgspec.json.Decoder(ServerFaults)
