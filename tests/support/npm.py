"""Packages from npm that tests use: single ones, fetched by ``npm pack`` and checked by digest.

They are kept in the folder of the virtual environment, so that a machine fetches each once.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

_FETCH_SECONDS: Final = 300


def unpack(package: Path, folder: Path) -> None:
    """Unpack a package into a new folder, where it is called ``package``."""
    folder.mkdir(parents=True)
    # Its digest was checked, and tarfile's filters came with Python 3.11.4 only.
    subprocess.run(["tar", "-xzf", str(package), "-C", str(folder)], check=True, timeout=60)


def installed_package(
    name: str, version: str, digest: str, *, unpack: Callable[[Path, Path], None] = unpack
) -> Path:
    """Return the folder of a package, fetching it the first time; ``digest`` is its SHA-512."""
    kept = Path(sys.prefix) / "npm" / f"{re.sub('[^a-z0-9]+', '-', name)}-{version}"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        # Several test processes may begin at once; whoever is first gives its folder the name.
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            made = Path(scratch) / "made"
            unpack(_fetch(name, version, digest, Path(scratch)), made)
            try:
                made.rename(kept)
            except OSError:
                if not kept.exists():
                    raise
    return kept


def _fetch(name: str, version: str, digest: str, folder: Path) -> Path:
    subprocess.run(
        ["npm", "pack", "--silent", f"{name}@{version}"],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=_FETCH_SECONDS,
    )
    (package,) = folder.glob("*.tgz")
    found = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if found != digest:
        message = f"{name} {version} has the digest {found}, pinned is {digest}"
        raise AssertionError(message)
    return package
