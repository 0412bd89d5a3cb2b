"""Restore a snapshot's objects into another bucket: select, plan, copy, finish.

Nothing that exists is replaced: the place must be empty. What a failed restore has copied stays,
for whoever looks; the original bucket is never written to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

import structlog

from pgben_tasks.contracts import JSON, BucketRestoreRequest
from pgben_tasks.domain.bucket import BucketCapture
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.inventory import Entry
from pgben_tasks.domain.inventory_diff import Line
from pgben_tasks.domain.layout import inventory_of
from pgben_tasks.domain.selection import select as choose
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import (
    DigestMismatch,
    IntegrityError,
    ManifestInvalid,
    ObjectMissing,
    RestoreRefused,
)
from pgben_tasks.operations import spool
from pgben_tasks.operations.snapshot_files import by_pack, place_of, read_lines
from pgben_tasks.operations.survey import survey
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.operations.verify import condemn
from pgben_tasks.ports import Bucket

log = structlog.get_logger(__name__)

_CHUNK: Final = 1024 * 1024


def select(run: Run, tools: Toolbox) -> JSON:
    """Choose the snapshot, and check that its place is empty."""
    run.progress.begin("select")
    request = _request(run)
    surveyed = survey(tools.repository, run.target)
    wanted = request.at if request.at is not None else request.backup
    selection = choose(surveyed.known, wanted, allow_unverified=request.allow_unverified)
    chosen = selection.backup.id
    manifest = tools.repository.manifest(run.target, chosen)
    into = str(run.context["into"])
    if into == run.target.name:
        raise RestoreRefused(
            f"'{into}' is the bucket that was backed up", "name another bucket for the copy"
        )
    bucket = tools.other_bucket(into)
    if bucket.exists() and next(bucket.list(request.put_below), None) is not None:
        where = f" below '{request.put_below}'" if request.put_below else ""
        raise RestoreRefused(
            f"{bucket.describe()} is not empty{where}, and nothing that exists is replaced",
            "name another bucket, or another beginning of keys",
        )
    run.ledger.keep(context={}, backup=str(chosen))
    log.info("backup_selected", backup=str(chosen), into=into)
    return {
        "backup": str(chosen),
        "into": into,
        "note": selection.note,
        "snapshot_time": manifest.snapshot_time.isoformat(),
    }


def plan(run: Run, tools: Toolbox) -> JSON:
    """Open the inventory and choose what is restored, in the order of packs."""
    manifest = _manifest(run, tools)
    capture = _capture(manifest)
    folder = spool.fresh(run.folder)
    run.progress.begin("plan", total=capture.objects, unit="objects")
    tools.repository.fetch_inventory(manifest, folder / "inventory.sealed")
    lines = folder / "inventory.jsonl"
    found = tools.objects.open_inventory(inventory_of(manifest), folder / "inventory.sealed", lines)
    if found != capture.lines:
        raise DigestMismatch(
            f"the inventory of '{manifest.backup}' is not the one that its manifest describes",
            "restore another snapshot; `pgben verify` says more",
        )
    objects = size = unreadable = 0
    scratch = spool.fresh(folder / "scratch")
    with spool.disk_errors(folder), (folder / "plan.jsonl").open("wb") as file:
        for line in by_pack(_chosen(run, lines), scratch):
            if line.pack is None:
                unreadable += 1
                continue
            objects += 1
            size += line.size
            file.write(line.raw)
            run.progress.advance(1)
    spool.remove(scratch)
    missing = len(set(_request(run).keys)) - objects - unreadable
    if _request(run).keys and missing:
        raise RestoreRefused(
            f"{missing} of the named keys are not in snapshot '{manifest.backup}'",
            "keys are taken letter by letter; look for them in another snapshot",
        )
    return {"objects": objects, "bytes": size, "not_in_snapshot": unreadable}


def copy(run: Run, tools: Toolbox) -> JSON:
    """Fetch pack after pack, check it, and store the wanted objects with all they carry."""
    manifest = _manifest(run, tools)
    packs = {place_of(pack): pack for pack in manifest.packs}
    bucket = tools.other_bucket(str(run.context["into"]))
    if not bucket.exists():
        run.ledger.hold()
        bucket.create()
    done = run.folder / "restored"
    done.mkdir(mode=0o700, exist_ok=True)
    run.progress.begin("copy", total=int(run.job.result["bytes"]))
    lines = read_lines(run.folder / "plan.jsonl")
    with ThreadPoolExecutor(tools.limits.copy_concurrency, thread_name_prefix="put") as pool:
        for place, group in groupby(lines, key=lambda line: line.pack or ""):
            note = done / place.replace("/", "_")
            entries = [line.entry() for line in group]
            if note.exists():
                run.progress.advance(sum(entry.size for entry in entries))
                continue
            if place not in packs:
                raise ManifestInvalid(f"the inventory names the pack '{place}', the manifest not")
            folder = spool.fresh(run.folder / "objects")
            sealed = run.folder / "pack.sealed"
            wanted = sorted({entry.sha256 for entry in entries if entry.sha256})
            try:
                tools.repository.fetch_pack(packs[place], sealed, advance=_ignore)
                tools.objects.open_objects(
                    packs[place], sealed, wanted, folder, advance=lambda _size: run.progress.check()
                )
            except (DigestMismatch, ObjectMissing) as exc:
                condemn(run, tools, manifest, exc)
                raise
            run.ledger.hold()
            for _ in pool.map(partial(_put, run, bucket, folder), entries):
                run.progress.check()
            spool.write_durably(note, b"")
    spool.remove(run.folder / "objects")
    return {"packs": len(list(done.iterdir()))}


def finish(run: Run, tools: Toolbox) -> JSON:
    """Fetch every restored object and compare it with the inventory, bytes and all it carries."""
    bucket = tools.other_bucket(str(run.context["into"]))
    run.progress.begin("compare", total=int(run.job.result["bytes"]))
    lines = read_lines(run.folder / "plan.jsonl")
    compared = 0
    with ThreadPoolExecutor(tools.limits.copy_concurrency, thread_name_prefix="compare") as pool:
        for batch in _batches(lines, 4 * tools.limits.copy_concurrency):
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
        refused = bucket.apply(_capture(_manifest(run, tools)).settings)
    spool.remove(run.folder)
    return {"compared": compared, "settings_refused": list(refused), "state": "restored"}


def _put(run: Run, bucket: Bucket, folder: Path, entry: Entry) -> None:
    bucket.put(
        _request(run).put_below + entry.key,
        _read(run, folder / str(entry.sha256)),
        size=entry.size,
        headers=entry.headers,
        metadata=entry.metadata,
        tags=entry.tags,
    )


def _read(run: Run, path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
            run.progress.advance(len(chunk))


def _difference(run: Run, bucket: Bucket, line: Line) -> str | None:
    """Say in what the restored object differs, without naming it: keys may be personal data."""
    entry = line.entry()
    key = _request(run).put_below + entry.key
    digest = hashlib.sha256()
    try:
        with bucket.fetch(key) as got:
            for chunk in got.chunks:
                digest.update(chunk)
                run.progress.advance(len(chunk))
            facts = got.facts
    except ObjectMissing:
        return "it is missing"
    tags = bucket.tags(key) if entry.tags else {}
    pairs = (
        ("bytes", digest.hexdigest(), entry.sha256),
        ("size", facts.size, entry.size),
        ("metadata", dict(facts.metadata), entry.metadata),
        ("tags", tags, entry.tags),
    )
    # A server may add a content type of its own where there was none.
    headers = {name: value for name, value in facts.headers.items() if name in entry.headers}
    differing = [
        name for name, now, then in (*pairs, ("headers", headers, entry.headers)) if now != then
    ]
    return ", ".join(differing) or None


def _chosen(run: Run, lines: Path) -> Iterator[Line]:
    request = _request(run)
    keys = set(request.keys)
    for line in read_lines(lines):
        if (not keys or line.key in keys) and line.key.startswith(request.prefix):
            yield line


def _batches(lines: Iterator[Line], size: int) -> Iterator[list[Line]]:
    batch: list[Line] = []
    for line in lines:
        batch.append(line)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _request(run: Run) -> BucketRestoreRequest:
    return BucketRestoreRequest.parse(run.job.request)


def _manifest(run: Run, tools: Toolbox) -> Manifest:
    return tools.repository.manifest(run.target, BackupId.parse(run.job.backup or ""))


def _capture(manifest: Manifest) -> BucketCapture:
    if manifest.bucket is None:
        raise ManifestInvalid(f"'{manifest.target}' is no bucket", "name a snapshot of a bucket")
    return manifest.bucket


def _ignore(_amount: int) -> None:
    """Count nothing: the objects' own bytes are the progress."""
