"""What all embedded servers share: started on a free port, stopped, killed, started again.

The particular servers say how they are called and how to see that they answer.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pgben_tasks.embedded.child import (
    LOOPBACK,
    Child,
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


@dataclass(kw_only=True)
class EmbeddedServer(ABC):
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

    @abstractmethod
    def _command(self) -> Command:
        """Return how the server is started on its port."""

    @abstractmethod
    def _answers(self) -> bool:
        """Ask the server something that only works with its password; False while it starts."""

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._child is not None and self._child.alive

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

    def __enter__(self) -> Self:
        """Return the running server."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the server."""
        self.close()

    def _start_on_free_port(self) -> None:
        """Start on a free port; on another one when somebody was faster."""
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
    inherited = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    return {
        **inherited,
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "TZ": "UTC",
        "LC_ALL": "C",
        **more,
    }
