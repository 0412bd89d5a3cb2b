"""What a command works with that needs an installation: its settings, and a catalog that answers.

Whoever waits at a terminal is told within seconds that the catalog does not.
"""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgben_tasks.runtime import Workplace


def open_workplace() -> Workplace:
    """Return the installation of the settings that are loaded; raise when there are none."""
    from pgben_tasks.runtime import PATIENCE, Workplace
    from pgben_tasks.settings import Settings

    return Workplace(Settings.of_installation(), patience=PATIENCE)
