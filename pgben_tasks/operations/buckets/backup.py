"""The nightly chain of a bucket: snapshot, copy, checksum, upload, (prune, record).

Each function is one step. What they leave for each other lies in the job's folder of the spool:
``previous.jsonl`` (the inventory before), ``carried.jsonl`` and ``wanted.jsonl`` (what the listing
says beside it), ``done/`` and ``notes/`` (entries and packs that are stored), ``inventory.jsonl``
with its sealed form, ``capture.json``, ``manifest.json``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from pgben_tasks.contracts import JSON, MOST_KEYS
from pgben_tasks.domain.buckets.acknowledged import digest_of
from pgben_tasks.domain.buckets.capture import OBJECT_TAGS, BucketCapture, BucketSettings
from pgben_tasks.domain.buckets.diff import mass_change
from pgben_tasks.domain.buckets.inventory import read_since
from pgben_tasks.domain.buckets.shard import PACKS_EACH, Counts
from pgben_tasks.domain.documents import CHAINED_STATEMENTS, Manifest, Pack
from pgben_tasks.domain.layout import inventory_path
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import ConfigurationError, IntegrityError
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets import sharding
from pgben_tasks.operations.buckets.changes import (
    avoided,
    own_changes,
    previous,
    tries_tags,
    write_changes,
)
from pgben_tasks.operations.buckets.copying import copy_wanted, known_places
from pgben_tasks.operations.buckets.journal import LocalJournal
from pgben_tasks.operations.buckets.tags import refresh_tags
from pgben_tasks.operations.repository import commit as committing
from pgben_tasks.operations.repository.survey import survey
from pgben_tasks.operations.room import require_room
from pgben_tasks.operations.snapshot_files import Lines, merged, place_of, read_to_fetch
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)


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
    require_room(run, tools)
    started = tools.clock.now()
    backup = BackupId.make(started, tools.suffix())
    run.ledger.keep(context={"started": started.isoformat()}, backup=str(backup))
    surveyed = survey(tools.repository, run.target)
    before = previous(run, tools, surveyed)
    avoid = avoided(run, tools, surveyed, before)
    # As many as there were the last time, until the listing says otherwise.
    run.progress.begin("list", total=None if before is None else before.objects, unit="objects")
    listing_started = tools.clock.now()
    with ThreadPoolExecutor(1, thread_name_prefix="settings") as beside:
        asked = beside.submit(bucket.settings)
        previous_at = None if before is None else before.snapshot_time
        totals = write_changes(run, bucket, avoid=avoid, previous_at=previous_at)
        settings = asked.result()
    keeps_tags = tries_tags(run, bucket)
    if not keeps_tags:
        settings = settings.model_copy(update={"unknown": (*settings.unknown, OBJECT_TAGS)})
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
        "avoided": sorted(avoid.all),
        "keeps_tags": keeps_tags,
        "suspect": mass_change(
            totals, tools.limits.suspect_changed, expected=own_changes(run, tools, before)
        ),
    }


def copy(run: Run, tools: Toolbox) -> JSON:
    """Fetch what is wanted into packs and store them; goes on where an earlier run ended.

    Then the tags of all other objects are read, as far as the time for that goes.
    """
    wanted = run.folder / "wanted.jsonl"
    counts: Counts | None = Counts()
    if wanted.stat().st_size:
        run.progress.begin("copy", total=sum(item.size for item in read_to_fetch(wanted)))
        counts = None if run.sharing is None else sharding.copy_together(run, tools, run.sharing)
    if counts is None:
        counts = _copy_alone(run, tools, wanted)
    return {
        "fetched": counts.fetched,
        "vanished": counts.vanished,
        "failed": counts.failed,
        "tags_read": refresh_tags(run, tools),
    }


def _copy_alone(run: Run, tools: Toolbox, wanted: Path) -> Counts:
    journal = LocalJournal(run.folder)
    with closing(tools.object_packs.index(run.folder / "known.sqlite")) as known:
        known.fill(known_places(run, journal.files()))
        known.fill_from(partial(known_places, run, [run.folder / "previous.jsonl"]))
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
    objects = size = unreadable = tags_unread = 0
    tags_as_of: str | None = None
    listing_started = datetime.fromisoformat(run.job.result["listing_started"])
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
            tags_unread += not read_since(line.tags_at, listing_started)
            if line.tags_at is not None and (tags_as_of is None or line.tags_at < tags_as_of):
                tags_as_of = line.tags_at
    spool.remove(scratch)
    _require_all(lines.number, run.job.result)
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
            "tags_unread": _told(tools, tags_unread) if result["keeps_tags"] else None,
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
        "tags_unread": tags_unread if result["keeps_tags"] else 0,
        "unreadable_keys": lost if unreadable <= MOST_KEYS else None,
    }


def _told(tools: Toolbox, unread: int) -> int | None:
    """Return how many objects' tags are older than the snapshot, where everybody reads that."""
    told = unread and tools.workers.may_use_new_fields(CHAINED_STATEMENTS, in_use=False)
    return unread if told else None


def _require_all(lines: int, result: JSON) -> None:
    """Raise unless every object of the listing has its line, or was gone before it was fetched."""
    if lines + result["vanished"] != result["listed"]:
        raise IntegrityError(
            f"the listing had {result['listed']} objects, {result['vanished']} were gone when they "
            f"were fetched, and the inventory has {lines} lines",
            "the spool lost what an earlier step wrote; start the backup again",
        )


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
