"""Real S3 servers for the demo, the tests and the benchmarks; never for production.

``rclone`` is fast: it keeps bytes, and loses metadata, tags and locks. It serves as the
repository. ``ministack`` knows metadata, tags and versions, checks no credentials and takes a few
seconds to start. It serves as the protected side. ``moto`` keeps everything in memory; tests
use it as a second implementation of the protocol.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Self

import urllib3
from minio import Minio
from minio.error import MinioException

from pgben_tasks.embedded import binaries
from pgben_tasks.embedded.child import Command, Supervisor
from pgben_tasks.embedded.server import EmbeddedServer, plain_environment

S3Kind = Literal["rclone", "ministack", "moto"]
_TIMEOUT_SECONDS: Final = 10.0
REGION: Final = "us-east-1"


@dataclass(kw_only=True)
class EmbeddedS3(EmbeddedServer):
    """An S3 server of its own on loopback, plain HTTP, with one pair of keys."""

    kind: S3Kind
    access_key: str
    secret_key: str = field(repr=False)
    etags: bool = False
    _program: tuple[str, ...] = field(repr=False)

    @classmethod
    def start(
        cls,
        folder: Path | None = None,
        *,
        kind: S3Kind = "rclone",
        supervisor: Supervisor | None = None,
        etags: bool = False,
    ) -> Self:
        """Start a server with its files below ``folder`` (default: temporary files).

        With ``etags`` rclone digests what it stores, so that etags differ where contents do.
        Raises ``ConfigurationError`` when the package is not installed.
        """
        if kind == "rclone":
            program: tuple[str, ...] = (str(binaries.rclone()),)
        elif kind == "ministack":
            binaries.require_package(
                "ministack", "the embedded S3 server with metadata", binaries.INSTALL_EMBEDDED
            )
            program = (sys.executable, "-m", "ministack")
        else:
            binaries.require_package(
                "moto", "the embedded S3 server in memory", binaries.INSTALL_DEV
            )
            program = (sys.executable, "-m", "moto.server")
        return cls._start_below(
            folder,
            supervisor,
            f"s3-{kind}",
            kind=kind,
            access_key=f"pgben{secrets.token_hex(6)}",
            secret_key=secrets.token_hex(20),
            etags=etags,
            _program=program,
        )

    def _prepare(self) -> None:
        (self.folder / "data").mkdir(mode=0o700)

    @property
    def endpoint(self) -> str:
        """The server's address as a URL."""
        return f"http://{self.host}:{self.port}"

    def client(self) -> Minio:
        """Return a client with the right keys that does not retry."""
        return Minio(
            f"{self.host}:{self.port}",
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            region=REGION,
            http_client=urllib3.PoolManager(timeout=_TIMEOUT_SECONDS, retries=False),
        )

    def make_bucket(self, name: str) -> None:
        """Make a bucket unless it is there."""
        client = self.client()
        if not client.bucket_exists(name):
            client.make_bucket(name)

    def _command(self) -> Command:
        commands = {
            "rclone": self._rclone_command,
            "ministack": self._ministack_command,
            "moto": self._moto_command,
        }
        return commands[self.kind]()

    def _rclone_command(self) -> Command:
        return Command(
            argv=(
                *(*self._program, "serve", "s3", str(self.folder / "data")),
                *("--addr", f"{self.host}:{self.port}"),
                *("--vfs-cache-mode", "off"),
                # Digests are kept as long as what was read of their folder.
                *("--dir-cache-time", "24h" if self.etags else "5s"),
                # It would read everything again that it has just written, and everything that it
                # lists. What is stored is checked when it is read back.
                *("--ignore-checksum", "--etag-hash", "MD5" if self.etags else ""),
            ),
            environment=plain_environment(
                self.folder,
                # Not in the arguments, which every user can read. The value is CSV.
                RCLONE_AUTH_KEY=f'"{self.access_key},{self.secret_key}"',
                RCLONE_CONFIG=str(self.folder / "rclone.conf"),
                RCLONE_CACHE_DIR=str(self.folder / "cache"),
            ),
        )

    def _ministack_command(self) -> Command:
        return Command(
            argv=self._program,
            environment=plain_environment(
                self.folder,
                PYTHONUTF8="1",
                BIND_HOST=self.host,
                GATEWAY_PORT=str(self.port),
                SERVICES="s3",
                S3_PERSIST="1",
                S3_DATA_DIR=str(self.folder / "data"),
                STATE_DIR=str(self.folder / "state"),
                AWS_ACCESS_KEY_ID=self.access_key,
                AWS_SECRET_ACCESS_KEY=self.secret_key,
            ),
        )

    def _moto_command(self) -> Command:
        return Command(
            argv=(*self._program, "-H", self.host, "-p", str(self.port)),
            environment=plain_environment(self.folder, PYTHONUTF8="1"),
        )

    def _answers(self) -> bool:
        try:
            self.client().list_buckets()
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError):
            return False
        return True
