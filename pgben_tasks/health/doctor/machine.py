"""Checks of this machine: its spool and its disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pgben_tasks.health.doctor.installation import Installation
from pgben_tasks.health.doctor.report import Result, Unseen, error, ok, unseen, warning
from pgben_tasks.health.facts import disks as volumes, noted_node
from pgben_tasks.language import translatable as _
from pgben_tasks.operations.spool import size_of
from pgben_tasks.runtime import swap_hooks

_PRIVATE: Final = 0o700
_KIBI: Final = 1024


def spool(installation: Installation) -> Iterator[Result]:
    """Check that dumps have a private place on this machine."""
    path = installation.settings.spool_dir
    if not path.exists():
        yield warning(
            "absent",
            _("the spool '{path}' is not there"),
            _("the first worker makes it; on a machine without workers that is well"),
            path=path,
        )
        return
    if not path.is_dir():
        yield error(
            "file",
            _("the spool '{path}' is no folder"),
            _("PGBEN_SPOOL_DIR must name a folder"),
            path=path,
        )
        return
    about = path.stat()
    wrong = False
    if about.st_mode & 0o777 != _PRIVATE:
        wrong = True
        yield error(
            "mode",
            _("the spool '{path}' has the mode {mode}"),
            _("run `chmod 700 {path}`"),
            path=path,
            mode=f"{about.st_mode & 0o777:04o}",
        )
    if about.st_uid != os.geteuid():
        wrong = True
        yield warning(
            "owner",
            _("the spool '{path}' belongs to the user {owner}, and this is {user}"),
            _("run doctor as the workers' user, or give the folder to that user"),
            path=path,
            owner=about.st_uid,
            user=os.geteuid(),
        )
    elif not os.access(path, os.W_OK | os.X_OK):
        wrong = True
        yield error(
            "denied",
            _("the spool '{path}' cannot be written"),
            _("look whether its volume is mounted read-only"),
            path=path,
        )
    if not wrong:
        yield ok(
            _("the spool '{path}' is private and has {free} free"),
            path=path,
            free=_size(shutil.disk_usage(path).free),
        )


def spool_room(installation: Installation) -> Iterator[Result]:
    """Check that the largest database fits into the spool, disk and limit."""
    path = installation.settings.spool_dir
    if not path.is_dir():
        raise Unseen(_("there is no spool"))
    largest = max((found.database_bytes for found in installation.servers.values()), default=None)
    if largest is not None:
        yield _room_for(largest, path, installation)
    yield from installation.unexamined()
    targets = installation.settings.bucket_targets()
    if targets:
        yield unseen(
            _("how large its objects are shows only in a listing of all of them"),
            _("an object larger than a pack needs its size there, others PGBEN_PACK_SIZE each"),
            targets,
        )


def _room_for(largest: int, path: Path, installation: Installation) -> Result:
    free = shutil.disk_usage(path).free
    limit = installation.settings.spool_limit
    left = free if limit is None else min(free, int(limit) - size_of(path))
    facts = {"path": path, "needed": _size(largest), "left": _size(max(left, 0))}
    if largest <= left:
        return ok(_("the largest database ({needed}) fits into the spool ({left} left)"), **facts)
    return error(
        "small",
        _("the largest database ({needed}) may not fit into the spool '{path}' ({left} left)"),
        _("make room there, use a larger volume, or raise PGBEN_SPOOL_LIMIT"),
        **facts,
    )


def node(installation: Installation) -> Iterator[Result]:
    """Check that the spool belongs to the node that the settings name."""
    named = installation.settings.node
    kept = noted_node(installation.settings)
    if kept is None:
        yield ok(_("no worker has run with this spool yet"))
    elif named is not None and named != kept:
        yield error(
            "foreign",
            _("PGBEN_NODE is '{named}', and the spool '{path}' belongs to '{kept}'"),
            _("give each node its own PGBEN_SPOOL_DIR"),
            named=named,
            kept=kept,
            path=installation.settings.spool_dir,
        )
    else:
        yield ok(_("this is the node '{node}'"), node=kept)


def hooks(installation: Installation) -> Iterator[Result]:
    """Check that the commands around a swap can be started, where swaps are made."""
    settings = installation.settings
    commands = swap_hooks(settings)
    if not (commands.has("before") or commands.has("after")):
        yield ok(_("no command runs before or after a swap"))
        return
    if settings.encryption and settings.age_identity_file is None:
        raise Unseen(
            _("no identity is set here, as is usual where nothing is restored"),
            _("run doctor where backups are restored, with PGBEN_AGE_IDENTITY_FILE"),
        )
    commands.check()
    yield ok(_("the commands around a swap can be started"))


def disks(installation: Installation) -> Iterator[Result]:
    """Check how full the disks are that pgben writes to."""
    critical = float(installation.settings.disk_critical)
    for disk in volumes(installation.settings):
        facts = {"path": disk.path, "used": f"{disk.used:.0%}", "free": _size(disk.free)}
        if disk.used >= critical:
            yield error(
                "full",
                _("{used} of the disk of '{path}' is used, PGBEN_DISK_CRITICAL is {critical}"),
                _("make room or enlarge it; never delete files of a repository by hand"),
                **facts,
                critical=f"{critical:.0%}",
            )
        else:
            yield ok(_("{used} of the disk of '{path}' is used, {free} are free"), **facts)


def _size(count: float) -> str:
    units = iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while count >= _KIBI and (larger := next(units, None)) is not None:
        count, unit = count / _KIBI, larger
    return f"{count:.1f} {unit}"
