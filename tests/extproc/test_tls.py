"""TLS on the ext_proc port: certificates renewed in place, clients without one refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import pytest

from services.extproc.config import ConfigError, Tls
from services.extproc.lifecycle import Parts
from services.extproc.script import Recorder
from services.extproc.tls import Certificates
from tests.extproc.kit import Fake
from tests.extproc.live import BUFFERED, Stream, headers, served

FOLDER = Path(__file__).parent / "tls"


def pem(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def install(folder: Path, name: str) -> None:
    """Put a certificate in place as its renewal does: written aside, then renamed over the old one."""
    for ending in ("key", "pem"):
        shutil.copy(FOLDER / f"{name}.{ending}", folder / "new")
        (folder / "new").rename(folder / f"server.{ending}")


@pytest.fixture
def tls(tmp_path):
    install(tmp_path, "first")
    return Tls(cert=str(tmp_path / "server.pem"), key=str(tmp_path / "server.key"))


async def answers(port: int, credentials: grpc.ChannelCredentials) -> bool:
    """Say whether a stream over a new connection is served."""
    # A pool of connections shared by equal channels would hide a new handshake.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        stream = Stream(channel)
        try:
            await stream.say(request_headers=headers(end=True), protocol_config=BUFFERED)
        except grpc.aio.AioRpcError:
            return False
        return await stream.hear() is not None


def trusting(name: str) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(pem(f"{name}.pem"))


async def test_a_renewed_certificate_is_used_by_the_next_connection(tls, tmp_path):
    """Without a restart, and the old one no longer is."""
    async with served(Fake(), tls=tls) as ports:
        assert await answers(ports.grpc, trusting("first"))
        assert not await answers(ports.grpc, trusting("second"))
        install(tmp_path, "second")
        assert await answers(ports.grpc, trusting("second"))
        assert not await answers(ports.grpc, trusting("first"))


async def test_a_certificate_that_goes_missing_leaves_the_old_one_in_use(tls, tmp_path):
    """And is reported, at each handshake that missed it."""
    recorder = Recorder()
    async with served(Fake(), tls=tls, parts=Parts(observers=(recorder,))) as ports:
        shutil.rmtree(tmp_path)
        assert await answers(ports.grpc, trusting("first"))
    assert all(isinstance(failure, FileNotFoundError) for failure in recorder.failures)
    assert recorder.failures


async def test_clients_need_a_certificate_where_an_authority_is_named(tmp_path):
    """mTLS: whoever reaches the port is Envoy."""
    install(tmp_path, "first")
    mutual = Tls(
        cert=str(tmp_path / "server.pem"),
        key=str(tmp_path / "server.key"),
        client_ca=str(FOLDER / "client.pem"),
    )
    known = grpc.ssl_channel_credentials(pem("first.pem"), pem("client.key"), pem("client.pem"))
    stranger = grpc.ssl_channel_credentials(pem("first.pem"), pem("second.key"), pem("second.pem"))
    async with served(Fake(), tls=mutual) as ports:
        assert await answers(ports.grpc, known)
        assert not await answers(ports.grpc, stranger)
        assert not await answers(ports.grpc, trusting("first"))


def test_a_missing_file_at_the_start_is_one_clear_error(tls):
    """With its name."""
    Path(tls.key).unlink()
    with pytest.raises(ConfigError, match=r"TLS: .*server\.key: No such file or directory"):
        Certificates(tls, lambda _: None).credentials()


def test_files_are_read_again_only_when_they_changed(tls, tmp_path):
    """GRPC asks at every handshake."""
    certificates = Certificates(tls, lambda _: None)
    certificates.credentials()
    assert certificates.renewed() is None
    install(tmp_path, "second")
    assert certificates.renewed() is not None
    assert certificates.renewed() is None
