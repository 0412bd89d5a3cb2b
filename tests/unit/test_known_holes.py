"""Which releases of PostgreSQL are known to be dangerous."""

from __future__ import annotations

import pytest

from pgben_tasks.domain.known_holes import HOLES, known_holes

OLD, NEW = "CVE-2025-8714", "CVE-2026-18408"


@pytest.mark.parametrize(
    ("version", "mended"),
    [
        ("18.6", {}),
        ("18.5", {NEW: "18.6"}),
        ("17.11", {}),
        ("17.10 (Debian 17.10-1.pgdg12+1)", {NEW: "17.11"}),
        ("17.5", {OLD: "17.6", NEW: "17.11"}),
        ("16.15", {}),
        ("14.24", {}),
        ("14.18", {OLD: "14.19", NEW: "14.24"}),
        ("13.22", {NEW: "14.24"}),
        ("12.9", {OLD: "13.22", NEW: "14.24"}),
        ("18beta2", {NEW: "18.6"}),
        ("19.0", {}),
    ],
)
def test_a_release_has_the_holes_that_later_ones_mend(version: str, mended: dict[str, str]) -> None:
    assert known_holes(version) == mended


def test_the_release_that_mends_a_hole_does_not_have_it() -> None:
    for hole in HOLES:
        for major, minor in hole.fixed.items():
            assert hole.name not in known_holes(f"{major}.{minor}")
            assert hole.name in known_holes(f"{major}.{minor - 1}")


def test_what_is_no_version_is_not_taken_for_a_safe_one() -> None:
    with pytest.raises(ValueError, match="no version|not a version"):
        known_holes("unknown")
