"""Restore a database beside the original: select, fetch, load, check, finish.

``swap`` puts the copy in the original's place where that was asked for.

The new database carries a marker from its creation to the last statement; whatever fails, it is
removed, and only while it carries the marker of this very job. Nothing else is ever touched.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from pgben_tasks.contracts import JSON, RestoreRequest
from pgben_tasks.domain.documents import Manifest, Pack, TableCount
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.kept_databases import RestoredDatabase, contents_digest
from pgben_tasks.domain.swap import marker
from pgben_tasks.domain.target import BackupId, Target, check_name
from pgben_tasks.errors import (
    ConfigurationError,
    DigestMismatch,
    ObjectMissing,
    RequestMistaken,
    RestoreRefused,
    RowCountMismatch,
)
from pgben_tasks.operations import spool
from pgben_tasks.operations.repository.selection import choose_backup
from pgben_tasks.operations.repository.verify import damage_finding, record_damage
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)

PACKS_IN_FLIGHT: Final = 2


def select(run: Run, tools: Toolbox) -> JSON:
    """Choose the backup and check that it can be restored under the new name."""

    def require_fitness(manifest: Manifest, into: str) -> None:
        tools.destinations[run.target].preflight(into, manifest.database, manifest.archive)

    return select_backup(run, tools, require_fitness)


def select_backup(
    run: Run, tools: Toolbox, require_fitness: Callable[[Manifest, str], None]
) -> JSON:
    """Choose the backup; ``require_fitness`` refuses one that cannot be restored as asked.

    It is called with the manifest and the name of the new database, of which an earlier attempt
    of this job has left nothing then.
    """
    run.progress.begin("select")
    request = RestoreRequest.parse(run.job.request)
    into = check_name(str(run.context["into"]))
    wanted = request.at if request.at is not None else request.backup
    selection = choose_backup(
        tools.repository,
        run.target,
        wanted,
        now=tools.clock.now(),
        here=None if tools.workers.may_sign_needs else tools.workers.restore_site(),
        allow_unverified=request.allow_unverified,
    )
    chosen = selection.backup.id
    manifest = tools.repository.manifest(run.target, chosen)
    # An earlier attempt of this job may have died half-way.
    run.ledger.hold()
    tools.destinations[run.target].abandon(into, marker=marker(run.job_id))
    require_fitness(manifest, into)
    run.ledger.keep(context={}, backup=str(chosen))
    log.info("backup_selected", backup=str(chosen), into=into)
    return {
        "backup": str(chosen),
        "into": into,
        "note": selection.note,
        "snapshot_time": manifest.database.snapshot_time.isoformat(),
    }


def fetch(run: Run, tools: Toolbox) -> JSON:
    """Bring every pack to the spool, checking stored and plain digests on the way."""
    manifest = _manifest(run, tools)
    # What an earlier try left is removed before room is looked for.
    folder = spool.fresh(run.folder)
    spool.ensure_room(
        tools.spool,
        room_for(manifest),
        limit=tools.limits.spool_limit,
        what="the restore",
    )
    (folder / "dump").mkdir(mode=0o700)
    run.progress.begin("fetch", total=manifest.stored_bytes + manifest.plain_bytes)
    with ThreadPoolExecutor(PACKS_IN_FLIGHT, thread_name_prefix="fetch") as pool:
        fetched = [pool.submit(_fetch_pack, run, tools, pack) for pack in manifest.packs]
        try:
            for future in fetched:
                future.result()
        except (DigestMismatch, ObjectMissing) as exc:
            pool.shutdown(wait=True, cancel_futures=True)
            path = f"packs/{manifest.target}/{manifest.backup}"
            record_damage(run, tools, manifest, [damage_finding(path, exc)])
            raise
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return {"packs": len(manifest.packs), "fetched_bytes": manifest.stored_bytes}


def room_for(manifest: Manifest) -> int:
    """Return how many bytes of the spool the restore of a database needs."""
    return manifest.plain_bytes + PACKS_IN_FLIGHT * max(pack.size for pack in manifest.packs)


def load(run: Run, tools: Toolbox) -> JSON:
    """Create the new database and fill it from the dump."""
    manifest = _manifest(run, tools)
    destination = tools.destinations[run.target]
    into = str(run.context["into"])
    # An earlier run of this step may have died half-way.
    run.ledger.hold()
    destination.abandon(into, marker=marker(run.job_id))
    try:
        client = destination.preflight(into, manifest.database, manifest.archive)
        run.ledger.hold()
        destination.create(
            into, manifest.database, marker=marker(run.job_id), roles_of=roles_of(run)
        )
    except RequestMistaken as exc:
        # It was no mistake when it was asked for, and whoever asked may have gone since.
        raise RestoreRefused(exc.sentence, exc.hint) from exc
    destination.load(
        into,
        run.folder / "dump",
        tools=client,
        jobs=tools.limits.dump_jobs,
        progress=run.progress,
    )
    return {"loaded_bytes": manifest.plain_bytes, "restore_client": client.version}


def check(run: Run, tools: Toolbox) -> JSON:
    """Compare the rows of every table with the numbers taken in the dump's own snapshot."""
    manifest = _manifest(run, tools)
    expected = manifest.database.tables
    run.progress.begin("check", total=len(expected), unit="tables")
    destination = tools.destinations[run.target]
    into = str(run.context["into"])
    # Before anything is counted: whatever is written from now on can be told from what was loaded.
    oid, counter = destination.identify(into)

    def counted() -> None:
        run.progress.advance(1)
        run.progress.check()

    found = destination.count(into, on_table=counted)
    differing = differences(expected, found)
    if differing:
        raise RowCountMismatch(
            f"{len(differing)} of {len(expected)} tables differ after the restore, first "
            f"{differing[0]}",
            "the copy was removed; verify the backup in full and report this as a fault of pgben",
        )
    large = destination.count_large_objects(into)
    if large != manifest.database.large_objects:
        raise RowCountMismatch(
            f"the copy holds {large} large objects instead of {manifest.database.large_objects}",
            "the copy was removed; verify the backup in full and report this as a fault of pgben",
        )
    checked = {"oid": oid, "at": counter, "contents": contents_digest(found, large)}
    run.ledger.keep(context={"checked": checked})
    return {
        "tables_compared": len(expected),
        "rows_compared": manifest.database.rows,
        "large_objects_compared": large,
    }


def finish(run: Run, tools: Toolbox) -> JSON:
    """Apply settings, grants and statistics to the copy, and open it."""
    manifest = _manifest(run, tools)
    run.progress.begin("finish")
    into = str(run.context["into"])
    begun_before = bool(run.context.get("finishing"))
    run.ledger.keep(context={"finishing": True})
    try:
        tools.destinations[run.target].finish(
            into,
            manifest.database,
            marker=marker(run.job_id),
            jobs=tools.limits.dump_jobs,
            # ANALYZE takes a while, and the job may be called off meanwhile.
            before_opening=run.ledger.hold,
        )
    except RestoreRefused:
        # An earlier run of this step may have died after its work, which took the marker away.
        if not begun_before:
            raise
    roles = finish_roles(run, tools)
    if checked := run.context.get("checked"):
        tools.restored.add(
            RestoredDatabase(
                job=run.job_id,
                target=run.job.target,
                name=into,
                oid=checked["oid"],
                checked_at=checked["at"],
                contents=checked["contents"],
                generated=not run.job.request.get("into"),
            )
        )
    spool.remove(run.folder)
    return {"state": "restored", "database": into, **roles}


def roles_of(run: Run) -> Path | None:
    """Return the dump that describes the roles to be made, where all of its server are."""
    return run.folder / "dump" if RestoreRequest.parse(run.job.request).roles else None


def finish_roles(run: Run, tools: Toolbox) -> JSON:
    """Leave the roles that were made, as they are asked for; return what the server refused."""
    refused = tools.destinations[run.target].finish_roles(
        marker=marker(run.job_id), roles_of=roles_of(run)
    )
    if refused:
        log.warning("roles_refused", count=len(refused), first=refused[0])
    return {"roles_refused": list(refused)} if refused else {}


def remove_unfinished(job: Job, tools: Toolbox) -> bool:
    """Remove the unfinished copy that a failed restore left; say whether there was one."""
    into = job.context.get("into")
    destination = tools.destinations.get(Target.parse(job.target))
    if destination is None:
        raise ConfigurationError(
            f"'{job.target}' is not protected any more, so its unfinished copy is not looked for",
            f"drop '{into}' by hand when it is there, or name the target in the settings again",
        )
    removed = bool(into) and destination.abandon(str(into), marker=marker(job.id))
    if removed:
        log.info("unfinished_copy_removed", database=into)
    return removed


def differences(expected: tuple[TableCount, ...], found: tuple[TableCount, ...]) -> list[str]:
    """Describe every table whose number of rows differs, or that only one side has."""
    want = {(one.schema_name, one.table): one.rows for one in expected}
    have = {(one.schema_name, one.table): one.rows for one in found}
    return [
        f"'{schema}.{table}': {have.get((schema, table), 'no such table')} instead of "
        f"{want.get((schema, table), 'no such table')} rows"
        for schema, table in sorted(want.keys() | have.keys())
        if want.get((schema, table)) != have.get((schema, table))
    ]


def _fetch_pack(run: Run, tools: Toolbox, pack: Pack) -> None:
    run.progress.check()
    sealed = run.folder / pack.path.rpartition("/")[2]
    tools.repository.fetch_pack(pack, sealed, advance=run.progress.advance)
    tools.codec.open(pack, sealed, run.folder / "dump", advance=run.progress.advance)
    sealed.unlink()


def _manifest(run: Run, tools: Toolbox) -> Manifest:
    return tools.repository.manifest(run.target, BackupId.parse(run.job.backup or ""))
