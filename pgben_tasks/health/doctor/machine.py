"""Checks of this machine: its spool and its disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pgben_tasks.health import situation
from pgben_tasks.health.doctor.patient import Patient
from pgben_tasks.health.doctor.report import Finding, Unseen, error, ok, warning
from pgben_tasks.operations.spool import size_of

_PRIVATE: Final = 0o700
_KIBI: Final = 1024


def spool(patient: Patient) -> Iterator[Finding]:
    """Look whether dumps have a private place on this machine, with room for the largest."""
    path = patient.settings.spool_dir
    if not path.exists():
        yield warning("absent", path=path)
        return
    if not path.is_dir():
        yield error("file", path=path)
        return
    about = path.stat()
    wrong = False
    if about.st_mode & 0o777 != _PRIVATE:
        wrong = True
        yield error("mode", path=path, mode=f"{about.st_mode & 0o777:04o}")
    if about.st_uid != os.geteuid():
        wrong = True
        yield warning("owner", path=path, owner=about.st_uid, user=os.geteuid())
    elif not os.access(path, os.W_OK | os.X_OK):
        wrong = True
        yield error("denied", path=path)
    if not wrong:
        yield ok(path=path, free=_size(shutil.disk_usage(path).free))


def spool_room(patient: Patient) -> Iterator[Finding]:
    """Look whether the largest database fits into the spool, disk and limit."""
    path = patient.settings.spool_dir
    if not path.is_dir():
        raise Unseen("spool")
    largest = max(found.database_bytes for found in patient.servers.values())
    free = shutil.disk_usage(path).free
    limit = patient.settings.spool_limit
    left = free if limit is None else min(free, int(limit) - size_of(path))
    facts = {"path": path, "needed": _size(largest), "left": _size(max(left, 0))}
    yield ok(**facts) if largest <= left else error("small", **facts)


def node(patient: Patient) -> Iterator[Finding]:
    """Look whether the spool belongs to the node that the settings name."""
    note = patient.settings.spool_dir / "node"
    wanted = patient.settings.node
    kept = _read(note)
    if kept is None:
        yield ok("new")
    elif wanted is not None and wanted != kept:
        yield error("foreign", wanted=wanted, kept=kept, path=patient.settings.spool_dir)
    else:
        yield ok(node=kept)


def disks(patient: Patient) -> Iterator[Finding]:
    """Look how full the disks are that pgben writes to."""
    critical = float(patient.settings.disk_critical)
    for disk in situation.disks(patient.settings):
        facts = {"path": disk.path, "used": f"{disk.used:.0%}", "free": _size(disk.free)}
        if disk.used >= critical:
            yield error("full", **facts, critical=f"{critical:.0%}")
        else:
            yield ok(**facts)


def _read(note: Path) -> str | None:
    return note.read_text(encoding="utf-8").strip() if note.exists() else None


def _size(count: float) -> str:
    units = iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while count >= _KIBI and (larger := next(units, None)) is not None:
        count, unit = count / _KIBI, larger
    return f"{count:.1f} {unit}"
