"""The commands of PGBEN_BEFORE_SWAP and PGBEN_AFTER_SWAP, run as children.

No shell runs them, and nothing of the worker's own environment reaches them: it holds secrets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from pgben_tasks.adapters import process
from pgben_tasks.domain.alarm import one_line
from pgben_tasks.errors import CommandFailed, ConfigurationError, PgbenError
from pgben_tasks.ports import Moment
from pgben_tasks.redaction import redact

#: How long a command may run: users wait meanwhile.
TIMEOUT: Final = timedelta(minutes=5)
#: What every child gets, whatever its worker has.
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapHooks:
    """The commands of one installation (``ports.SwapHooks``); without words there is none."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    #: Name of the time zone that commands see.
    timezone: str
    timeout: timedelta = TIMEOUT

    def has(self, moment: Moment) -> bool:
        """Return whether a command is set for this moment."""
        return bool(self._words(moment))

    def check(self) -> None:
        """Raise ``ConfigurationError`` where a command is set that cannot be started here."""
        for moment in ("before", "after"):
            if self.has(moment):
                self._check(moment)

    def run(
        self,
        moment: Moment,
        *,
        job: UUID,
        databases: Sequence[str],
        check: Callable[[], None],
        on_line: Callable[[str], None],
    ) -> None:
        """Run the command of a moment to its end; its group is killed at the deadline."""
        self._check(moment)
        words = self._words(moment)
        environment = {
            **_ENVIRONMENT,
            "TZ": self.timezone,
            "PGBEN_JOB": str(job),
            "PGBEN_MOMENT": moment,
            # No name has a line break in it (``check_name``).
            "PGBEN_DATABASES": "\n".join(databases),
        }
        try:
            process.run(
                words,
                env=environment,
                cwd=Path("/"),
                timeout=self.timeout,
                check=check,
                on_line=on_line,
                stdout="join",
                explain=_explain,
            )
        except OSError as exc:
            raise CommandFailed(
                f"'{Path(words[0]).name}' could not be started: {exc.strerror}"
            ) from exc

    def _words(self, moment: Moment) -> tuple[str, ...]:
        return self.before if moment == "before" else self.after

    def _check(self, moment: Moment) -> None:
        program = Path(self._words(moment)[0])
        if not (program.is_file() and os.access(program, os.X_OK)):
            raise ConfigurationError(
                f"PGBEN_{moment.upper()}_SWAP names '{program}', which is no program that this "
                "user may run",
                "put it there on every restore worker and make it executable (`chmod 755`), or "
                "correct the setting",
            )


def _explain(completed: process.Completed) -> PgbenError:
    """Return how a command failed, with its last line unless that looks like a secret."""
    last = completed.stderr_tail[-1:]
    if any(redact(line) != line for line in last):
        last = ("its last line may hold a secret and is not shown",)
    return process.failure(completed, lines=[one_line(line) for line in last])
