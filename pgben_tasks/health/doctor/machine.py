"""Checks of this machine: its spool and its disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pgben_tasks.domain.space import Forecast, cause
from pgben_tasks.health.doctor.installation import Installation
from pgben_tasks.health.doctor.report import Result, Unseen, error, ok, unseen, warning
from pgben_tasks.health.facts import disks as volumes, full_history, noted_node
from pgben_tasks.health.space import forecasts, known_space, measure_here
from pgben_tasks.language import size, translatable as _
from pgben_tasks.operations.spool import size_of
from pgben_tasks.runtime import swap_hooks
from pgben_tasks.settings import Settings

_PRIVATE: Final = 0o700


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
            free=size(shutil.disk_usage(path).free),
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
    facts = {"path": path, "needed": size(largest), "left": size(max(left, 0))}
    if largest > left and (limit is None or left == free):
        # A dump is compressed, so it is only a bound; the limit alone would be kept by it.
        return warning(
            "small",
            _("the largest database ({needed}) may not fit into the spool '{path}' ({left} left)"),
            _("its dump is smaller; make room there, or use a larger volume"),
            **facts,
        )
    if largest <= left:
        return ok(_("the largest database ({needed}) fits into the spool ({left} left)"), **facts)
    return error(
        "small",
        _("the largest database ({needed}) may not fit into the spool '{path}' ({left} left)"),
        _("raise PGBEN_SPOOL_LIMIT, or set none"),
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


def space(installation: Installation) -> Iterator[Result]:
    """Check that every place has room, and will have for what comes until this time tomorrow."""
    settings, work = installation.settings, installation.work
    measured = tuple(
        measure_here(settings, node=noted_node(settings), running=(), now=datetime.now(UTC))
    )
    foretold = None
    if installation.catalog_fault is None:
        foretold = forecasts(work, now=work.database.now())
    for one in known_space(settings, foretold, measured):
        yield _of_place(one, settings)
    for path in full_history(settings, volumes(settings)):
        yield error(
            "full",
            _("the disk of '{path}' is fuller than PGBEN_DISK_CRITICAL"),
            _("make room there or enlarge it"),
            path=path,
        )


def _of_place(one: Forecast, settings: Settings) -> Result:
    needed = "" if one.tonight is None else size(one.tonight)
    facts = {
        "path": one.where,
        "used": "" if one.share is None else f"{one.share:.0%}",
        "free": size(one.free),
        "needed": needed,
    }
    if not one.critical:
        return _roomy(one, facts)
    why = cause(one)
    if why == "short":
        return error(
            "short",
            _(
                "what is due until this time tomorrow needs about {needed} by earlier nights, and "
                "'{path}' has {free} free"
            ),
            _("make room or enlarge it; docs/operations.md says how, under “The disk fills”"),
            **facts,
        )
    if why == "no_room":
        return warning(
            "no_room",
            _(
                "a restore of the largest database beside needs about {needed}, and '{path}' has "
                "{free} free"
            ),
            _("make room there before a restore, or enlarge it"),
            **facts,
        )
    return error(
        "full",
        _("{used} of '{path}' is used, PGBEN_DISK_CRITICAL is {critical}"),
        _("make room or enlarge it; never delete files of a repository by hand"),
        **facts,
        critical=f"{float(settings.disk_critical):.0%}",
    )


def _roomy(one: Forecast, facts: Mapping[str, str]) -> Result:
    if one.place == "restore":
        if one.fits is None:
            return ok(_("how much room '{path}' has for a restore beside is not known"), **facts)
        return ok(_("a restore of the largest database beside fits into '{path}'"), **facts)
    if one.used is None:
        return ok(_("how full '{path}' is is not known: no worker has measured it"), **facts)
    if one.capacity is None:
        return ok(
            _("'{path}' holds {held}; how much it may hold is not known (PGBEN_REPOSITORY_QUOTA)"),
            **facts,
            held=size(one.used),
        )
    return ok(_("{used} of '{path}' is used, {free} are free"), **facts)
