"""What changed in a bucket since the snapshot before: the listing beside the last inventory.

In the job's folder: ``previous.jsonl`` (the inventory before), ``carried.jsonl`` and
``wanted.jsonl``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Final

import structlog

from pgben_tasks.domain.buckets.diff import (
    Carried,
    Gone,
    Totals,
    Wanted,
    compare,
    vacating,
)
from pgben_tasks.domain.buckets.inventory import Line
from pgben_tasks.domain.documents import Finding, Manifest
from pgben_tasks.domain.layout import inventory_of
from pgben_tasks.errors import IntegrityError, ListingUnordered, ObjectMissing
from pgben_tasks.files.durable import durable_file
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets.current import unnamed
from pgben_tasks.operations.repository.examine import presence
from pgben_tasks.operations.repository.survey import Survey
from pgben_tasks.operations.repository.verify import record_damage
from pgben_tasks.operations.snapshot_files import (
    ToFetch,
    place_of,
    read_lines,
    read_to_fetch,
    sorted_listing,
)
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Bucket, ListedObject

log = structlog.get_logger(__name__)

#: On how many objects it is tried whether the server knows tags: one may just have gone.
_TAG_TRIALS: Final = 5
#: How many objects are compared between two checks whether the job is still ours.
_REPORT_EVERY_OBJECTS: Final = 1000


def tries_tags(run: Run, bucket: Bucket) -> bool:
    """Return whether the server knows tags; one without them may answer with the object."""
    wanted = (item.key for item in read_to_fetch(run.folder / "wanted.jsonl"))
    carried = (line.key for line in read_lines(run.folder / "carried.jsonl"))
    for key in islice(chain(wanted, carried), _TAG_TRIALS):
        try:
            with unnamed(key):
                return bucket.keeps_tags(key)
        except ObjectMissing:
            continue
    return True


def previous(run: Run, tools: Toolbox, surveyed: Survey) -> Manifest | None:
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


def own_changes(run: Run, tools: Toolbox, before: Manifest | None) -> int:
    """Count what restores in place changed since the listing that this one is compared with."""
    if before is None or before.bucket is None:
        return 0
    return tools.own_writes.since(run.target, before.bucket.listing_started)


def _with_findings(surveyed: Survey) -> frozenset[str]:
    """Name the packs that something was ever found in: nothing is inherited from them."""
    return frozenset(
        _place(finding)
        for one in surveyed.backups
        for statement in one.statements
        for finding in statement.findings
        if finding.path.startswith("packs/")
    )


def _place(finding: Finding) -> str:
    return "/".join(finding.path.split("/")[3:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Avoided:
    """Packs that nothing is inherited from: what lies in them is fetched anew.

    ``bad`` ones are damaged or gone. ``emptied`` ones are whole, and what they hold stands when it
    cannot be fetched.
    """

    bad: frozenset[str]
    emptied: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        """Both."""
        return self.bad | self.emptied


def avoided(run: Run, tools: Toolbox, surveyed: Survey, before: Manifest | None) -> Avoided:
    """Name the packs that nothing is inherited from: damaged, gone, or to be emptied.

    What is found gone is recorded: the snapshot before is damaged, whatever becomes of this one.
    """
    bad = _with_findings(surveyed)
    if before is None:
        return Avoided(bad=bad, emptied=frozenset())
    stored = tools.repository.packs(run.target)
    findings = [found for pack in before.packs if (found := presence(pack, stored)) is not None]
    if findings:
        record_damage(run, tools, before, findings)
    gone = {_place(finding) for finding in findings}
    packs = {place_of(pack): pack.size for pack in before.packs}
    lines = read_lines(run.folder / "previous.jsonl")
    emptied = vacating(lines, packs, share=tools.limits.vacate_share)
    return Avoided(bad=bad | gone, emptied=emptied)


def write_changes(
    run: Run, bucket: Bucket, *, avoid: Avoided, previous_at: datetime | None
) -> Totals:
    """Write down what the listing says beside the inventory before, listed at ``previous_at``.

    A listing that is out of order is sorted first.
    """
    try:
        return _write_down(run, bucket.list(), avoid=avoid, previous_at=previous_at)
    except ListingUnordered:
        log.info("listing_sorted", bucket=bucket.name)
        with sorted_listing(bucket.list(), run.folder) as listing:
            return _write_down(run, listing, avoid=avoid, previous_at=previous_at)


def _without_tags_read(line: Line) -> bytes:
    """Return the line of an object whose tags are others by now: they are read first of all."""
    return line.entry().model_copy(update={"tags_at": None}).line()


def _object_of(change: Wanted, avoid: Avoided) -> ToFetch:
    """Ask for an object whole."""
    listed, line = change.listed, change.line
    kept = change.why == "pack avoided" and line is not None and line.pack not in avoid.bad
    return ToFetch(
        key=listed.key,
        size=listed.size,
        modified=int(listed.modified.timestamp()),
        line=line.raw.decode() if line is not None and kept else None,
    )


def _write_down(
    run: Run, listing: Iterator[ListedObject], *, avoid: Avoided, previous_at: datetime | None
) -> Totals:
    """Write down what is carried over and what is wanted."""
    totals = Totals()
    folder = run.folder
    with (
        spool.disk_errors(folder),
        # The ledger will say that this step is done: a power cut must not empty its files.
        durable_file(folder / "carried.jsonl") as carried,
        durable_file(folder / "wanted.jsonl") as wanted,
    ):
        previous = read_lines(folder / "previous.jsonl")
        for change in compare(listing, previous, previous_at=previous_at, avoid=avoid.all):
            totals.count(change)
            if isinstance(change, Gone):
                continue
            if totals.listed % _REPORT_EVERY_OBJECTS == 0:
                run.progress.advance(_REPORT_EVERY_OBJECTS)
                run.progress.check()
            if isinstance(change, Carried):
                carried.write(change.line.raw)
            elif change.why == "tags" and change.line is not None:
                carried.write(_without_tags_read(change.line))
            else:
                wanted.write(_object_of(change, avoid).encode())
        run.progress.advance(totals.listed % _REPORT_EVERY_OBJECTS)
    return totals
