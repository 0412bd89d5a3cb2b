"""What all embedded servers share: started on a free port, stopped, killed, started again.

Each kind of server defines its command, and how to see that it answers.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from pgben_tasks.embedded.child import (
    LOOPBACK,
    Child,
    Closable,
    Command,
    Supervisor,
    free_port,
    wait_until,
)
from pgben_tasks.errors import CommandFailed

#: How often a start is repeated when another process took the port in between.
_TRIES: Final = 5
#: Seconds until a started server must answer; generous, for machines with other work.
READY_TIMEOUT: Final = 60.0

#: What finds programs and libraries, and what moves the clock of a whole run of the tests.
_INHERITED: Final = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "CLOCK_AHEAD")


@dataclass(kw_only=True)
class EmbeddedServer(Closable):
    """One server on a loopback port of its own, under a supervisor.

    ``stop``, ``kill`` and ``restart`` keep port and data; ``close`` (or leaving the context) ends
    the server and, when the supervisor is the server's own, removes its files.
    """

    supervisor: Supervisor = field(repr=False)
    owns_supervisor: bool = field(repr=False)
    folder: Path
    host: str = LOOPBACK
    port: int = 0
    _child: Child | None = field(default=None, repr=False)

    @classmethod
    def _start_below(
        cls, folder: Path | None, supervisor: Supervisor | None, name: str, **fields: Any
    ) -> Self:
        """Start a server with ``fields``, its files in a new folder called ``name``.

        That is in the folder of ``supervisor``; without one, below ``folder`` under a new one.
        """
        owner = supervisor or Supervisor.start(folder)
        try:
            server = cls(
                supervisor=owner,
                owns_supervisor=supervisor is None,
                folder=new_folder(owner, name),
                **fields,
            )
            server._prepare()
            server._start_on_free_port()
        except BaseException:
            if supervisor is None:
                owner.close()
            raise
        return server

    def _prepare(self) -> None:
        """Make what must exist before the first start."""

    @abstractmethod
    def _command(self) -> Command:
        """Return the command that starts the server on its port."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether a request with the server's password succeeds; False while it starts."""

    @property
    def running(self) -> bool:
        """Whether the server's process runs."""
        return self._child is not None and self._child.alive

    @property
    def child(self) -> Child:
        """The server's process; raises ``CommandFailed`` before the first start."""
        if self._child is None:
            raise CommandFailed(f"the embedded server '{self.folder.name}' was not started")
        return self._child

    def restart(self) -> None:
        """Stop the server if it runs and start it again: same port, same data, same password."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """Stop the server in an orderly way and keep its data; nothing happens when it is down."""
        if self._child is not None and self._child.alive:
            self._child.stop()

    def kill(self) -> None:
        """Kill the server and every process it started with SIGKILL."""
        if self._child is not None and self._child.alive:
            self._child.kill()

    def close(self) -> None:
        """End the server and, unless it is part of a stack, remove its files."""
        if self.owns_supervisor:
            self.supervisor.close()
        else:
            self.stop()

    def _start_on_free_port(self) -> None:
        """Start on a free port; on another one when a process took it in between."""
        for remaining in reversed(range(_TRIES)):
            self.port = free_port()
            try:
                self._start()
            except CommandFailed as exc:
                if remaining and "already in use" in exc.sentence.lower():
                    continue
                raise
            return

    def _start(self) -> None:
        child = self.supervisor.spawn(f"{self.folder.name}-{self.port}", self._command())
        self._child = child
        answered = wait_until(lambda: self._answers() or not child.alive, seconds=READY_TIMEOUT)
        if answered and child.alive:
            return
        status = child.status
        child.kill()
        why = "did not answer in time" if status is None else f"ended with status {status}"
        raise CommandFailed(f"the embedded server '{self.folder.name}' {why}: {child.tail()}")


def new_folder(supervisor: Supervisor, name: str) -> Path:
    """Make a folder for one server in the supervisor's; a second of a name gets a number."""
    number = 1
    while True:
        folder = supervisor.folder / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            number += 1
            continue
        (folder / "tmp").mkdir(mode=0o700)
        return folder


def plain_environment(folder: Path, **more: str) -> dict[str, str]:
    """Return a server's whole environment: of ours only what finds programs and libraries."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {
        **inherited,
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "TZ": "UTC",
        "LC_ALL": "C",
        **more,
    }
