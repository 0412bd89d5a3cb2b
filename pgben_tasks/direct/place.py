"""Direct mode: operations with a repository, keys and a server, when everything else is lost.

Beside ``runtime`` in the layers: it builds adapters from settings. Neither Redis nor a catalog nor
a worker is ever contacted from here.
"""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from pgben_tasks import runtime
from pgben_tasks.adapters.catalog.absent import (
    AbsentLedger,
    AbsentTrail,
    ForgetfulIndex,
    ForgottenCopies,
    ForgottenWrites,
    NoWorkers,
)
from pgben_tasks.adapters.clock import SystemClock
from pgben_tasks.adapters.packs.codec import AgePackCodec
from pgben_tasks.adapters.repository.repository import StoreRepository, UnrecordedRepository
from pgben_tasks.contracts import Request
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.job import Job, JobKind
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.operations import spool
from pgben_tasks.operations.chains import first_context
from pgben_tasks.operations.toolbox import CatalogPorts, Toolbox
from pgben_tasks.settings import Settings

#: Below the spool: workers neither sweep it nor mistake it for theirs.
FOLDER = "direct"


@dataclass(frozen=True)
class DirectPlace:
    """What one command works with; parts are built when first asked for."""

    settings: Settings

    @classmethod
    def load(cls) -> Self:
        """Read the settings from the environment; raise when there are none."""
        return cls(Settings.of_installation())

    @cached_property
    def repository(self) -> StoreRepository:
        """The repository; trusted keys are enough to read it."""
        trusted, signer = runtime.trust(self.settings), runtime.signer(self.settings)
        store = runtime.open_store(self.settings)
        repository = StoreRepository.open(store, signer=signer, trust=trusted)
        if repository.may_record("full"):
            return repository
        return UnrecordedRepository.open(store, signer=signer, trust=trusted)

    @property
    def records(self) -> bool:
        """Whether what is found is signed and stored: that needs a key."""
        return self.repository.may_record("full")

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which people are told of moments."""
        return self.settings.zone

    def target_names(self) -> list[str]:
        """Every target that the repository holds."""
        return [str(target) for target in self.repository.targets()]

    def job(self, kind: JobKind, request: Request, *, target: str) -> Job:
        """Make the job of a request, from this machine's clock."""
        now = SystemClock().now()
        context = first_context(target, request, now=now.astimezone(self.zone))
        node = socket.gethostname()
        return in_process.new_job(kind, request, target=target, node=node, now=now, context=context)

    @contextmanager
    def tools(self, *targets: Target) -> Iterator[Toolbox]:
        """Yield what operations are handed; ``targets`` may be ones that are not protected here."""
        usual: Path = Settings.model_fields["spool_dir"].default
        with spool_folder(self.settings.spool_dir, usual=usual) as folder:
            tools = runtime.toolbox(
                self.settings,
                repository=self.repository,
                catalog=CatalogPorts(
                    clock=SystemClock(),
                    index=ForgetfulIndex(),
                    captures=AbsentLedger(),
                    jobs=AbsentLedger(),
                    swaps=AbsentLedger(),
                    restored=ForgottenCopies(),
                    own_writes=ForgottenWrites(),
                    workers=NoWorkers(),
                    trail=AbsentTrail(),
                ),
                spool=folder,
                node=socket.gethostname(),
                elsewhere=targets,
            )
            try:
                yield tools
            finally:
                if isinstance(tools.codec, AgePackCodec):
                    tools.codec.close()


@contextmanager
def spool_folder(wanted: Path, *, usual: Path) -> Iterator[Path]:
    """Yield a private folder for files on their way, below the spool ``wanted``.

    It lies apart from what workers have there; what commands that were killed left in it is
    removed. Where the setting was left at its ``usual`` value and that cannot be written, as on a
    machine that never was a worker, it is a temporary folder.
    """
    folder = wanted / FOLDER
    try:
        with spool.disk_errors(wanted):
            wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except ConfigurationError:
        if wanted != usual:
            raise
        with tempfile.TemporaryDirectory(prefix="pgben-direct-") as temporary:
            yield Path(temporary)
        return
    spool.sweep(folder, keep=list)
    try:
        yield folder
    finally:
        spool.sweep(folder, keep=list)
