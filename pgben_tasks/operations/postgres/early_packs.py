"""Sealing and storing finished files of a dump while pg_dump still writes the others.

It only saves time. What it does not get to, because files came too late or the store was slow or
away, the later steps do. Nothing of it is part of a backup before the commit: packs of a dump that
failed are left-overs, which the sweep removes.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from pgben_tasks.domain.documents import Pack
from pgben_tasks.domain.packing import EarlyPlan, FinishedFile, early_plans
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import IntegrityError, PgbenError, TransientError
from pgben_tasks.operations.postgres import packs
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)

#: inode, size, time of the last change in nanoseconds
_Stamp = tuple[int, int, int]


class EarlyPacks:
    """Packs files that pg_dump has finished, some packs at a time, until its block ends.

    When the block ends well, packs that were begun are finished, and every file must still look as
    it did before it was packed (``IntegrityError``). When it fails, everything is given up at once.
    """

    def __init__(self, run: Run, tools: Toolbox, backup: BackupId, *, compressed: bool) -> None:
        """Pack files of ``run``'s dump for ``backup``; ``compressed`` packs are zstd streams."""
        self._run = run
        self._tools = tools
        self._backup = backup
        self._compressed = compressed
        self._source = run.folder / "dump"
        self._waiting: list[FinishedFile] = []
        self._stamps: dict[str, _Stamp] = {}
        self._planned = 0
        self._begun: list[Future[None]] = []
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(packs.PACKS_IN_FLIGHT, thread_name_prefix="early")

    def __enter__(self) -> Self:
        """Begin."""
        packs.make_folder(self._run)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish what was begun, or give it up when the block failed."""
        if error is not None:
            self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for one in self._begun:
            if not one.cancelled() and (surprise := one.exception()) is not None:
                # A fault of ours; the pack is made again later, so it must not cost the dump.
                log.error("early_packing_surprised", exc_info=surprise)
        if error is None:
            self._require_unchanged()

    def take(self, name: str) -> None:
        """Pack the file ``name``, which pg_dump has finished, when enough others are."""
        try:
            stamp = _stamp(self._source / name)
        except FileNotFoundError:
            # Whatever that was, the later steps look at every file that there is.
            return
        self._stamps[name] = stamp
        self._waiting.append(FinishedFile(name=name, size=stamp[1]))
        for plan in self._plan(at_least=self._tools.limits.early_size):
            self._begun.append(self._pool.submit(self._pack, plan))

    def finish(self) -> None:
        """Pack what a dump that has ended left over, when it is little and packs are on their way.

        More than that is for the upload step, which survives the loss of its worker without
        another dump.
        """
        names = {path.name for path in self._source.iterdir()}
        rest = names - self._stamps.keys() | {file.name for file in self._waiting}
        stamps = {name: _stamp(self._source / name) for name in rest}
        little = sum(size for _, size, _ in stamps.values()) < self._tools.limits.early_size
        flowing = sum(not one.done() for one in self._begun) < packs.PACKS_IN_FLIGHT
        if self._planned and little and flowing:
            self._stamps |= stamps
            self._waiting = [FinishedFile(name=name, size=stamps[name][1]) for name in sorted(rest)]
            for plan in self._plan(at_least=0):
                self._pack(plan)

    def _plan(self, *, at_least: int) -> tuple[EarlyPlan, ...]:
        """Return packs for the waiting files, once they are ``at_least`` so many bytes."""
        plans = early_plans(
            self._run.target,
            self._backup,
            self._waiting,
            compressed=self._compressed,
            sealed=bool(self._tools.codec.recipients),
            pack_size=self._tools.limits.pack_size,
            early_size=at_least,
            first=self._planned + 1,
        )
        if plans:
            self._waiting.clear()
            self._planned += len(plans)
        return plans

    def _pack(self, plan: EarlyPlan) -> None:
        if self._stopped.is_set():
            return

        def seal(destination: Path) -> Pack:
            return self._tools.codec.seal_early(
                plan, self._source, destination, advance=self._advance
            )

        try:
            pack = packs.seal_noted(self._run, plan.path, seal)
            packs.store_sealed(self._run, self._tools, pack, advance=self._advance)
        except PgbenError as exc:
            # A store that is away must not end a dump; the upload step meets it again.
            self._stopped.set()
            log.warning("early_packing_stopped", pack=plan.path, why=exc.sentence)

    def _advance(self, _amount: int) -> None:
        """Raise when the job or the dump was given up; the dump's own bytes are the progress."""
        self._run.progress.check()
        if self._stopped.is_set():
            raise TransientError("packing was given up")

    def _require_unchanged(self) -> None:
        for name, stamp in self._stamps.items():
            if _stamp(self._source / name) != stamp:
                raise IntegrityError(
                    f"'{name}' was changed after pg_dump had finished it",
                    "this attempt is void; the next makes a new dump",
                )


def _stamp(path: Path) -> _Stamp:
    found = path.stat(follow_symlinks=False)
    return found.st_ino, found.st_size, found.st_mtime_ns
