"""Fixtures of tests that start whole programs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Yield a folder that the embedded servers' user can reach as well.

    It is not below pytest's own, which another run of tests on this machine closes to other users.
    """
    # What is left is the tests' own question; here it must not hide their answer.
    with tempfile.TemporaryDirectory(prefix="pgben-reachable-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
