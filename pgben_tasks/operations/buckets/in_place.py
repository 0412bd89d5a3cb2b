"""Restore a snapshot's objects in place: plan, aside, write, finish.

Missing objects and those that differ are put back into the live bucket; nothing else is written.
What is overwritten or deleted lies in a bucket aside before, compared. At no moment are there fewer
objects than at the beginning, live and aside together, and a step that died goes on.

In the job's folder: ``inventory.jsonl`` (the snapshot's lines), ``plan.jsonl`` (what is written, by
pack), ``extra.jsonl``, ``kept/`` (which versions lie aside), and what is done in ``written/``
and ``deleted/``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final, TypeVar

import structlog

from pgben_tasks.contracts import JSON, BucketRestoreRequest
from pgben_tasks.domain.buckets.capture import BucketCapture, list_bucket
from pgben_tasks.domain.buckets.inventory import Entry
from pgben_tasks.domain.buckets.restore_plan import (
    WRITTEN,
    Planned,
    PlanTotals,
    Verdict,
    content_of,
    planned,
)
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.errors import ObjectMissing, ObjectRefused, PackLost, StoreUnavailable
from pgben_tasks.operations import parts, spool
from pgben_tasks.operations.buckets.aside import MOST_TRIES, Aside
from pgben_tasks.operations.buckets.browse import open_inventory
from pgben_tasks.operations.buckets.compare import batches, compare_live
from pgben_tasks.operations.buckets.current import CurrentObjects, unnamed
from pgben_tasks.operations.buckets.patience import Patience, Stuck, require_all
from pgben_tasks.operations.buckets.restoring import (
    OpenedObjects,
    PackOpener,
    capture_of,
    choice_of,
    manifest_of,
    not_added,
    not_restored,
    not_stored,
    once,
    put,
    require_found,
    sizes_by_digest,
)
from pgben_tasks.operations.buckets.uploads import NotedUploads, give_up_uploads
from pgben_tasks.operations.snapshot_files import by_pack, read_lines
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Bucket

log = structlog.get_logger(__name__)

_Result = TypeVar("_Result")


#: Bytes of a list that are sent at a time.
_PIECE: Final = 1024 * 1024
#: How many extra objects make a group, which is deleted at once.
_EXTRA_GROUP: Final = 1000

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
    capture = capture_of(manifest)
    run.progress.begin("plan", total=capture.objects, unit="objects")
    with (
        spool.disk_errors(folder),
        unsorted.open("wb") as written,
        (folder / "extra.jsonl").open("wb") as extra,
    ):
        for verdict in _verdicts(run, tools, capture, inventory):
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
        unreadable=totals.objects_of("unreadable"),
        backup=manifest.backup,
    )
    log.info("restore_planned", **totals.objects)
    return {
        "objects": totals.readable,
        "bytes": totals.size("missing", "differing"),
        "missing": totals.objects_of("missing"),
        "differing": totals.objects_of("differing"),
        "tags_differing": totals.objects_of("tags"),
        "already_same": totals.objects_of("same"),
        "extra": totals.objects_of("extra"),
        "not_in_snapshot": totals.objects_of("unreadable"),
    }


def add(run: Run, tools: Toolbox) -> JSON:
    """Put missing objects back, touch none that is there, and read all that will be overwritten.

    So nothing is replaced by a restore of everything whose objects cannot be read. What is to be
    added is listed first, in a bucket of its own: whoever does not want it can tell it from the
    rest. What somebody stored under a missing key since the plan is left to ``write``.

    Raises ``IntegrityError``, once all others are added, when some cannot be put back.
    """
    give_up_uploads(run.folder, tools.other_bucket)
    work = _Writing(run, tools, manifest_of(run, tools))
    # Of a bucket that was lost everything is added, and nothing has to be told apart from it.
    listed = None if work.require_bucket() else _list_missing(run, tools)
    run.progress.begin("add", total=int(run.job.result["bytes"]))
    done = Counter[str]()
    stuck: list[Stuck] = []
    with (
        closing(work),
        ThreadPoolExecutor(tools.limits.copy_concurrency, thread_name_prefix="put") as pool,
    ):
        for name, group in _planned_groups(run):
            whole = [one for one in group if one.found != "tags"]
            try:
                with once(run.folder / "added", name) as undone:
                    if undone and whole:
                        work.add(pool, name, whole)
                    elif whole:
                        run.progress.advance(_bytes(group))
                if whole:
                    done.update(one.partition(" ")[0] for one in _became(run, name).values())
            except PackLost as exc:
                log.warning("pack_lost", objects=len(whole), why=exc.sentence)
                done["lost"] += len(whole)
            except Stuck as exc:
                log.warning("objects_stuck", objects=exc.objects, why=exc.error.sentence)
                stuck.append(exc)
    if stuck:
        raise not_stored(work.live, stuck)
    if done["lost"] or done["refused"]:
        raise not_added(run, lost=done["lost"], refused=done["refused"])
    log.info("objects_added", added=done["added"], left=done["left"])
    return {"added": done["added"], "added_list": listed}


def _list_missing(run: Run, tools: Toolbox) -> str | None:
    """Store the keys of missing objects in a bucket of its own; return its name, None without one.

    There is a list for each attempt that found any: lines of JSON.
    """
    bucket = tools.other_bucket(list_bucket(str(run.context["aside"])))
    if not int(run.job.result["missing"]):
        return bucket.name if bucket.exists() else None
    # A further attempt adds more: what the one before has listed stays.
    key = f"added-{run.job.attempt}.jsonl"
    file = run.folder / key
    with spool.disk_errors(run.folder), file.open("wb") as lines:
        file.chmod(0o600)
        for _, group in _planned_groups(run):
            for one in group:
                if one.found == "missing":
                    lines.write(json.dumps({"key": one.key, "size": one.size}).encode() + b"\n")
    run.ledger.hold()
    if not bucket.exists():
        bucket.create()
    size = file.stat().st_size
    with file.open("rb") as lines:
        pieces = iter(partial(lines.read, _PIECE), b"")
        bucket.put(key, pieces, size=size, headers={}, metadata={}, tags={})
    return bucket.name


def aside_in_turn(run: Run, tools: Toolbox) -> JSON:
    """Wait for the restore of everything to swap; then copy aside all that will be overwritten."""
    parts.require_turn(run, tools)
    return aside(run, tools)


def aside(run: Run, tools: Toolbox) -> JSON:
    """Copy aside all that will be overwritten or deleted, before anything is."""
    give_up_uploads(run.folder, tools.other_bucket)
    place, patience = _aside(run, tools), _patience(run, tools)
    result = run.job.result
    changed = int(result["differing"]) + int(result["tags_differing"])
    total = changed + int(result["extra"]) * _deletes_extra(run)
    run.progress.begin("aside", total=total, unit="objects")
    copied = 0
    with ThreadPoolExecutor(tools.limits.copy_concurrency, thread_name_prefix="aside") as pool:
        for name, group in _groups(run):
            keys = [one.key for one in group if one.found != "missing"]
            if not (run.folder / "kept" / name).exists():
                run.ledger.hold()
                kept = patience.each(pool, place.keep, keys)
                _keep_marks(run, name, dict(zip(keys, kept, strict=True)))
            copied += sum(mark is not None for mark in _kept_marks(run, name).values())
            run.progress.advance(len(keys))
    log.info("objects_set_aside", objects=copied)
    # Whoever reads of a later failure must know where to look.
    return {"copied_aside": copied, "aside": str(run.context["aside"]) if copied else None}


def write(run: Run, tools: Toolbox) -> JSON:
    """Put missing and differing objects back, pack after pack, and tags where only these differ.

    What lies in a damaged pack, or is not taken by the server, stays as it is and keeps nothing
    else from being put back; ``finish`` finds it differing.
    """
    give_up_uploads(run.folder, tools.other_bucket)
    work = _Writing(run, tools, manifest_of(run, tools))
    work.require_bucket()
    run.progress.begin("write", total=int(run.job.result["bytes"]))
    written = retagged = lost = refused = 0
    stuck: list[Stuck] = []
    with (
        closing(work),
        ThreadPoolExecutor(tools.limits.copy_concurrency, thread_name_prefix="put") as pool,
    ):
        for name, group in _planned_groups(run):
            tagged = sum(one.found == "tags" for one in group)
            retagged += tagged
            try:
                with once(run.folder / "written", name) as undone:
                    if undone:
                        wanted = work.not_added(pool, name, group)
                        run.progress.advance(_bytes(group) - _bytes(wanted))
                        written -= len(group) - len(wanted)
                        left_out = work.group(pool, name, wanted)
                        refused += len(left_out)
                        without_tags = sum(one.found == "tags" for one in left_out)
                        retagged -= without_tags
                        written -= len(left_out) - without_tags
                    else:
                        run.progress.advance(_bytes(group))
            except PackLost as exc:
                log.warning("pack_lost", objects=len(group) - tagged, why=exc.sentence)
                lost += len(group) - tagged
            except Stuck as exc:
                # The packs behind it come first: another attempt begins with this one.
                log.warning("objects_stuck", objects=exc.objects, why=exc.error.sentence)
                stuck.append(exc)
            else:
                written += len(group) - tagged
    if stuck:
        raise not_stored(work.live, stuck)
    log.info("objects_put_back", written=written, retagged=retagged)
    return {"written": written, "retagged": retagged, "lost": lost, "refused": refused}


def finish(run: Run, tools: Toolbox) -> JSON:
    """Compare every object with the snapshot; only then delete what is extra, where asked."""
    give_up_uploads(run.folder, tools.other_bucket)
    live, place = _live_bucket(run, tools), _aside(run, tools)
    run.progress.begin("compare", total=int(run.job.result["objects"]), unit="objects")
    compared = tags_lost = tags_kept = 0
    differing: Counter[str] = Counter()
    capture = capture_of(manifest_of(run, tools))
    for verdict in _verdicts(run, tools, capture, run.folder / "inventory.jsonl"):
        if verdict.found in WRITTEN:
            differing[", ".join(verdict.differs) or "missing"] += 1
        compared += verdict.found == "same"
        tags_lost += verdict.tags_lost
        tags_kept += verdict.tags_kept
    if differing:
        raise not_restored(
            run,
            differing,
            compared,
            "nothing extra was deleted, what was overwritten lies aside; "
            f"`pgben objects diff {run.target} {run.job.backup}` names what differs. Is somebody "
            "writing to the bucket? Ask for the restore again",
        )
    deleted = _delete_extra(run, tools, live, place)
    refused: tuple[str, ...] = ()
    if BucketRestoreRequest.parse(run.job.request).settings:
        run.ledger.hold()
        refused = live.apply(capture.settings)
    names, lie_there = place.contents()
    spool.remove(run.folder)
    return {
        "compared": compared,
        **({"tags_not_kept": tags_lost} if tags_lost else {}),
        **({"tags_kept": tags_kept} if tags_kept else {}),
        "deleted": deleted,
        "aside": names[0] if names else None,
        "aside_further": names[1:],
        "aside_objects": lie_there,
        "settings_refused": list(refused),
        "state": "restored",
    }


def _delete_extra(run: Run, tools: Toolbox, live: Bucket, place: Aside) -> int:
    deleted, patience = 0, _patience(run, tools)
    total = int(run.job.result["extra"]) * _deletes_extra(run)
    run.progress.begin("delete", total=total, unit="objects")
    with ThreadPoolExecutor(tools.limits.copy_concurrency, thread_name_prefix="delete") as pool:
        for name, group in _extra_groups(run):
            deleted += len(group)
            with once(run.folder / "deleted", name) as undone:
                if undone:
                    run.ledger.hold()
                    tools.own_writes.intend(run.job, name, len(group))
                    marks = _kept_marks(run, name)
                    patience.each(pool, partial(_delete, live, place, marks), group)
            run.progress.advance(len(group))
    return deleted


class _Changed(Exception):
    """Somebody stored or tagged the object that is about to be overwritten."""


class _Writing:
    """Writes to the live bucket, after what is there at that moment is known to lie aside."""

    def __init__(self, run: Run, tools: Toolbox, manifest: Manifest) -> None:
        self.live = _live_bucket(run, tools)
        #: Tags that were read before it may not have been all.
        self._listing_started = capture_of(manifest).listing_started
        self._packs = PackOpener(run, tools, manifest)
        self._now = CurrentObjects(self.live)
        self._run = run
        self._tools = tools
        self._place = _aside(run, tools)
        self._patience = _patience(run, tools)

    def close(self) -> None:
        """Remove the packs that were opened."""
        self._packs.close()

    def require_bucket(self) -> bool:
        """Make the bucket where it was lost; return whether it was."""
        if self.live.exists():
            return False
        self._run.ledger.hold()
        self.live.create()
        return True

    def add(self, pool: ThreadPoolExecutor, name: str, group: list[Planned]) -> None:
        """Read the objects of one pack, store the missing ones, and note what became of these.

        That is ``added`` or ``there`` (already as the snapshot has it), either with the mark of
        that version; ``left`` or ``refused``. Raises ``PackLost``, and ``Stuck`` for those that
        keep failing.
        """
        run = self._run
        missing = [one for one in group if one.found == "missing"]
        with self._opened(group) as objects:
            run.ledger.hold()
            self._tools.own_writes.intend(run.job, f"added {name}", len(missing))
            became = require_all(self._possible(pool, partial(self._add, objects), missing))
        run.progress.advance(_bytes(group) - _bytes(missing))
        keys = (one.key for one in missing)
        _keep_marks(run, _left(name), dict(zip(keys, became, strict=True)))

    def _opened(self, group: list[Planned]) -> AbstractContextManager[OpenedObjects]:
        """Open the pack in which the objects of a group lie."""
        entries = [one.entry() for one in group]
        return self._packs.opened(entries[0].pack or "", sizes_by_digest(entries))

    def _add(self, objects: OpenedObjects, one: Planned) -> str:
        """Store one object unless there is one of its key."""
        with unnamed(one.key):
            mark = self._now.mark(one.key)
        if mark is not None:
            # A run that died may have stored it; otherwise somebody did so since.
            return f"there {mark}" if self._is(one) else "left"
        try:
            absent = partial(self._require, one.key, None)
            put(self._run, self.live, one.key, one.entry(), objects, before_commit=absent)
        except _Changed:
            return "left"
        except ObjectRefused as exc:
            log.warning("object_refused", why=exc.sentence)
            return "refused"
        with unnamed(one.key):
            return f"added {self._now.mark(one.key)}"

    def not_added(self, pool: ThreadPoolExecutor, name: str, group: list[Planned]) -> list[Planned]:
        """Return what ``add`` has not stored, or is another version since; in other chains all."""
        became = _became(self._run, name)
        stored = [one for one in group if " " in became.get(one.key, "")]
        marks = self._patience.each(pool, lambda one: self._now.mark(one.key), stored)
        there = {
            one.key
            for one, mark in zip(stored, marks, strict=True)
            if mark == became[one.key].partition(" ")[2]
        }
        return [one for one in group if one.key not in there]

    def group(self, pool: ThreadPoolExecutor, name: str, group: list[Planned]) -> list[Planned]:
        """Write the objects of one pack; it is fetched only where bytes are wanted.

        Return those that the server does not take; raise ``Stuck`` for those that keep failing.
        """
        run, kept = self._run, _kept_marks(self._run, name)
        tagged = [one for one in group if one.found == "tags"]
        run.ledger.hold()
        done = self._possible(pool, partial(self._tags, kept), tagged)
        unfit = {one.key for one, well in zip(tagged, done, strict=True) if well is not True}
        whole = [one for one in group if one.found != "tags" or one.key in unfit]
        if not whole:
            return []
        with self._opened(whole) as objects:
            run.ledger.hold()
            self._tools.own_writes.intend(run.job, name, len(whole))
            taken = require_all(self._possible(pool, partial(self._object, kept, objects), whole))
        return [one for one, well in zip(whole, taken, strict=True) if not well]

    def _possible(
        self, pool: ThreadPoolExecutor, do: Callable[[Planned], _Result], items: list[Planned]
    ) -> list[_Result | StoreUnavailable]:
        return self._patience.each_possible(pool, do, items, answers=self.live.exists)

    def _tags(self, kept: Mapping[str, str | None], one: Planned) -> bool:
        """Return an object its tags; False when it has to be put back whole.

        That is when it is no longer the one that lies aside, or does not take its tags alone.
        """
        with unnamed(one.key):
            now = self._now.mark(one.key)
            if now is None or now != kept.get(one.key):
                # A run that died may have given it its tags; otherwise somebody changed it since.
                return self._is(one)
            try:
                self.live.put_tags(one.key, self._entry(one).tags)
            except (ObjectMissing, ObjectRefused):
                # It was removed since, or the server only takes its tags with its bytes.
                return False
            return True

    def _entry(self, one: Planned) -> Entry:
        """Return the entry to write: no tag is taken away that the snapshot cannot know of."""
        entry = one.entry()
        wanted = content_of(entry, self._listing_started)
        if wanted.all_tags:
            return entry
        try:
            there = self._now.tags(one.key) or {}
        except ObjectMissing:
            there = {}
        return entry.model_copy(update={"tags": wanted.tags_over(there)})

    def _object(self, kept: Mapping[str, str | None], objects: OpenedObjects, one: Planned) -> bool:
        """Put an object back; False when the server does not take it."""
        safe = kept.get(one.key)
        for _ in range(MOST_TRIES):
            with unnamed(one.key):
                now = self._now.mark(one.key)
                # A run that died may have put it back; otherwise somebody stored it since.
                if now is not None and now != safe and self._is(one):
                    self._run.progress.advance(one.size)
                    return True
            safe = self._place.secure(one.key, safe)
            try:
                # Between this look and the end of an upload in parts there may be hours.
                unchanged = partial(self._require, one.key, safe)
                entry = self._entry(one)
                put(self._run, self.live, one.key, entry, objects, before_commit=unchanged)
            except _Changed:
                continue
            except ObjectRefused as exc:
                log.warning("object_refused", why=exc.sentence)
                return False
            else:
                return True
        raise self._place.changes_too_fast()

    def _require(self, key: str, mark: str | None) -> None:
        """Raise ``_Changed`` unless the live object is the version with this mark, or gone."""
        with unnamed(key):
            now = self._now.mark(key)
        if now is not None and now != mark:
            raise _Changed

    def _is(self, one: Planned) -> bool:
        """Return whether the live object is as the snapshot has it."""
        try:
            entry, listed = one.entry(), self._listing_started
            return not self._now.differ(one.key, entry, listing_started=listed)
        except ObjectMissing:
            return False


def _delete(live: Bucket, place: Aside, kept: Mapping[str, str | None], one: Planned) -> None:
    """Delete one extra object, after what is there at this moment is known to lie aside."""
    if place.secure(one.key, kept.get(one.key)) is not None:
        with unnamed(one.key):
            live.delete(one.key)


def _aside(run: Run, tools: Toolbox) -> Aside:
    return Aside(
        _live_bucket(run, tools),
        str(run.context["aside"]),
        open_bucket=tools.other_bucket,
        hold=run.ledger.hold,
        noting=partial(NotedUploads, run.folder),
    )


def _patience(run: Run, tools: Toolbox) -> Patience:
    return Patience(
        tools.limits.patience, at_once=tools.limits.copy_concurrency, check=run.progress.check
    )


def _verdicts(
    run: Run, tools: Toolbox, capture: BucketCapture, inventory: Path
) -> Iterator[Verdict]:
    """Yield of every chosen key how it is now beside the snapshot's lines."""
    scratch = spool.fresh(run.folder / "listing")
    live, choice = _live_bucket(run, tools), choice_of(run)
    check = run.progress.check
    for verdict in compare_live(tools, live, capture, inventory, choice, scratch, check=check):
        run.progress.advance(1)
        run.progress.check()
        yield verdict
    spool.remove(scratch)


def _groups(run: Run) -> Iterator[Group]:
    """Yield all that is to be changed."""
    yield from _planned_groups(run)
    yield from _extra_groups(run)


def _planned_groups(run: Run) -> Iterator[Group]:
    """Yield the objects that are to be written, pack after pack."""
    lines = read_lines(run.folder / "plan.jsonl")
    for place, group in groupby(lines, key=lambda line: line.pack or ""):
        yield place.replace("/", "_"), [Planned.read(line) for line in group]


def _deletes_extra(run: Run) -> bool:
    return BucketRestoreRequest.parse(run.job.request).delete_extra


def _extra_groups(run: Run) -> Iterator[Group]:
    """Yield the extra objects that are to be deleted; none unless that was asked for."""
    if not _deletes_extra(run):
        return
    lines = read_lines(run.folder / "extra.jsonl")
    for number, batch in enumerate(batches(lines, _EXTRA_GROUP), start=1):
        yield f"extra-{number}", [Planned.read(line) for line in batch]


def _keep_marks(run: Run, name: str, marks: dict[str, str | None]) -> None:
    """Note which versions of a group's objects lie aside, by key."""
    folder = run.folder / "kept"
    folder.mkdir(mode=0o700, exist_ok=True)
    spool.write_durably(folder / name, json.dumps(marks).encode())


def _kept_marks(run: Run, name: str) -> dict[str, str | None]:
    """Return which versions of a group's objects lie aside, by key; None: there was no object."""
    marks: dict[str, str | None] = json.loads(spool.read(run.folder / "kept" / name))
    return marks


def _bytes(group: list[Planned]) -> int:
    """Return the bytes that are to be written."""
    return sum(one.size for one in group if one.found != "tags")


def _became(run: Run, name: str) -> dict[str, str]:
    """Return what became of a group's missing objects, by key; none where nothing was added."""
    if not (run.folder / "kept" / _left(name)).exists():
        return {}
    return {key: became or "" for key, became in _kept_marks(run, _left(name)).items()}


def _left(name: str) -> str:
    """Return the name under which is noted what became of a group's missing objects."""
    return f"added-{name}"


def _live_bucket(run: Run, tools: Toolbox) -> Bucket:
    """Return the bucket that is written to, which need not be a protected one."""
    return tools.other_bucket(str(run.context["into"]))
