"""Fixtures of tests that start whole programs."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def reachable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder that the embedded servers' user can reach as well."""
    folder = tmp_path_factory.mktemp("demo")
    for one in (folder, folder.parent, folder.parent.parent):
        one.chmod(one.stat().st_mode | 0o711)
    folder.chmod(0o777)
    return folder
