"""The access log releases what was picked, and says how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest
from envoy_data_plane.envoy.config.core.v3 import Address, Metadata, SocketAddress
from envoy_data_plane.envoy.data.accesslog.v3 import (
    AccessLogCommon,
    AccessLogType,
    HttpAccessLogEntry,
    HttpResponseProperties,
    ResponseFlags,
)
from envoy_data_plane.envoy.service.accesslog.v3 import (
    StreamAccessLogsMessage,
    StreamAccessLogsMessageHttpAccessLogEntries,
)
from envoy_data_plane.google.protobuf import Struct, Value

from services.epp.accesslog import AccessLog
from services.epp.director import Ask
from services.epp.proxies import Proxies
from services.epp.records import Ended, EndOutcome, Release, Silent
from services.openai.digest import Digest
from services.openai.usage import Usage
from services.pb import accesslog_pb2 as pb
from tests.epp.world import Clock, address, director_of, pool_of


class Recorder(Silent):
    """Keeps what ended."""

    def __init__(self) -> None:
        self.ends: list[Ended] = []
        self.releases: list[Release] = []

    def ended(self, end: Ended) -> None:
        self.ends.append(end)

    def released(self, pool: str, by: Release) -> None:
        self.releases.append(by)


class Rig:
    """A picker of three servers with its access log."""

    def __init__(self) -> None:
        clock = Clock()
        self.seen = Recorder()
        self.pool = pool_of(3, clock)
        self.director = director_of(self.pool, clock=clock, observer=self.seen)
        self.log = AccessLog(self.director, self.seen, Proxies(self.director.lost))

    def pick(self) -> tuple[str, str]:
        reservation = self.director.pick(Ask(Digest("m")))
        return reservation.id, reservation.decision.servers[0].address

    def receive(self, *entries: HttpAccessLogEntry) -> None:
        """Take in Envoy's own bytes: written by the full definitions, read by our subset."""
        batch = StreamAccessLogsMessageHttpAccessLogEntries(log_entry=list(entries))
        self.log.receive(
            pb.StreamAccessLogsMessage.FromString(bytes(StreamAccessLogsMessage(http_logs=batch)))
        )

    @property
    def in_flight(self) -> int:
        return len(self.pool.inflight)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def entry(
    decision: str | None,
    *,
    served: str = "",
    pool: str = "llama",
    kind: AccessLogType = AccessLogType.DownstreamEnd,
    flags: Sequence[str] = (),
    details: str = "via_upstream",
    usage: Mapping[str, float] | None = None,
) -> HttpAccessLogEntry:
    own = {} if decision is None else {"decision": decision, "pool": pool}
    fields = {key: Value(string_value=value) for key, value in own.items()}
    namespaces = {"gw.epp": Struct(fields=fields)} if fields else {}
    if usage is not None:
        namespaces["gw.safety"] = Struct.from_dict({"usage": dict(usage)})
    host, _, port = served.rpartition(":")
    remote = Address(socket_address=SocketAddress(address=host, port_value=int(port))) if served else None
    return HttpAccessLogEntry(
        common_properties=AccessLogCommon(
            metadata=Metadata(filter_metadata=namespaces),
            upstream_remote_address=remote,
            response_flags=_flags(flags),
            access_log_type=kind,
            time_to_first_upstream_tx_byte=timedelta(milliseconds=2),
            time_to_first_upstream_rx_byte=timedelta(milliseconds=30),
            time_to_last_downstream_tx_byte=timedelta(seconds=1, milliseconds=500),
            upstream_request_attempt_count=1,
        ),
        response=HttpResponseProperties(
            response_code=200, response_body_bytes=77, response_code_details=details
        ),
    )


def _flags(names: Sequence[str]) -> ResponseFlags:
    flags = ResponseFlags()
    for name in names:
        setattr(flags, name, True)
    return flags


def test_an_entry_releases_its_request_and_tells_how_it_went(rig):
    """Status, times, bytes and the server that answered."""
    decision, picked = rig.pick()
    rig.receive(entry(decision, served=picked))

    assert rig.in_flight == 0
    assert rig.seen.ends == [
        Ended(
            pool="llama",
            decision=decision,
            outcome=EndOutcome.COMPLETED,
            served=picked,
            status=200,
            attempts=1,
            seconds=1.5,
            sent_after=0.002,
            answered_after=0.03,
            response_bytes=77,
        )
    ]


def test_one_message_carries_many_ends(rig):
    """Envoy sends them in batches."""
    rig.receive(*[entry(rig.pick()[0]) for _ in range(5)])

    assert rig.in_flight == 0
    assert rig.seen.releases == [Release.ACCESS_LOG] * 5


def test_an_end_counts_once(rig):
    """The second entry, or one for another replica's request, is counted as unknown."""
    decision, _ = rig.pick()
    rig.receive(entry(decision), entry(decision), entry("another-replica-1"), entry(decision, pool="gone"))

    assert rig.seen.releases == [Release.ACCESS_LOG, Release.UNKNOWN, Release.UNKNOWN]
    assert len(rig.seen.ends) == 1


@pytest.mark.parametrize(
    "ignored",
    [
        entry(None),
        entry("x", kind=AccessLogType.DownstreamPeriodic),
        entry("x", kind=AccessLogType.UpstreamPoolReady),
    ],
)
def test_requests_without_a_pick_and_interim_reports_are_passed_over(rig, ignored):
    """Refusals by other services, and long streams that are still running."""
    rig.receive(ignored)

    assert rig.seen.releases == []


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["downstream_connection_termination"], EndOutcome.CLIENT_LEFT),
        (["downstream_connection_termination", "upstream_remote_reset"], EndOutcome.CLIENT_LEFT),
        (["upstream_remote_reset"], EndOutcome.SERVER_FAILED),
        (["upstream_connection_termination"], EndOutcome.SERVER_FAILED),
        (["stream_idle_timeout"], EndOutcome.TIMED_OUT),
        (["upstream_request_timeout"], EndOutcome.TIMED_OUT),
        (["no_healthy_upstream"], EndOutcome.NOT_SENT),
        (["upstream_connection_failure", "upstream_retry_limit_exceeded"], EndOutcome.NOT_SENT),
        (["rate_limited"], EndOutcome.COMPLETED),
    ],
)
def test_flags_become_one_outcome(rig, flags, expected):
    """The cause comes before its consequences."""
    decision, picked = rig.pick()
    rig.receive(entry(decision, served=picked, flags=flags))

    assert rig.seen.ends[0].outcome is expected
    assert rig.in_flight == 0


def test_what_safety_read_comes_back_with_the_end(rig):
    """The server's own counts, and when the first token came after the head at 0.03 s."""
    told = {"prompt": 11, "completion": 20, "cached": 8, "first": 0.5}
    rig.receive(entry(rig.pick()[0], usage=told))

    assert rig.seen.ends[0].usage == Usage(prompt=11, completion=20, cached=8)
    assert rig.seen.ends[0].first_token_after == pytest.approx(0.53)


@pytest.mark.parametrize("told", [{}, {"completion": -1}, {"completion": 1e12}, {"prompt": 5}])
def test_counts_that_cannot_be_are_none(rig, told):
    """Estimates from bytes stand in."""
    rig.receive(entry(rig.pick()[0], usage=told))

    assert (rig.seen.ends[0].usage, rig.seen.ends[0].first_token_after) == (None, None)


def test_a_route_that_ends_a_stream_shows_in_the_details_alone(rig):
    """Envoy sets no flag for `max_stream_duration`, and the status has gone out as 200."""
    rig.receive(entry(rig.pick()[0], details="max_duration_timeout"))

    assert rig.seen.ends[0].outcome is EndOutcome.TIMED_OUT


def test_the_server_that_served_is_told_to_the_pool(rig):
    """A conversation follows its prefix."""
    decision, picked = rig.pick()
    other = next(address(number) for number in range(3) if address(number) != picked)
    moved: list[tuple[str, str]] = []
    rig.pool.served = lambda decision, server: moved.append((decision, server))
    rig.receive(entry(decision, served=other))

    assert moved == [(decision, other)]


def test_a_request_that_reached_nobody_moves_nothing(rig):
    """The address in its entry is the one that refused."""
    decision, picked = rig.pick()
    rig.receive(entry(decision, served=picked, flags=["upstream_connection_failure"]))

    assert rig.seen.ends[0].served is None
