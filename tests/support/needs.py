"""Says which system tools a test needs: ``@needs("age", "zstd")``.

Without one of them the test is not run, and the closing table says so; a tool that
PGBEN_TEST_REQUIRE lists (or ``all``) makes its absence a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

import pytest

REQUIRE = "PGBEN_TEST_REQUIRE"


def needs(*tools: str) -> pytest.MarkDecorator:
    """Mark a test that runs these programs of the system."""
    return pytest.mark.needs(*tools)


def missing(tools: tuple[str, ...], *, path: str | None = None) -> list[str]:
    """List the tools that ``path`` (PATH by default) does not have."""
    return [tool for tool in tools if shutil.which(tool, path=path) is None]


def required(tools: list[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """List the tools whose absence is a failure."""
    wanted = environ.get(REQUIRE, "").replace(",", " ").split()
    return [tool for tool in tools if "all" in wanted or tool in wanted]
