"""Restore a snapshot's objects into another bucket: select, plan, copy, finish.

Nothing that exists is replaced: the place must be empty. What a failed restore has copied stays,
for whoever looks; the original bucket is never written to. ``select`` also begins a restore in
place (``replace_objects``).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path

import structlog

from pgben_tasks.contracts import JSON, BucketRestoreRequest
from pgben_tasks.domain.bucket_plan import content_of
from pgben_tasks.domain.inventory import Entry
from pgben_tasks.domain.inventory_line import Line
from pgben_tasks.domain.selection import select as choose
from pgben_tasks.errors import IntegrityError, ObjectMissing, RestoreRefused
from pgben_tasks.operations import spool
from pgben_tasks.operations.browse_objects import open_inventory
from pgben_tasks.operations.compare_objects import batches, chosen, look, unnamed
from pgben_tasks.operations.putting_back import (
    capture_of,
    choice_of,
    manifest_of,
    once,
    opened_objects,
    put,
    require_found,
)
from pgben_tasks.operations.snapshot_files import by_pack, read_lines
from pgben_tasks.operations.survey import survey
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Bucket

log = structlog.get_logger(__name__)


def select(run: Run, tools: Toolbox) -> JSON:
    """Choose the snapshot, and check that its place is empty."""
    run.progress.begin("select")
    request = _request(run)
    surveyed = survey(tools.repository, run.target)
    wanted = run.context.get("snapshot") or request.at or request.backup
    selection = choose(surveyed.known, wanted, allow_unverified=request.allow_unverified)
    backup = selection.backup.id
    manifest = tools.repository.manifest(run.target, backup)
    into = str(run.context["into"])
    if not request.in_place:
        _require_empty(run, tools, into)
    run.ledger.keep(context={"snapshot": str(backup)}, backup=str(backup))
    log.info("backup_selected", backup=str(backup), into=into)
    return {
        "backup": str(backup),
        "into": into,
        "note": selection.note,
        "snapshot_time": manifest.snapshot_time.isoformat(),
    }


def plan(run: Run, tools: Toolbox) -> JSON:
    """Open the inventory and choose what is restored, in the order of packs."""
    manifest = manifest_of(run, tools)
    capture = capture_of(manifest)
    choice = choice_of(run)
    folder = spool.fresh(run.folder)
    run.progress.begin("plan", total=capture.objects, unit="objects")
    lines = open_inventory(tools, manifest, folder)
    objects = size = unreadable = 0
    scratch = spool.fresh(folder / "scratch")
    with spool.disk_errors(folder), (folder / "plan.jsonl").open("wb") as file:
        for line in by_pack(chosen(lines, choice), scratch):
            if line.pack is None:
                unreadable += 1
                continue
            objects += 1
            size += line.size
            file.write(line.raw)
            run.progress.advance(1)
    spool.remove(scratch)
    require_found(choice, objects + unreadable, manifest.backup)
    return {"objects": objects, "bytes": size, "not_in_snapshot": unreadable}


def copy(run: Run, tools: Toolbox) -> JSON:
    """Fetch pack after pack, check it, and store the wanted objects with all they carry."""
    manifest = manifest_of(run, tools)
    bucket = tools.other_bucket(str(run.context["into"]))
    if not bucket.exists():
        run.ledger.hold()
        bucket.create()
    run.progress.begin("copy", total=int(run.job.result["bytes"]))
    lines = read_lines(run.folder / "plan.jsonl")
    below = _request(run).put_below
    packs = 0
    with ThreadPoolExecutor(tools.limits.copy_concurrency, thread_name_prefix="put") as pool:
        for place, group in groupby(lines, key=lambda line: line.pack or ""):
            packs += 1
            entries = [line.entry() for line in group]
            with once(run.folder / "restored", place) as undone:
                if not undone:
                    run.progress.advance(sum(entry.size for entry in entries))
                    continue
                with opened_objects(run, tools, manifest, place, entries) as folder:
                    run.ledger.hold()
                    for _ in pool.map(partial(_put, run, bucket, below, folder), entries):
                        run.progress.check()
    return {"packs": packs}


def finish(run: Run, tools: Toolbox) -> JSON:
    """Fetch every restored object and compare it with the inventory, bytes and all it carries."""
    bucket = tools.other_bucket(str(run.context["into"]))
    run.progress.begin("compare", total=int(run.job.result["bytes"]))
    lines = read_lines(run.folder / "plan.jsonl")
    compared = 0
    with ThreadPoolExecutor(tools.limits.copy_concurrency, thread_name_prefix="compare") as pool:
        for batch in batches(lines, 4 * tools.limits.copy_concurrency):
            for difference in pool.map(partial(_difference, run, bucket), batch):
                run.progress.check()
                compared += 1
                if difference is not None:
                    raise IntegrityError(
                        f"a restored object differs from the snapshot: {difference}",
                        f"what was copied is in {bucket.describe()}; look at that server",
                    )
    refused: tuple[str, ...] = ()
    if _request(run).settings:
        run.ledger.hold()
        refused = bucket.apply(capture_of(manifest_of(run, tools)).settings)
    spool.remove(run.folder)
    return {"compared": compared, "settings_refused": list(refused), "state": "restored"}


def _put(run: Run, bucket: Bucket, below: str, folder: Path, entry: Entry) -> None:
    put(run, bucket, below + entry.key, entry, folder)


def _difference(run: Run, bucket: Bucket, line: Line) -> str | None:
    """Say in what the restored object differs, without naming it: keys may be personal data."""
    entry = line.entry()
    key = _request(run).put_below + entry.key
    try:
        with unnamed(key):
            there, _ = look(bucket, key)
    except ObjectMissing:
        return "it is missing"
    run.progress.advance(there.size)
    return ", ".join(content_of(entry).differs(there)) or None


def _require_empty(run: Run, tools: Toolbox, into: str) -> None:
    if into == run.target.name:
        raise RestoreRefused(
            f"'{into}' is the bucket that was backed up",
            "name another bucket for the copy, or ask for a restore in place",
        )
    bucket, below = tools.other_bucket(into), _request(run).put_below
    if bucket.exists() and next(bucket.list(below), None) is not None:
        where = f" below '{below}'" if below else ""
        raise RestoreRefused(
            f"{bucket.describe()} is not empty{where}, and nothing that exists is replaced",
            "name another bucket, or another beginning of keys",
        )


def _request(run: Run) -> BucketRestoreRequest:
    return BucketRestoreRequest.parse(run.job.request)
