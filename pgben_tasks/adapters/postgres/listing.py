"""Read what a dump directory says it holds, without any server.

``pg_restore --list`` proves only that the table of contents can be read and that the data files it
names are there; digests prove the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from pgben_tasks.adapters import process
from pgben_tasks.errors import CommandFailed, IntegrityError
from pgben_tasks.ports import ClientTools

_LIST_TIMEOUT: Final = timedelta(minutes=10)
_ENTRY: Final = re.compile(r"(?P<id>\d+); \d+ \d+ (?P<rest>.*)")
_DATA: Final = "TABLE DATA "
_DATA_SUFFIXES: Final = (".dat", ".dat.zst", ".dat.gz", ".dat.lz4")
_TABLESPACE: Final = re.compile(r"SET default_tablespace = (?P<name>.+);")
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class DumpListing:
    """A dump's table of contents.

    ``table_data`` holds one line per table whose rows are in the dump, as pg_restore prints it:
    schema, table and owner with spaces between, newlines within names turned into spaces.
    ``entries`` counts everything.
    """

    table_data: tuple[str, ...]
    entries: int

    def missing(self, tables: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Return those of ``tables`` (schema, table) whose rows are not in the dump."""
        words = [line.split(" ") for line in self.table_data]
        # Names may hold spaces, so where the owner begins is not known: every way to read a line
        # counts. Whoever needs more compares the number of lines too.
        readings = {" ".join(line[:end]) for line in words for end in range(2, len(line))}
        return tuple(
            (schema, table)
            for schema, table in tables
            if f"{_printed(schema)} {_printed(table)}" not in readings
        )


def listing_argv(tools: ClientTools, *, dump: Path) -> list[str]:
    """Build the reading of a dump's table of contents."""
    return [str(tools.pg_restore), "--format=directory", "--list", str(dump.absolute())]


def schema_argv(tools: ClientTools, *, dump: Path) -> list[str]:
    """Build the reading of a dump's schema as text."""
    return [
        str(tools.pg_restore),
        "--format=directory",
        "--schema-only",
        "--file=-",
        str(dump.absolute()),
    ]


def read_listing(dump: Path, tools: ClientTools) -> DumpListing:
    """Return a dump's table of contents; the data file of every table named must be there.

    Raises ``IntegrityError`` when the table of contents cannot be read or a file is missing.
    """
    # str.splitlines would also split at characters that names may hold.
    lines = _read(listing_argv(tools, dump=dump), dump).split("\n")
    matches = [match for line in lines if (match := _ENTRY.fullmatch(line)) is not None]
    data = [match for match in matches if match["rest"].startswith(_DATA)]
    files = {path.name for path in dump.iterdir()}
    for match in data:
        if not any(f"{match['id']}{suffix}" in files for suffix in _DATA_SUFFIXES):
            raise IntegrityError(
                f"the dump in '{dump}' has no data file for its entry {match['id']} "
                f"({match['rest']})",
                "the dump is incomplete; make another",
            )
    return DumpListing(
        table_data=tuple(match["rest"].removeprefix(_DATA) for match in data),
        entries=len(matches),
    )


def named_tablespaces(dump: Path, tools: ClientTools) -> frozenset[str]:
    """Return the tablespaces that a dump's schema asks for by name."""
    lines = _read(schema_argv(tools, dump=dump), dump).split("\n")
    found = (_TABLESPACE.fullmatch(line) for line in lines)
    names = (match["name"] for match in found if match is not None)
    return frozenset(
        name[1:-1].replace('""', '"') if name.startswith('"') else name
        for name in names
        if name != "''"
    )


def _read(argv: list[str], dump: Path) -> str:
    try:
        completed = process.run(
            argv, env=_ENVIRONMENT, cwd=dump, timeout=_LIST_TIMEOUT, stdout="capture"
        )
    except CommandFailed as exc:
        raise IntegrityError(
            f"the table of contents of the dump in '{dump}' cannot be read: {exc.sentence}",
            "the dump is damaged, or was made by a newer client than this one",
        ) from exc
    return completed.stdout.decode(errors="surrogateescape")


def _printed(name: str) -> str:
    return name.replace("\n", " ").replace("\r", " ")
