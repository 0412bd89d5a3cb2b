"""Restore a snapshot's objects into another bucket: select, plan, copy, finish.

Nothing that exists is replaced: the place must be empty. What a failed restore has copied stays
and its next attempt goes on from there; the original bucket is never written to.
``select_in_place`` begins a restore in place (``in_place``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import groupby
from typing import Final, TypeVar

import structlog

from pgben_tasks.contracts import JSON, BucketRestoreRequest
from pgben_tasks.domain.buckets.inventory import Entry, Line
from pgben_tasks.errors import (
    ObjectMissing,
    ObjectRefused,
    PackLost,
    RequestMistaken,
)
from pgben_tasks.operations import parts, spool
from pgben_tasks.operations.buckets.browse import open_inventory
from pgben_tasks.operations.buckets.compare import batches, chosen
from pgben_tasks.operations.buckets.current import CurrentObjects, unnamed
from pgben_tasks.operations.buckets.patience import Patience, Stuck, require_all
from pgben_tasks.operations.buckets.restoring import (
    OpenedObjects,
    PackOpener,
    capture_of,
    choice_of,
    manifest_of,
    not_restored,
    not_stored,
    once,
    put,
    require_found,
    sizes_by_digest,
)
from pgben_tasks.operations.buckets.uploads import give_up_uploads
from pgben_tasks.operations.repository.selection import choose_backup
from pgben_tasks.operations.snapshot_files import by_pack, read_lines
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)

_Item = TypeVar("_Item")
#: How many objects are compared before the next ones are read from the plan.
_COMPARED_AT_ONCE: Final = 1024


def select(run: Run, tools: Toolbox) -> JSON:
    """Choose the snapshot, and check that its place is empty."""
    return _select(run, tools, require_empty="copying" not in run.context)


def select_in_place(run: Run, tools: Toolbox) -> JSON:
    """Choose the snapshot that is put back into the original bucket."""
    parts.require_whole(run, tools)
    return _select(run, tools, require_empty=False)


def _select(run: Run, tools: Toolbox, *, require_empty: bool) -> JSON:
    run.progress.begin("select")
    request = _request(run)
    before = run.context.get("snapshot")
    selection = choose_backup(
        tools.repository,
        run.target,
        before or request.at or request.backup,
        now=tools.clock.now(),
        allow_unverified=request.allow_unverified,
        # What the attempt before met in its own snapshot does not end the next one.
        allow_damaged=request.allow_damaged or before is not None,
    )
    backup = selection.backup.id
    manifest = tools.repository.manifest(run.target, backup)
    into = str(run.context["into"])
    if require_empty:
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
    # The notes of an attempt before go with its folder.
    give_up_uploads(run.folder, tools.other_bucket)
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
    require_found(choice, readable=objects, unreadable=unreadable, backup=manifest.backup)
    return {"objects": objects, "bytes": size, "not_in_snapshot": unreadable}


def copy(run: Run, tools: Toolbox) -> JSON:
    """Fetch pack after pack, check it, and store the wanted objects with all they carry.

    What lies in a damaged pack, or is not taken by the server, keeps nothing else from being
    restored; ``finish`` finds it missing.
    """
    give_up_uploads(run.folder, tools.other_bucket)
    manifest = manifest_of(run, tools)
    bucket = tools.other_bucket(str(run.context["into"]))
    there = CurrentObjects(bucket)
    again = "copying" in run.context
    run.ledger.hold()
    if not bucket.exists():
        bucket.create()
    run.ledger.keep(context={"copying": True})
    run.progress.begin("copy", total=int(run.job.result["bytes"]))
    lines = read_lines(run.folder / "plan.jsonl")
    packs = lost = refused = 0
    patience = Patience(
        tools.limits.patience, at_once=tools.limits.copy_concurrency, check=run.progress.check
    )
    differs = partial(_difference, run, there, _request(run).put_below)
    stuck: list[Stuck] = []
    with (
        closing(PackOpener(run, tools, manifest)) as opener,
        ThreadPoolExecutor(tools.limits.copy_concurrency, thread_name_prefix="put") as pool,
    ):
        for (place, group), following in _with_next(_packs(lines)):
            packs += 1
            wanted = group
            try:
                with once(run.folder / "restored", place) as undone:
                    if not undone:
                        run.progress.advance(sum(line.size for line in wanted))
                        continue
                    if again:
                        # What ran before this stored some of them, perhaps on another node.
                        wanted = _differing(pool, patience, differs, there, wanted)
                    if wanted:
                        entries = [line.entry() for line in wanted]
                        with opener.opened(place, sizes_by_digest(entries)) as objects:
                            if following is not None and not again:
                                opener.open_ahead(following[0], sizes_by_digest(following[1]))
                            run.ledger.hold()
                            store = _Storing(run, there, objects, differs)
                            taken = patience.each_possible(
                                pool, store.put, entries, answers=bucket.exists
                            )
                            refused += require_all(taken).count(False)
            except Stuck as exc:
                # The packs behind it come first: another attempt begins with this one.
                log.warning("objects_stuck", objects=exc.objects, why=exc.error.sentence)
                stuck.append(exc)
            except PackLost as exc:
                log.warning("pack_lost", place=place, objects=len(wanted), why=exc.sentence)
                lost += len(wanted)
    if stuck:
        raise not_stored(bucket, stuck)
    return {"packs": packs, "lost": lost, "refused": refused}


def _packs(lines: Iterable[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Yield the place of each pack with its lines, which are in the order of packs."""
    for place, group in groupby(lines, key=lambda line: line.pack or ""):
        yield place, list(group)


def _with_next(items: Iterator[_Item]) -> Iterator[tuple[_Item, _Item | None]]:
    """Yield each item with the one that follows, None after the last."""
    item = next(items, None)
    while item is not None:
        following = next(items, None)
        yield item, following
        item = following


def finish(run: Run, tools: Toolbox) -> JSON:
    """Fetch every restored object and compare it with the inventory, bytes and all it carries."""
    bucket = tools.other_bucket(str(run.context["into"]))
    run.progress.begin("compare", total=int(run.job.result["bytes"]))
    lines = read_lines(run.folder / "plan.jsonl")
    there = CurrentObjects(bucket)
    patience = Patience(
        tools.limits.patience, at_once=tools.limits.copy_concurrency, check=run.progress.check
    )
    compared = tags_lost = 0
    differing: Counter[str] = Counter()
    with ThreadPoolExecutor(tools.limits.copy_concurrency, thread_name_prefix="compare") as pool:
        differs = partial(_difference, run, there, _request(run).put_below)
        for batch in batches(lines, _COMPARED_AT_ONCE):
            entries = [line.entry() for line in batch]
            differences = patience.each(pool, differs, entries)
            for entry, difference in zip(entries, differences, strict=True):
                compared += 1
                tags_lost += there.lack_tags and bool(entry.tags)
                if difference is not None:
                    differing[difference] += 1
    refused: tuple[str, ...] = ()
    if _request(run).settings:
        run.ledger.hold()
        refused = bucket.apply(capture_of(manifest_of(run, tools)).settings)
    if differing:
        raise not_restored(
            run,
            differing,
            compared - differing.total(),
            f"all others are in {bucket.describe()}, compared; `pgben objects diff {run.target} "
            f"{run.job.backup} --bucket {bucket.name}` names what is not; look for it in an older "
            "snapshot",
        )
    spool.remove(run.folder)
    return {
        "compared": compared,
        **({"tags_not_kept": tags_lost} if tags_lost else {}),
        "settings_refused": list(refused),
        "state": "restored",
    }


class _Storing:
    """Stores objects of one opened pack."""

    def __init__(
        self,
        run: Run,
        there: CurrentObjects,
        objects: OpenedObjects,
        differs: Callable[[Entry], str | None],
    ) -> None:
        self._run = run
        self._there = there
        self._objects = objects
        self._differs = differs
        self._below = _request(run).put_below
        self._tried: set[str] = set()

    def put(self, entry: Entry) -> bool:
        """Store one object; False when the server does not take it."""
        run = self._run
        # Its answer may be all that was lost the time before.
        if entry.key in self._tried and self._differs(entry) is None:
            return True
        self._tried.add(entry.key)
        try:
            key = self._below + entry.key
            put(run, self._there.bucket, key, entry, self._objects)
        except ObjectRefused as exc:
            log.warning("object_refused", why=exc.sentence)
            return False
        return True


def _differing(
    pool: ThreadPoolExecutor,
    patience: Patience,
    differs: Callable[[Entry], str | None],
    there: CurrentObjects,
    lines: list[Line],
) -> list[Line]:
    """Return those that are not there as they should be, as far as is known."""
    entries = [line.entry() for line in lines]
    differences = patience.each_possible(pool, differs, entries, answers=there.bucket.exists)
    return [line for line, one in zip(lines, differences, strict=True) if one is not None]


def _difference(run: Run, there: CurrentObjects, below: str, entry: Entry) -> str | None:
    """Return in what the restored object differs, unnamed: keys may be personal data."""
    key = below + entry.key
    try:
        with unnamed(key):
            differs = there.differ(key, entry)
    except ObjectMissing:
        return "missing"
    run.progress.advance(entry.size)
    return ", ".join(differs) or None


def _require_empty(run: Run, tools: Toolbox, into: str) -> None:
    if into == run.target.name:
        raise RequestMistaken(
            f"'{into}' is the bucket that was backed up",
            "name another bucket for the copy, or ask for a restore in place",
        )
    bucket, below = tools.other_bucket(into), _request(run).put_below
    if bucket.exists() and next(bucket.list(below), None) is not None:
        # The beginning of keys may be personal data as well as a key.
        raise RequestMistaken(
            f"{bucket.describe()} has objects that begin with `put_below`, and nothing that exists "
            "is replaced"
            if below
            else f"{bucket.describe()} is not empty, and nothing that exists is replaced",
            "name another bucket, or another beginning of keys",
        )


def _request(run: Run) -> BucketRestoreRequest:
    return BucketRestoreRequest.parse(run.job.request)
