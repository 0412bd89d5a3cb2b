"""The plan of a restore in place: what differs between the live bucket and the snapshot.

In the job's folder: ``inventory.jsonl`` (the snapshot's lines), ``plan.jsonl`` (what is written,
pack after pack), ``extra.jsonl``, and ``kept/`` (which versions lie aside).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

import structlog

from pgben_tasks.contracts import JSON, BucketRestoreRequest
from pgben_tasks.domain.buckets.capture import BucketCapture
from pgben_tasks.domain.buckets.restore_plan import Planned, PlanTotals, Verdict, planned
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets.browse import open_inventory
from pgben_tasks.operations.buckets.compare import batches, compare_live
from pgben_tasks.operations.buckets.restoring import (
    capture_of,
    choice_of,
    manifest_of,
    require_found,
)
from pgben_tasks.operations.buckets.uploads import give_up_uploads
from pgben_tasks.operations.snapshot_files import by_pack, read_lines
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Bucket

log = structlog.get_logger(__name__)

#: Extra objects are deleted in groups of so many.
_GROUP: Final = 1000

#: A name that a file may have, and the objects: those of one pack, or some extra ones.
Group = tuple[str, list[Planned]]


def plan(run: Run, tools: Toolbox) -> JSON:
    """Compare the live bucket with the snapshot, and write down what is to be done."""
    # The notes of an attempt before go with its folder.
    give_up_uploads(run.folder, tools.other_bucket)
    manifest = manifest_of(run, tools)
    folder = spool.fresh(run.folder)
    inventory = open_inventory(tools, manifest, folder).replace(folder / "inventory.jsonl")
    totals = PlanTotals()
    scratch = spool.fresh(folder / "scratch")
    unsorted = scratch / "unsorted.jsonl"
    run.progress.begin("plan", unit="objects")
    with (
        spool.disk_errors(folder),
        unsorted.open("wb") as written,
        (folder / "extra.jsonl").open("wb") as extra,
    ):
        for verdict in verdicts(run, tools, capture_of(manifest), inventory):
            totals.count(verdict)
            line = planned(verdict)
            if line is not None:
                (extra if line.found == "extra" else written).write(line.raw())
    with spool.disk_errors(folder), (folder / "plan.jsonl").open("wb") as file:
        file.writelines(line.raw for line in by_pack(read_lines(unsorted), scratch))
    spool.remove(scratch)
    require_found(
        choice_of(run),
        readable=totals.readable,
        unreadable=totals.of("unreadable"),
        backup=manifest.backup,
    )
    log.info("restore_planned", **totals.objects)
    return {
        "objects": totals.readable,
        "bytes": totals.size("missing", "differing"),
        "missing": totals.of("missing"),
        "differing": totals.of("differing"),
        "tags_differing": totals.of("tags"),
        "already_same": totals.of("same"),
        "extra": totals.of("extra"),
        "not_in_snapshot": totals.of("unreadable"),
    }


def verdicts(
    run: Run, tools: Toolbox, capture: BucketCapture, inventory: Path
) -> Iterator[Verdict]:
    """Yield of every chosen key how it is now beside the snapshot's lines."""
    scratch = spool.fresh(run.folder / "listing")
    live, choice = live_bucket(run, tools), choice_of(run)
    for verdict in compare_live(tools, live, capture, inventory, choice, scratch):
        run.progress.advance(1)
        run.progress.check()
        yield verdict
    spool.remove(scratch)


def groups(run: Run) -> Iterator[Group]:
    """Yield all that is to be changed."""
    yield from planned_groups(run)
    yield from extra_groups(run)


def planned_groups(run: Run) -> Iterator[Group]:
    """Yield the objects that are to be written, pack after pack."""
    lines = read_lines(run.folder / "plan.jsonl")
    for place, group in groupby(lines, key=lambda line: line.pack or ""):
        yield place.replace("/", "_"), [Planned.read(line) for line in group]


def extra_groups(run: Run) -> Iterator[Group]:
    """Yield the extra objects that are to be deleted; none unless that was asked for."""
    if not BucketRestoreRequest.parse(run.job.request).delete_extra:
        return
    lines = read_lines(run.folder / "extra.jsonl")
    for number, batch in enumerate(batches(lines, _GROUP), start=1):
        yield f"extra-{number}", [Planned.read(line) for line in batch]


def keep_marks(run: Run, name: str, marks: dict[str, str | None]) -> None:
    """Note which versions of a group's objects lie aside, by key."""
    folder = run.folder / "kept"
    folder.mkdir(mode=0o700, exist_ok=True)
    spool.write_durably(folder / name, json.dumps(marks).encode())


def kept_marks(run: Run, name: str) -> dict[str, str | None]:
    """Return which versions of a group's objects lie aside, by key; None: there was no object."""
    marks: dict[str, str | None] = json.loads(spool.read(run.folder / "kept" / name))
    return marks


def live_bucket(run: Run, tools: Toolbox) -> Bucket:
    """Return the bucket that is written to, which need not be a protected one."""
    return tools.other_bucket(str(run.context["into"]))
