"""Releases of PostgreSQL that are known to be dangerous to back up with, and what fixes them.

A table and a comparison; it is as old as this program, so a release that passes here may have
holes that were found later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_VERSION: Final = re.compile(r"(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """One flaw: its name, and the first minor release of each major that is free of it.

    A major newer than all of these never had it; one older than all of them keeps it.
    """

    name: str
    fixed: Mapping[int, int]


#: Both let a server that somebody entered run commands where a plain dump is restored with psql.
HOLES: Final = (
    Hole(name="CVE-2025-8714", fixed={17: 6, 16: 10, 15: 14, 14: 19, 13: 22}),
    Hole(name="CVE-2026-18408", fixed={18: 6, 17: 11, 16: 15, 15: 19, 14: 24}),
)


def known_holes(version: str) -> dict[str, str]:
    """Return the flaws of a release such as ``17.4``, each with the release that fixes it.

    Beta releases count as minor 0. Where no release of the major fixes a flaw, the oldest major
    that has one is named. Raises ``ValueError`` for text that is no version.
    """
    found = _VERSION.match(version)
    if found is None:
        raise ValueError(f"'{version[:40]}' is not a version of PostgreSQL")
    major, minor = int(found[1]), int(found[2] or 0)
    open_ones = {}
    for hole in HOLES:
        if major in hole.fixed and minor < hole.fixed[major]:
            open_ones[hole.name] = f"{major}.{hole.fixed[major]}"
        elif major < min(hole.fixed):
            oldest = min(hole.fixed)
            open_ones[hole.name] = f"{oldest}.{hole.fixed[oldest]}"
    return open_ones
