"""The nightly chain of a bucket: snapshot, copy, checksum, upload, (prune, record).

Each function is one step. What they leave for each other lies in the job's folder of the spool:
``previous.jsonl`` (the inventory before), ``carried.jsonl`` and ``wanted.jsonl`` (what the listing
says beside it), ``done/`` and ``notes/`` (entries and packs that are stored), ``inventory.jsonl``
with its sealed form, ``capture.json``, ``manifest.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

import structlog

from pgben_tasks.contracts import JSON, MOST_KEYS
from pgben_tasks.domain.acknowledged import digest_of
from pgben_tasks.domain.bucket import BucketCapture, BucketSettings
from pgben_tasks.domain.documents import Manifest, Pack
from pgben_tasks.domain.inventory_diff import (
    Carried,
    Gone,
    Totals,
    compare,
    is_refreshed,
    mass_change,
    vacating,
)
from pgben_tasks.domain.layout import inventory_of, inventory_path
from pgben_tasks.domain.shard import PACKS_EACH, Counts
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import ConfigurationError, IntegrityError, ListingUnordered, ObjectMissing
from pgben_tasks.operations import committing, sharding, spool
from pgben_tasks.operations.copying import Want, copy_wanted, known_places, wants_in
from pgben_tasks.operations.journal import LocalJournal
from pgben_tasks.operations.snapshot_files import Lines, merged, place_of, read_lines
from pgben_tasks.operations.survey import Survey, survey
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Bucket, ListedObject

log = structlog.get_logger(__name__)

#: On so many objects it is tried whether the server knows tags: one may just have gone.
_TRIES: Final = 5


def snapshot(run: Run, tools: Toolbox) -> JSON:
    """List the bucket under a new backup id, and compare it with the snapshot before."""
    if run.target not in tools.buckets:
        raise ConfigurationError(
            f"the secret key for the server of '{run.target}' is not at hand here",
            "set PGBEN_MINIO_SECRET_KEY on workers that back up buckets",
        )
    bucket = tools.buckets[run.target]
    run.progress.begin("preflight")
    tools.repository.check_place()
    if not bucket.exists():
        raise ConfigurationError(
            f"{bucket.describe()} does not exist", "correct PGBEN_BUCKETS, or make the bucket"
        )
    if tools.objects.sealed and not tools.objects.can_open_inventories():
        raise ConfigurationError(
            "no identity for inventories is at hand, so the next snapshot could not be compared",
            "set PGBEN_INVENTORY_IDENTITY_FILE on workers that back up buckets",
        )
    folder = spool.fresh(run.folder)
    started = tools.clock.now()
    backup = BackupId.make(started, tools.suffix())
    run.ledger.keep(context={"started": started.isoformat()}, backup=str(backup))
    surveyed = survey(tools.repository, run.target)
    before = _previous(run, tools, surveyed)
    avoid = _with_findings(surveyed) | _vacated(tools, folder, before)
    settings = bucket.settings()
    run.progress.begin("list", unit="objects")
    listing_started = tools.clock.now()
    totals = _compare(run, tools, bucket, avoid=avoid)
    keeps_tags = _keeps_tags(run, bucket)
    if not keeps_tags:
        settings = settings.model_copy(update={"unknown": (*settings.unknown, "object tags")})
    spool.write_durably(folder / "settings.json", settings.encode())
    log.info("bucket_listed", backup=str(backup), objects=totals.listed, wanted=totals.wanted)
    return {
        "compared_with": None if before is None else before.backup,
        "listing_started": listing_started.isoformat(),
        "listing_ended": tools.clock.now().isoformat(),
        "listed": totals.listed,
        "carried": totals.carried,
        "wanted": totals.wanted,
        "gone": totals.gone,
        "avoided": sorted(avoid),
        "keeps_tags": keeps_tags,
        "suspect": mass_change(
            totals, tools.limits.suspect_changed, expected=_own_changes(run, tools, before)
        ),
    }


def copy(run: Run, tools: Toolbox) -> JSON:
    """Fetch what is wanted into packs and store them; goes on where an earlier run ended."""
    wanted = run.folder / "wanted.jsonl"
    run.progress.begin("copy", total=sum(want.size for want in wants_in(wanted)))
    counts = None if run.sharing is None else sharding.copy_together(run, tools, run.sharing)
    if counts is None:
        counts = _copy_alone(run, tools, wanted)
    return {"fetched": counts.fetched, "vanished": counts.vanished, "failed": counts.failed}


def _copy_alone(run: Run, tools: Toolbox, wanted: Path) -> Counts:
    journal = LocalJournal(run.folder)
    with closing(tools.object_packs.index(run.folder / "known.sqlite")) as known:
        known.fill(known_places(run, [*journal.files(), run.folder / "previous.jsonl"]))
        return copy_wanted(
            run,
            tools,
            wanted,
            journal,
            folder=run.folder,
            known=known,
            numbers=range(1, PACKS_EACH),
        )


def checksum(run: Run, tools: Toolbox) -> JSON:
    """Join what was carried over and what was fetched to the inventory, judge it, seal it."""
    scratch = spool.fresh(run.folder / "scratch")
    parts = [run.folder / "carried.jsonl", *LocalJournal(run.folder).files()]
    run.progress.begin("inventory", unit="objects")
    objects = size = unreadable = 0
    tags_as_of: str | None = None
    used: set[str] = set()
    lost: list[str] = []
    lines_file = run.folder / "inventory.jsonl"
    with spool.disk_errors(run.folder), lines_file.open("wb") as file:
        lines_file.chmod(0o600)
        lines = Lines(file)
        for line in merged(parts, scratch):
            lines.add(line)
            if line.pack is None:
                unreadable += 1
                lost.extend([digest_of(line.key)] if unreadable <= MOST_KEYS else ())
                continue
            objects += 1
            size += line.size
            used.add(line.pack)
            if line.tags_at is not None and (tags_as_of is None or line.tags_at < tags_as_of):
                tags_as_of = line.tags_at
    spool.remove(scratch)
    path = inventory_path(run.target, committing.backup_id(run), sealed=tools.objects.sealed)
    sealed = tools.objects.seal_inventory(lines_file, run.folder / path.rpartition("/")[2])
    if sealed.plain != lines.sha256:
        raise IntegrityError(
            "the inventory was changed between being written and being sealed",
            "something changed the spool while the backup ran; start the backup again",
        )
    settings = spool.read(run.folder / "settings.json")
    result = run.job.result
    capture = BucketCapture.model_validate(
        {
            "bucket": run.target.name,
            "listing_started": result["listing_started"],
            "listing_ended": result["listing_ended"],
            "objects": objects,
            "bytes": size,
            "carried": result["carried"],
            "fetched": result["fetched"],
            "gone": result["gone"],
            "unreadable": unreadable,
            "inventory": sealed.sha256,
            "inventory_size": sealed.size,
            "lines": sealed.plain,
            "tags_as_of": tags_as_of,
            "settings": BucketSettings.decode(settings, where="settings.json"),
        },
        strict=False,
    )
    spool.write_durably(run.folder / "capture.json", capture.encode())
    spool.write_durably(run.folder / "used.txt", "".join(f"{p}\n" for p in sorted(used)).encode())
    suspect = result["suspect"]
    if suspect:
        log.warning("backup_suspected", reason=suspect)
    return {
        "objects": objects,
        "bytes": size,
        "unreadable": unreadable,
        "unreadable_keys": lost if unreadable <= MOST_KEYS else None,
    }


def upload(run: Run, tools: Toolbox) -> JSON:
    """Store the inventory and commit: the snapshot exists when this returns."""

    def make() -> Manifest:
        backup = committing.backup_id(run)
        capture = BucketCapture.decode(
            spool.read(run.folder / "capture.json"), where="capture.json"
        )
        name = inventory_path(run.target, backup, sealed=tools.objects.sealed).rpartition("/")[2]
        run.progress.begin("upload", total=capture.inventory_size)
        tools.repository.store_inventory(run.target, backup, run.folder / name)
        return committing.manifest(
            run,
            tools,
            _packs(run, tools),
            programs={},
            suspect=run.job.result.get("suspect"),
            bucket=capture,
        )

    return committing.commit(run, tools, make)


def _keeps_tags(run: Run, bucket: Bucket) -> bool:
    """Say whether the server knows tags; a server that lacks them answers nonsense for each."""
    for want in islice(wants_in(run.folder / "wanted.jsonl"), _TRIES):
        try:
            return bucket.keeps_tags(want.key)
        except ObjectMissing:
            continue
    return True


def _previous(run: Run, tools: Toolbox, surveyed: Survey) -> Manifest | None:
    """Bring the newest inventory that opens to the spool; None where there is none."""
    lines = run.folder / "previous.jsonl"
    lines.touch(mode=0o600)
    for one in surveyed.backups:
        manifest = one.manifest
        if manifest.bucket is None:
            continue
        sealed = run.folder / "previous.sealed"
        try:
            tools.repository.fetch_inventory(manifest, sealed)
            digest = tools.objects.open_inventory(inventory_of(manifest), sealed, lines)
        except (IntegrityError, ObjectMissing) as exc:
            # Everything is fetched anew, or compared with an older one: it costs time, no object.
            log.warning("inventory_unusable", backup=manifest.backup, why=exc.sentence)
            continue
        finally:
            sealed.unlink(missing_ok=True)
        if digest == manifest.bucket.lines:
            return manifest
        log.warning("inventory_unusable", backup=manifest.backup, why="its lines are others")
    spool.write_durably(lines, b"")
    return None


def _own_changes(run: Run, tools: Toolbox, before: Manifest | None) -> int:
    """Count what restores in place changed since the listing that this one is compared with."""
    if before is None or before.bucket is None:
        return 0
    return tools.own_writes.since(run.target, before.bucket.listing_started)


def _with_findings(surveyed: Survey) -> frozenset[str]:
    """Name the packs that something was ever found in: nothing is inherited from them."""
    return frozenset(
        "/".join(finding.path.split("/")[3:])
        for one in surveyed.backups
        for statement in one.statements
        for finding in statement.findings
        if finding.path.startswith("packs/")
    )


def _vacated(tools: Toolbox, folder: Path, before: Manifest | None) -> frozenset[str]:
    if before is None:
        return frozenset()
    packs = {place_of(pack): pack.size for pack in before.packs}
    lines = read_lines(folder / "previous.jsonl")
    return vacating(lines, packs, share=tools.limits.vacate_share)


def _compare(run: Run, tools: Toolbox, bucket: Bucket, *, avoid: frozenset[str]) -> Totals:
    """Compare the listing with the inventory before, sorting it first where that is needed."""
    try:
        return _write_down(run, tools, bucket.list(), avoid=avoid)
    except ListingUnordered:
        log.info("listing_sorted", bucket=bucket.name)
        with tools.sort_listing(bucket.list(), run.folder) as listing:
            return _write_down(run, tools, listing, avoid=avoid)


def _write_down(
    run: Run, tools: Toolbox, listing: Iterator[ListedObject], *, avoid: frozenset[str]
) -> Totals:
    """Write down what is carried over and what is wanted."""
    totals = Totals()
    night = tools.clock.now().toordinal()
    folder = run.folder
    with (
        spool.disk_errors(folder),
        (folder / "carried.jsonl").open("wb") as carried,
        (folder / "wanted.jsonl").open("wb") as wanted,
    ):
        previous = read_lines(folder / "previous.jsonl")
        for change in compare(listing, previous, avoid=avoid):
            totals.count(change)
            if isinstance(change, Gone):
                continue
            run.progress.advance(1)
            if isinstance(change, Carried):
                line = change.line
                if is_refreshed(line.key, night, tools.limits.refresh_share):
                    wanted.write(Want(key=line.key, size=0, line=line.raw.decode()).encode())
                    totals.refreshed += 1
                else:
                    carried.write(line.raw)
            else:
                listed = change.listed
                wanted.write(Want(key=listed.key, size=listed.size).encode())
            if totals.listed % 1000 == 0:
                run.progress.check()
    return totals


def _packs(run: Run, tools: Toolbox) -> tuple[Pack, ...]:
    """Describe every pack that the inventory refers to, inherited ones as their manifests do."""
    used = spool.read(run.folder / "used.txt").decode().split()
    known: dict[str, Pack] = {}
    compared_with = run.job.result["compared_with"]
    if compared_with is not None:
        before = tools.repository.manifest(run.target, BackupId.parse(compared_with))
        known |= {place_of(pack): pack for pack in before.packs}
    known |= {place_of(pack): pack for pack in LocalJournal(run.folder).packs()}
    missing = [place for place in used if place not in known]
    if missing:
        raise IntegrityError(
            f"the inventory names the pack '{missing[0]}', which nobody stored",
            "this attempt is void; the next makes a new snapshot",
        )
    return tuple(sorted((known[place] for place in used), key=lambda pack: pack.path))
