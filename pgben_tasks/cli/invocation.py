"""What the words of a command line are, before typer reads them. Imports nothing that is heavy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

ENV_FILE: Final = "--env-file"
#: The command whose exit codes are those of plugins for Nagios, whatever happens.
CHECK: Final = "check"
#: What it ends with when nothing could be judged.
UNKNOWN: Final = 3


def env_files_first(args: Sequence[str]) -> list[str]:
    """Put ``--env-file FILE`` before the command, wherever it was written."""
    first: list[str] = []
    rest: list[str] = []
    left = iter(args)
    for one in left:
        if one == ENV_FILE:
            first += [one, *islice(left, 1)]
        else:
            (first if one.startswith(f"{ENV_FILE}=") else rest).append(one)
    return first + rest


def asks_for_check(args: Sequence[str]) -> bool:
    """Return whether the command of these words is `check`: the first that is no option."""
    left = iter(env_files_first(args))
    for one in left:
        if one == ENV_FILE:
            next(left, None)
        elif not one.startswith("-"):
            return one == CHECK
    return False
