"""The nightly chain of a database: dump, checksum, upload, (prune, record).

Each function is one step. What steps leave for each other lies in the job's folder of the spool:
``dump/`` (what pg_dump wrote), ``capture.json``, ``plan.json`` and ``packs/`` (see ``packs``),
``manifest.json``. Packs of finished files are sealed and stored while the dump goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from pgben_tasks.contracts import JSON
from pgben_tasks.domain.documents import Manifest, Member, Pack, PostgresCapture
from pgben_tasks.domain.packing import PackPlan, pack_plans
from pgben_tasks.domain.plausibility import Measure, suspicion
from pgben_tasks.domain.restorability import Archive
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import IntegrityError
from pgben_tasks.operations import spool
from pgben_tasks.operations.postgres import packs, references
from pgben_tasks.operations.postgres.early_packs import EarlyPacks
from pgben_tasks.operations.repository import commit as committing
from pgben_tasks.operations.repository.survey import survey
from pgben_tasks.operations.room import require_room
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)

_CHUNK: Final = 1024 * 1024


def dump(run: Run, tools: Toolbox) -> JSON:
    """Capture the database under a new backup id: dump, row counts, description, one snapshot."""
    source = tools.sources[run.target]
    run.progress.begin("preflight")
    tools.repository.check_place()
    facts = source.preflight()
    # What an earlier try left is removed before room is looked for.
    folder = spool.fresh(run.folder)
    if require_room(run, tools) is None:
        # A compressed dump is smaller than its database; an uncompressed one rarely twice as large.
        share = 1 if facts.tools.compression == "zstd:3" else 2
        _expect_room(tools, facts.database_bytes * share)
    started = tools.clock.now()
    backup = BackupId.make(started, tools.suffix())
    run.ledger.keep(context={"started": started.isoformat()}, backup=str(backup))
    destination = folder / "dump"
    compressed = facts.tools.compression == "none"
    with EarlyPacks(run, tools, backup, compressed=compressed) as early:
        # Locks are given up as soon as the dump is there; packs may end later.
        with (
            source.capture(facts.tools) as capture,
            ThreadPoolExecutor(1, thread_name_prefix="count") as counting,
        ):
            counts = counting.submit(capture.count)
            try:
                source.dump(
                    capture,
                    destination,
                    tools=facts.tools,
                    jobs=tools.limits.dump_jobs,
                    database_bytes=facts.database_bytes,
                    progress=run.progress,
                    on_file=early.take,
                )
            except BaseException:
                # A void dump needs no counts; the pool's end would wait for them.
                capture.cancel()
                raise
            run.progress.begin("count")
            description = capture.describe(counts.result())
            told = references.read(run, tools, capture)
        early.finish()
    spool.write_durably(folder / "capture.json", description.encode())
    log.info("database_dumped", backup=str(backup), tables=len(description.tables))
    return {
        "database_bytes": facts.database_bytes,
        "dump_bytes": spool.size_of(destination),
        "tables": len(description.tables),
        "rows": description.rows,
        "server_version": facts.server_version,
        "client_version": facts.tools.version,
        **told,
    }


def _expect_room(tools: Toolbox, most: int) -> None:
    """Warn of a first dump that may not fit; it is ``most`` bytes, and often far fewer.

    Raises ``SpoolFull`` where it may break PGBEN_SPOOL_LIMIT, which nothing else would keep.
    """
    if tools.limits.spool_limit is not None:
        spool.keep_limit(tools.spool, most, limit=tools.limits.spool_limit, what="the dump")
    free = spool.usage(tools.spool, limit=None).free
    if free is not None and most > free:
        log.warning("spool_may_be_small", database_bytes=most, free=free)


def checksum(run: Run, tools: Toolbox) -> JSON:
    """Digest every file of the dump, read its table of contents, judge its size, plan its packs.

    Files that were packed early have their digests from the bytes that were sealed.
    """
    dump_folder = run.folder / "dump"
    capture = _capture(run)
    early = packs.sealed_packs(run)
    known = {member.name: member for pack in early for member in pack.members}
    files = sorted(dump_folder.iterdir())
    unknown = [path for path in files if path.name not in known]
    run.progress.begin("checksum", total=sum(path.stat().st_size for path in unknown))
    rest = [_digested(path, run) for path in unknown]
    members = sorted([*known.values(), *rest], key=lambda member: member.name)
    if [member.name for member in members] != [path.name for path in files]:
        raise IntegrityError(
            "the dump has lost files that were packed already",
            "something changed the spool while the backup ran; start the backup again",
        )
    archive = Archive.from_versions(
        str(run.job.result.get("client_version", "")),
        capture.server_version_num,
        capture.dump_compression,
    )
    entries = tools.sources[run.target].check_dump(dump_folder, capture, archive)
    reason = _suspicion(run, tools, capture, members)
    packs.keep_plan(run, (*(_plan_of(pack) for pack in early), *_plans(run, tools, early, rest)))
    if reason:
        log.warning("backup_suspected", reason=reason)
    return {
        "files": len(members),
        "entries": entries,
        "bytes": sum(one.size for one in members),
        "suspect": reason,
    }


def upload(run: Run, tools: Toolbox) -> JSON:
    """Seal the dump into packs, store them, and commit: the backup exists when this returns."""

    def make() -> Manifest:
        plans = packs.kept_plan(run)
        plain = sum(member.size for plan in plans for member in plan.members)
        run.progress.begin("upload", total=2 * plain)
        return committing.manifest(
            run,
            tools,
            packs.store_all(run, tools, plans),
            programs={
                "pg_dump": str(run.job.result.get("client_version", "")),
                "server": str(run.job.result.get("server_version", "")),
            },
            suspect=run.job.result.get("suspect"),
            postgres=_capture(run),
            references=references.store(run, tools),
        )

    return committing.commit(run, tools, make)


def _digested(path: Path, run: Run) -> Member:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            run.progress.advance(len(chunk))
            run.progress.check()
    return Member(name=path.name, size=size, sha256=digest.hexdigest())


def _plans(
    run: Run, tools: Toolbox, early: Sequence[Pack], rest: Sequence[Member]
) -> tuple[PackPlan, ...]:
    """Divide what was not packed early; its packs' numbers follow those of the early ones."""
    return pack_plans(
        run.target,
        committing.backup_id(run),
        rest,
        # What pg_dump compressed gains nothing from being compressed again.
        compressed=_capture(run).dump_compression == "none",
        sealed=bool(tools.codec.recipients),
        pack_size=tools.limits.pack_size,
        first=max(map(packs.number_of, early), default=0) + 1,
    )


def _plan_of(pack: Pack) -> PackPlan:
    return PackPlan(path=pack.path, members=pack.members)


def _suspicion(
    run: Run, tools: Toolbox, capture: PostgresCapture, members: list[Member]
) -> str | None:
    good = survey(tools.repository, run.target).newest_good
    previous = None if good is None else Measure.from_manifest(good.manifest)
    current = Measure(sum(one.size for one in members), capture.rows, len(capture.tables))
    if good is not None and good.manifest.database.dump_compression != capture.dump_compression:
        # Sizes of dumps that were compressed differently say nothing about their contents.
        previous, current = previous and previous._replace(bytes=0), current._replace(bytes=0)
    return suspicion(previous, current, tools.limits.suspect_shrink)


def _capture(run: Run) -> PostgresCapture:
    path = run.folder / "capture.json"
    return PostgresCapture.decode(spool.read(path), where=str(path))
