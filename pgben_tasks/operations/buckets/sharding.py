"""A copy that is larger than one shard: divided, and copied by every worker that is free.

The worker that has the job offers the shards and copies one after another, as every helper does
that gets a message. It waits only for the owners of shards that still run: when one is killed, the
next worker that asks takes its shard over, from the parts that are stored. So the ledger decides,
and no message can be missed. What this gains is measured in docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import structlog

from pgben_tasks.contracts import JSON
from pgben_tasks.domain.buckets.shard import Counts, Shard, divided, pack_numbers, shard_bytes
from pgben_tasks.domain.layout import inventory_of, shard_path
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import DigestMismatch, ShardLost
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets.copying import copy_wanted, known_places
from pgben_tasks.operations.buckets.journal import (
    LocalJournal,
    SharedJournal,
    fetch_lines,
    store_lines,
)
from pgben_tasks.operations.repository import commit as committing
from pgben_tasks.operations.snapshot_files import read_to_fetch
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import DigestIndex, Sharing, Taken

log = structlog.get_logger(__name__)

#: How many workers are asked to help: more than there are would find no shard left.
_MOST_HELPERS: Final = 8


def copy_together(run: Run, tools: Toolbox, sharing: Sharing) -> Counts | None:
    """Copy the objects together with helpers; None when there is but one shard."""
    if not sharing.all() and not _offer(run, tools, sharing):
        return None
    left = sharing.open()
    sharing.ask_for_helpers(min(len(left) - 1, _MOST_HELPERS))
    waiting = {shard.n: shard.bytes for shard in left}
    while waiting:
        ours = _round(run, tools, sharing, [run.folder / "previous.jsonl"])
        waiting = _others(run, sharing, waiting, ours)
        if waiting and not ours:
            sharing.pause()
            run.progress.check()
    _gather(run, tools, sharing)
    return sharing.counts()


def help_out(run: Run, tools: Toolbox, sharing: Sharing) -> JSON:
    """Copy shards of another worker's job until none is free."""
    copied: set[int] = set()
    if sharing.open():
        previous = _previous(run, tools)
        while ours := _round(run, tools, sharing, previous):
            copied |= ours
    return {"shards": len(copied)}


def _offer(run: Run, tools: Toolbox, sharing: Sharing) -> bool:
    """Divide what is wanted and leave it in the repository; False when it is one shard at most."""
    file = run.folder / "wanted.jsonl"
    objects = tools.limits.shard_objects
    plain = sum(item.size for item in read_to_fetch(file))
    size = shard_bytes(plain, least=tools.limits.shard_bytes)
    if len(list(islice(divided(read_to_fetch(file), objects=objects, size=size), 2))) <= 1:
        return False
    backup = committing.backup_id(run)
    scratch = spool.fresh(run.folder / "scratch")
    shards = []
    for n, items in enumerate(divided(read_to_fetch(file), objects=objects, size=size), start=1):
        run.progress.check()
        key = shard_path(run.target, backup, n, None, sealed=tools.objects.sealed)
        lines = b"".join(item.encode() for item in items)
        shards.append(
            Shard(
                n=n,
                objects=len(items),
                bytes=sum(item.size for item in items),
                wanted=store_lines(tools, key, lines, scratch),
            )
        )
    sharing.offer(shards)
    log.info("copy_shared", shards=len(shards))
    return True


def _round(run: Run, tools: Toolbox, sharing: Sharing, previous: Sequence[Path]) -> set[int]:
    """Copy every free shard, one after another; return the numbers of those copied here."""
    copied: set[int] = set()
    with ExitStack() as stack:
        known: DigestIndex | None = None
        for shard in sharing.open():
            with sharing.take(shard.n) as taken:
                if taken is None:
                    continue
                if known is None:
                    index = tools.object_packs.index(run.folder / "known.sqlite")
                    known = stack.enter_context(closing(index))
                    known.fill_from(partial(known_places, run, previous))
                try:
                    _copy(replace(run, progress=taken.progress), tools, sharing, taken, known)
                except ShardLost as exc:
                    # Its lock was lost with its session; whoever has it now began where we noted.
                    # The index may know packs that were never stored: the next round has its own.
                    log.warning("shard_lost", why=exc.sentence)
                    break
                copied.add(shard.n)
    return copied


def _copy(run: Run, tools: Toolbox, sharing: Sharing, taken: Taken, known: DigestIndex) -> None:
    shard = taken.shard
    folder = spool.fresh(run.folder / "shard")
    backup = committing.backup_id(run)
    wanted = fetch_lines(tools, shard.wanted, folder)
    journal = SharedJournal(tools, sharing, shard, folder, target=run.target, backup=backup)
    known.fill(known_places(run, journal.files()))
    counts = copy_wanted(
        run,
        tools,
        wanted,
        journal,
        folder=folder,
        known=known,
        numbers=pack_numbers(shard),
    )
    sharing.end(shard.n, counts)
    log.info("shard_stored", shard=shard.n, objects=shard.objects, bytes=shard.bytes)


def _others(run: Run, sharing: Sharing, waiting: dict[int, int], ours: set[int]) -> dict[int, int]:
    """Count what others stored meanwhile as progress; return the shards still to be stored."""
    left = {shard.n: shard.bytes for shard in sharing.open()}
    run.progress.advance(
        sum(size for n, size in waiting.items() if n not in left and n not in ours)
    )
    return left


def _gather(run: Run, tools: Toolbox, sharing: Sharing) -> None:
    """Bring every part to the job's own journal, as if it had been copied here alone."""
    scratch = spool.fresh(run.folder / "scratch")
    spool.remove(run.folder / "done")
    journal = LocalJournal(run.folder)
    for shard in sharing.all():
        for part in shard.parts:
            run.progress.check()
            lines = fetch_lines(tools, part.file, scratch)
            journal.write(lines.read_bytes(), part.packs)
            lines.unlink()


def _previous(run: Run, tools: Toolbox) -> list[Path]:
    """Bring the inventory that the job compares with to this node, for its digests."""
    compared_with = run.job.result["compared_with"]
    if compared_with is None:
        return []
    manifest = tools.repository.manifest(run.target, BackupId.parse(compared_with))
    sealed, lines = run.folder / "previous.sealed", run.folder / "previous.jsonl"
    tools.repository.fetch_inventory(manifest, sealed)
    digest = tools.objects.open_inventory(inventory_of(manifest), sealed, lines)
    sealed.unlink()
    if manifest.bucket is None or digest != manifest.bucket.lines:
        raise DigestMismatch(
            f"the inventory of '{manifest.backup}' is not the one that its manifest describes",
            "run `pgben verify`; the job's own worker goes on alone",
        )
    return [lines]
