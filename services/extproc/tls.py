"""Server credentials from files that may be renewed while the server runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc

from services.extproc.config import ConfigError, Tls

Stamp = tuple[tuple[int, int], ...]


class Certificates:
    """The files of a `Tls`, read again when one of them changes. gRPC asks at every handshake."""

    def __init__(self, tls: Tls, on_failure: Callable[[OSError], None]) -> None:
        self._tls = tls
        self._on_failure = on_failure
        self._files = [Path(name) for name in (tls.key, tls.cert, tls.client_ca) if name]
        self._stamp: Stamp = ()

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files; raise `ConfigError` when one cannot be read now."""
        try:
            first = self._read(self._look())
        except OSError as error:
            raise ConfigError(f"TLS: {error.filename}: {error.strerror}") from error
        return grpc.dynamic_ssl_server_credentials(
            first,
            self.renewed,  # type: ignore[arg-type]  # gRPC's documentation allows None, its stubs do not
            require_client_authentication=self._tls.client_ca is not None,
        )

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new configuration when a file has changed, else None, which keeps the one in use."""
        try:
            stamp = self._look()
            return self._read(stamp) if stamp != self._stamp else None
        except OSError as error:
            self._on_failure(error)
            return None

    def _look(self) -> Stamp:
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in (path.stat() for path in self._files))

    def _read(self, stamp: Stamp) -> grpc.ServerCertificateConfiguration:
        key, chain, *authority = [path.read_bytes() for path in self._files]
        self._stamp = stamp
        return grpc.ssl_server_certificate_configuration([(key, chain)], authority[0] if authority else None)
