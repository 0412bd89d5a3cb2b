"""``rclone sync`` from one S3 server to another: the usual way to copy a bucket."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Final

from benchmarks.documents import BUCKET, Documents
from benchmarks.meter import measure_program
from benchmarks.rounds import Measured
from pgben_tasks.embedded import binaries
from pgben_tasks.embedded.s3 import EmbeddedS3

#: What is tried for its best: so many transfers and checkers at a time.
TRANSFERS: Final = (4, 16, 32, 64)
#: The fastest way to find out that nothing changed: no look at each object's own date.
COMPARING: Final = ("--checksum", "--fast-list")


class Sync:
    """Copies the documents to a place that ``place`` names, anew for every run."""

    def __init__(
        self,
        name: str,
        documents: Documents,
        to: EmbeddedS3,
        place: Callable[[], str],
        *,
        transfers: int,
        options: tuple[str, ...] = (),
    ) -> None:
        """Copy with ``transfers`` at a time and more ``options``."""
        self.name = name
        self._documents = documents
        self._to = to
        self._place = place
        self._options = (f"--transfers={transfers}", f"--checkers={transfers}", *options)

    def run(self) -> Measured:
        """Run it once."""
        argv = (
            *(str(binaries.rclone()), "sync", *self._options),
            *(f"from:{BUCKET}", f"to:{self._place()}"),
        )
        environment = {
            "PATH": os.defpath,
            "HOME": str(self._to.folder),
            "RCLONE_CONFIG": os.devnull,
            **remote("FROM", self._documents.server),
            **remote("TO", self._to),
        }
        seconds, meter = measure_program(argv, environment, stderr=subprocess.DEVNULL)
        return Measured(
            seconds=seconds, cpu=meter.cpu, memory=meter.peak, stored=self._documents.size
        )


def remote(name: str, server: EmbeddedS3) -> dict[str, str]:
    """Return the environment in which rclone knows a server as ``name``, in small letters."""
    begin = f"RCLONE_CONFIG_{name}"
    return {
        f"{begin}_TYPE": "s3",
        f"{begin}_PROVIDER": "Rclone",
        f"{begin}_ENDPOINT": server.endpoint,
        f"{begin}_ACCESS_KEY_ID": server.access_key,
        f"{begin}_SECRET_ACCESS_KEY": server.secret_key,
    }
