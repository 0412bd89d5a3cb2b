"""Swap a restored database with the original, undo that, and settle swaps of ended processes.

The record of a swap is written before the live database is touched; what became of it is asked of
the server, where both names change in one transaction. The replaced database is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog

from pgben_tasks.contracts import JSON, UndoRequest
from pgben_tasks.domain.documents import Manifest, PostgresCapture
from pgben_tasks.domain.swap import (
    Standing,
    Swap,
    check_confirmation,
    marker,
    replaced_name,
    undone_name,
    way_back,
)
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import (
    ConfigurationError,
    PermanentError,
    PgbenError,
    RequestMistaken,
    RestoreRefused,
    TargetBusy,
    TransientError,
)
from pgben_tasks.operations import hooks, parts, spool
from pgben_tasks.operations.postgres.restore import finish_roles, select_backup
from pgben_tasks.operations.toolbox import Run, SwapRecord, Toolbox
from pgben_tasks.ports import PostgresSwap

log = structlog.get_logger(__name__)


def select(run: Run, tools: Toolbox) -> JSON:
    """Choose the backup, and refuse at once whatever stands against the swap."""
    earlier = tools.swaps.swap_of_job(run.job_id)
    if earlier is not None and _went_through(earlier, tools):
        raise RestoreRefused(
            f"job '{run.job_id}' has swapped '{earlier.live}' already",
            f"{way_back(earlier)}; ask for a new restore otherwise",
        )

    # Found out now, and not after hours of loading.
    parts.require_whole(run, tools)
    tools.hooks.check()

    def require_fitness(manifest: Manifest, into: str) -> None:
        blockers = list(_blockers(run, tools, manifest.database, room=True))
        try:
            tools.destinations[run.target].preflight(into, manifest.database, manifest.archive)
        except (ConfigurationError, RestoreRefused) as exc:
            blockers.append(exc.sentence)
        _refuse(run.target, blockers)

    return select_backup(run, tools, require_fitness)


def swap(run: Run, tools: Toolbox) -> JSON:
    """Swap the restored copy with the live database, in one transaction."""
    live, into = run.target.name, str(run.context["into"])
    server = tools.swapping[run.target]
    earlier = tools.swaps.swap_of_job(run.job_id)
    if earlier is not None and _went_through(earlier, tools):
        return {"into": live, **_conclude(run, tools, earlier)}
    _settle_others(run, tools)
    if not run.context.get("analysed"):
        run.progress.begin("analyse")
        tools.destinations[run.target].analyse(
            into, jobs=tools.limits.dump_jobs, check=run.progress.check
        )
        run.ledger.keep(context={"analysed": True})
    # What came into the way while it was loaded: found before anything else is replaced.
    _refuse(run.target, _blockers(run, tools, None, room=False))
    parts.require_turn(run, tools)
    manifest = tools.repository.manifest(run.target, BackupId.parse(run.job.backup or ""))
    run.progress.begin("swap")
    _refuse(run.target, _blockers(run, tools, None, room=False))
    live_oid, incoming_oid, was_open = server.inspect_pair(live, into)
    intended = Swap(
        job=run.job_id,
        target=run.job.target,
        live=live,
        incoming=into,
        aside=None if live_oid is None else _aside(run, tools),
        live_oid=live_oid,
        incoming_oid=incoming_oid,
        was_open=was_open,
    )
    _carry_out(run, tools, intended, restored=(manifest.database, marker(run.job_id)))
    return {"into": live, **_conclude(run, tools, intended)}


def finish(run: Run, tools: Toolbox) -> JSON:
    """Prove that the database answers under its name, to the role that will back it up."""
    run.progress.begin("finish")
    try:
        tools.sources[run.target].preflight()
    except PgbenError as exc:
        # Whether it is tried again or not: who reads this must know which database is there now.
        kind = TransientError if isinstance(exc, TransientError) else PermanentError
        done = tools.swaps.swap_of_job(run.job_id)
        raise kind(
            f"'{run.target}' was swapped and does not open: {exc.sentence}",
            exc.hint if done is None else f"{exc.hint}; {way_back(done)}",
        ) from exc
    roles = finish_roles(run, tools)
    spool.remove(run.folder)
    return {"state": "swapped", **roles}


def undo(run: Run, tools: Toolbox) -> JSON:
    """Turn a swap back: the replaced database takes its name again, the restored one is kept."""
    request = UndoRequest.parse(run.job.request)
    check_confirmation(run.target.name, request.confirm)
    parts.require_whole(run, tools)
    server = tools.swapping[run.target]
    earlier = tools.swaps.swap_of_job(run.job_id)
    if earlier is not None and _went_through(earlier, tools):
        return {"state": "undone", **_conclude(run, tools, earlier)}
    _settle_others(run, tools)
    done = tools.swaps.swap_of_job(request.job)
    if done is None or done.target != run.job.target:
        raise RequestMistaken(
            f"job '{request.job}' has swapped nothing of '{run.target}'",
            "`pgben jobs` shows the restores; only one with `in_place` can be undone",
        )
    if done.state != "done":
        raise RequestMistaken(
            f"the swap of job '{done.job}' is {_WHY_NOT[done.state]}",
            "nothing was changed; `pgben jobs` shows what happened since",
        )
    if done.aside is None:
        raise RequestMistaken(
            f"job '{done.job}' replaced nothing: there was no database '{done.live}' then",
            "nothing was changed; another backup is put in its place by a restore in place",
        )
    # What an undo sets aside is the restored database; an undo of that, the replaced one again.
    named = undone_name if done.undoes is None else replaced_name
    aside = named(done.live, tools.clock.now().astimezone(tools.zone))
    run.progress.begin("undo")
    _refuse(run.target, server.blockers(done.live, aside, None, room=False))
    live_oid, incoming_oid, was_open = server.inspect_pair(done.live, done.aside)
    # Where the restored database is gone, the kept one takes its name back all the same.
    if live_oid not in {done.incoming_oid, None} or incoming_oid != done.live_oid:
        raise RestoreRefused(
            f"'{done.live}' and '{done.aside}' are not the databases of that swap any more",
            "somebody renamed or restored meanwhile; nothing was changed",
        )
    intended = Swap(
        job=run.job_id,
        target=run.job.target,
        live=done.live,
        incoming=done.aside,
        aside=None if live_oid is None else aside,
        live_oid=live_oid,
        incoming_oid=incoming_oid,
        was_open=was_open,
        undoes=done.job,
    )
    _carry_out(run, tools, intended, restored=None)
    return {"state": "undone", **_conclude(run, tools, intended)}


def settle(swap: Swap, server: PostgresSwap, record: SwapRecord) -> Standing | None:
    """Settle a swap that an ended process left; returns None while another process settles it.

    Where the databases are no longer those of the swap nothing is guessed: the record stays open.
    """
    standing = server.settle(swap)
    if standing in {"done", "not done"}:
        record.settle(swap, "done" if standing == "done" else "abandoned")
    log.warning("swap_settled", database=swap.live, found=standing or "at work")
    return standing


_WHY_NOT: Final = {
    "intended": "not settled yet",
    "abandoned": "one that did not happen",
    "undone": "undone already",
    "dropped": "past undoing: the replaced database is no longer there",
}


def _carry_out(
    run: Run, tools: Toolbox, intended: Swap, *, restored: tuple[PostgresCapture, str] | None
) -> None:
    server = tools.swapping[run.target]
    hooks.before_swap(run, tools, (intended.live,))
    with hooks.paused(run, tools):
        run.ledger.hold()
        tools.swaps.intend(intended)
        log.info("swap_intended", database=intended.live, aside=intended.aside)
        try:
            server.exchange(intended, hold=run.ledger.hold, restored=restored)
        except BaseException:
            # Where the server does not answer the record stays open, and the reconciler settles it.
            with suppress(PgbenError):
                settle(intended, server, tools.swaps)
            raise
        tools.swaps.settle(intended, "done")
    log.info("database_swapped", database=intended.live, aside=intended.aside)


def _settle_others(run: Run, tools: Toolbox) -> None:
    """Settle what other jobs left of their swaps of this database, before it is looked at."""
    for other in tools.swaps.open(run.job.target):
        _went_through(other, tools)


def _went_through(swap: Swap, tools: Toolbox) -> bool:
    """Return whether an earlier run swapped and ended before it could record that."""
    if swap.state != "intended":
        return swap.state != "abandoned"
    standing = settle(swap, tools.swapping[Target.parse(swap.target)], tools.swaps)
    if standing is None:
        raise TargetBusy(
            f"a session of job '{swap.job}' still swaps '{swap.live}'", "it is tried again shortly"
        )
    if standing == "unclear":
        raise PermanentError(
            f"'{swap.live}' and '{swap.aside}' are not as the swap of job '{swap.job}' left them",
            "somebody renamed or removed a database meanwhile; compare with `\\l+` of psql",
        )
    return standing == "done"


def _aside(run: Run, tools: Toolbox) -> str:
    return replaced_name(run.target.name, tools.clock.now().astimezone(tools.zone))


def _blockers(
    run: Run, tools: Toolbox, capture: PostgresCapture | None, *, room: bool
) -> tuple[str, ...]:
    server = tools.swapping[run.target]
    return server.blockers(run.target.name, _aside(run, tools), capture, room=room)


def _refuse(target: Target, blockers: Sequence[str]) -> None:
    if blockers:
        raise RestoreRefused(
            f"'{target}' cannot be swapped: {'; '.join(blockers)}",
            "remove what stands in the way, or restore beside, without `in_place`",
        )


def _conclude(run: Run, tools: Toolbox, swap: Swap) -> JSON:
    """Let what was stopped for a swap go on, and return what is told of it."""
    return {**_outcome(swap, tools), **hooks.after_swap(run, tools, (swap.live,))}


def _outcome(swap: Swap, tools: Toolbox) -> JSON:
    if swap.aside is None:
        return {
            "database": swap.live,
            "note": f"there was no database '{swap.live}', so nothing was replaced",
        }
    until = (swap.settled_at or tools.clock.now()) + tools.limits.keep_replaced
    return {
        "database": swap.live,
        "replaced": swap.aside,
        "kept_until": until.replace(microsecond=0).isoformat(),
    }
