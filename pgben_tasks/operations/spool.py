"""The spool: one folder per job, private, with room checked before it is needed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID, uuid4

from pgben_tasks.domain.space import Usage, tighter
from pgben_tasks.errors import PermanentError, SpoolFull, TargetBusy
from pgben_tasks.files import disk
from pgben_tasks.files.durable import durable_file

_LOCK_SUFFIX = ".lock"

disk_errors = disk.disk_errors


def job_folder(spool: Path, job: UUID) -> Path:
    """Name the folder of one job."""
    return spool / "jobs" / str(job)


@contextmanager
def passing_folder(spool: Path) -> Iterator[Path]:
    """Yield a private folder that vanishes with the block; what a kill leaves, a sweep removes."""
    folder = job_folder(spool, uuid4())
    with occupied(folder):
        try:
            yield fresh(folder)
        finally:
            _remove_locked(folder)


def fresh(folder: Path) -> Path:
    """Make ``folder`` empty and private."""
    with disk_errors(folder):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, mode=0o700)
    return folder


def remove(folder: Path) -> None:
    """Remove a folder and all below it; one that is not there is no error."""
    with disk_errors(folder):
        if folder.exists():
            shutil.rmtree(folder)


def ensure_room(spool: Path, needed: int, *, limit: int | None, what: str) -> None:
    """Raise ``SpoolFull`` unless ``needed`` bytes fit on the disk and under ``limit``."""
    with disk_errors(spool):
        spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(spool, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        free = shutil.disk_usage(spool).free
    if needed > free:
        raise SpoolFull(
            f"the spool '{spool}' has {free:,} bytes free, {what} needs about {needed:,}",
            disk.NO_ROOM_HINT,
        )
    if limit is not None:
        keep_limit(spool, needed, limit=limit, what=what)


def keep_limit(spool: Path, needed: int, *, limit: int, what: str) -> None:
    """Raise ``SpoolFull`` unless the spool stays under ``limit`` with ``needed`` bytes more."""
    used = size_of(spool)
    if used + needed > limit:
        raise SpoolFull(
            f"the spool '{spool}' holds {used:,} bytes, {what} needs about {needed:,} more, "
            f"PGBEN_SPOOL_LIMIT allows {limit:,}",
            "raise PGBEN_SPOOL_LIMIT or wait for other jobs to end",
        )


def usage(spool: Path, *, limit: int | None, running: Iterable[UUID] = ()) -> Usage:
    """Return how full the spool is, by its volume and by ``limit``.

    What jobs hold that are ``running`` will be given back. A spool that is not there yet is
    measured where it would be made.
    """
    with disk_errors(spool):
        there = next(one for one in (spool, *spool.absolute().parents) if one.exists())
        volume = shutil.disk_usage(there)
    return tighter(
        # What is kept for root is no room for anybody else.
        Usage(used=volume.used, capacity=volume.used + volume.free),
        held=0 if limit is None else size_of(spool),
        passing=sum(size_of(job_folder(spool, job)) for job in running),
        limit=limit,
    )


def jobs(spool: Path) -> list[UUID]:
    """Return the jobs that have a folder in the spool, ended ones that left it included."""
    found = []
    with disk_errors(spool):
        for one in (spool / "jobs").glob("*"):
            # Locks lie beside the folders, and a stranger may have put anything there.
            with suppress(ValueError):
                found.append(UUID(one.name))
    return found


def size_of(folder: Path) -> int:
    """Count the bytes of all files below ``folder``; files that vanish meanwhile count nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


def sweep(spool: Path, *, keep: Callable[[], Iterable[UUID]]) -> int:
    """Remove the folders of jobs that ``keep`` does not name; returns how many.

    ``keep`` is asked after the folders were listed: a job is in the ledger before it has a folder,
    so one that begins meanwhile is either not listed or kept.
    """
    folder = spool / "jobs"
    with disk_errors(spool):
        names = {entry.name.removesuffix(_LOCK_SUFFIX) for entry in folder.glob("*")}
    gone = 0
    for name in sorted(names - {str(job) for job in keep()} if names else ()):
        try:
            with occupied(folder / name):
                # Asked again under the lock: the job may have been queued anew meanwhile.
                if name not in {str(job) for job in keep()}:
                    gone += _remove_locked(folder / name)
        except TargetBusy:
            continue
    return gone


def _remove_locked(folder: Path) -> int:
    """Remove a folder whose lock is held, then the lock; say whether there was a folder."""
    there = folder.is_dir()
    remove(folder)
    folder.with_name(folder.name + _LOCK_SUFFIX).unlink(missing_ok=True)
    return int(there)


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file so that it is there whole after a crash, or not at all."""
    with disk_errors(path.parent), durable_file(path) as file:
        file.write(data)


def read(path: Path) -> bytes:
    """Read a small file that an earlier step left; ``PermanentError`` when it is gone."""
    with disk_errors(path.parent):
        try:
            return path.read_bytes()
        except FileNotFoundError as exc:
            raise PermanentError(
                f"the spool no longer holds '{path.name}', which an earlier step wrote",
                "PGBEN_SPOOL_DIR must outlive the worker; the next attempt starts from the dump",
            ) from exc


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Hold a job's folder against another process of this machine; ``TargetBusy`` when it is held.

    A step that was cut off from the catalog may still be writing when its successor arrives here.
    """
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = folder.with_name(folder.name + _LOCK_SUFFIX).open("w", encoding="utf-8")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TargetBusy(
                f"the spool folder '{folder.name}' is still used by an earlier step",
                "it is tried again shortly",
            ) from exc
        # A sweep that ended between our opening and our locking took the file away.
        if not _is_at(lock.fileno(), folder.with_name(folder.name + _LOCK_SUFFIX)):
            raise TargetBusy(
                f"the spool folder '{folder.name}' was just swept", "it is tried again shortly"
            )
        yield


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (
        os.fstat(descriptor).st_dev,
        os.fstat(descriptor).st_ino,
    )
