"""Carry out retention: the plan is made in ``domain/retention.py``, this removes what it names.

A manifest goes first, then the packs that no remaining manifest names; a signed decision with the
reasons stays behind, so that the gap in the chain of manifests is explained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import structlog

from pgben_tasks.contracts import JSON, PruneRequest
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.retention import (
    Clocks,
    Plan,
    PointsPlan,
    plan,
    plan_points,
    unreferenced,
)
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import FenceLost, PgbenError, PruneRefused
from pgben_tasks.language import counted
from pgben_tasks.operations.repository import hold, statements
from pgben_tasks.operations.repository.points import surveyed_points
from pgben_tasks.operations.repository.survey import Survey, is_pruned, orphans, survey
from pgben_tasks.operations.room import NOT_AWAITED, is_awaited
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)


def after_backup(run: Run, tools: Toolbox) -> JSON:
    """Prune as a step of a backup: what goes wrong here is a finding, never a failed backup.

    A backup that was asked for together with a hold is held before; without that nothing goes.
    """
    held = hold.as_asked(run, tools)
    try:
        if "hold_failed" in held:
            raise PruneRefused(
                "the new backup could not be held", "pruning waits for the next backup"
            )
        own = BackupId.parse(run.job.backup) if run.job.backup else None
        return {**held, "prune": prune(run, tools, dry_run=False, own=own)}
    except FenceLost:
        raise
    except PgbenError as exc:
        log.warning("prune_refused", why=exc.sentence, hint=exc.hint)
        return {**held, "prune": {"refused": exc.sentence, "hint": exc.hint, "expired": []}}


def on_demand(run: Run, tools: Toolbox) -> JSON:
    """Prune because somebody asked; a refusal is raised."""
    request = PruneRequest.parse(run.job.request)
    if not is_awaited(run, tools):
        # It may be reading what would be removed.
        return {"prune": {"refused": NOT_AWAITED, "expired": [], "decisions": []}}
    return {"prune": prune(run, tools, dry_run=request.dry_run)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What retention decided for one target, from what it saw, and for the recovery points."""

    plan: Plan
    points: PointsPlan
    surveyed: Survey

    def knows(self, points: Iterable[BackupId]) -> bool:
        """Return whether all of these recovery points were there when it was decided."""
        known = {one.id for one, _ in self.points.keep} | {one.id for one in self.points.expire}
        return set(points) <= known


def decide(tools: Toolbox, target: Target, *, own: BackupId | None = None) -> Decided:
    """Return the plan for one target, ``own`` being the backup whose chain asks.

    Raises ``PruneRefused`` when a manifest or a recovery point cannot be believed.
    """
    # Before the points: what a job has joined since then is in one of both.
    named = tools.captures.named(target) - {str(own)}
    surveyed = survey(tools.repository, target)
    surveyed.require_readable(PruneRefused)
    found = surveyed_points(tools.repository, surveys=[surveyed])
    found.require_readable(PruneRefused)
    now = tools.clock.now()
    policy = tools.limits.retention
    schedule = tools.schedules.get(target.kind)
    if schedule is not None:
        policy = replace(policy, interval=schedule.interval(now))
    points = plan_points(found.points, now=now, policy=policy)
    decided = plan(
        surveyed.known,
        now=now,
        policy=policy,
        own=own,
        named=named,
        joined=points.members_of(target),
    )
    clocks = Clocks(catalog=now, worker=tools.own_clock.now(), store=tools.repository.now())
    doubt = clocks.doubt()
    if doubt is not None:
        decided = decided.refusing(*doubt)
    return Decided(plan=decided, points=points, surveyed=surveyed)


def prune(run: Run, tools: Toolbox, *, dry_run: bool, own: BackupId | None = None) -> JSON:
    """Remove what the plan expires; with ``dry_run`` only return what would go."""
    run.progress.begin("prune")
    found = decide(tools, run.target, own=own)
    decided, surveyed = found.plan, found.surveyed
    rows = [
        {"backup": backup, "decision": verdict, "reasons": reasons}
        for backup, verdict, reasons in decided.explain()
    ]
    if decided.refused is not None and not dry_run:
        decided.check()
    gone: list[str] = []
    points = [] if decided.refused is not None else [str(one.id) for one in found.points.expire]
    stored = tools.repository.packs(run.target)
    # A run that was killed between manifest and packs signed its decision first.
    left = [one for one in orphans(tools.repository, surveyed, stored) if one.pruned]
    if (decided.expire or left or points) and not dry_run:
        with run.try_lock("read") as free:
            if not free:
                raise PruneRefused(
                    f"a restore or verification of '{run.target}' is reading the repository",
                    "pruning waits for the next backup",
                )
            _require_unasked(tools, run.target, decided.expire)
            for point in found.points.expire if points else ():
                for target, backup in sorted(point.backups):
                    _require_unasked(tools, target, [backup])
            if not found.knows(tools.repository.points()):
                raise PruneRefused(
                    "a recovery point was formed while it was decided what goes",
                    "pruning waits for the next backup",
                )
            # Before their members, so that no point ever names a backup that retention removed.
            _remove_points(run, tools, points)
            gone = _carry_out(run, tools, decided, surveyed)
            for pack in chain.from_iterable(one.packs for one in left):
                _remove_pack(run, tools, pack.key)
    if not dry_run:
        _settle(tools, surveyed)
    return {
        "expired": gone,
        "would_expire": [str(backup) for backup in decided.expire] if dry_run else [],
        "points": points,
        "refused": decided.refused,
        "decisions": rows,
    }


def _require_unasked(tools: Toolbox, target: Target, going: Sequence[BackupId]) -> None:
    """Raise ``PruneRefused`` when somebody asked for a backup, or held it, after the plan was made.

    A restore that chose its backup since then has left the lock again, and so has a hold.
    """
    if tools.captures.named(target) & {str(backup) for backup in going}:
        raise PruneRefused(
            f"a job of '{target}' has just asked for a backup that would be removed",
            "pruning waits for the next backup",
        )
    now = tools.clock.now()
    for backup in going:
        if hold.held_now(tools, target, backup, now) is not None:
            raise PruneRefused(
                f"backup '{backup}' of '{target}' has just been held",
                "pruning waits for the next backup",
            )


def _remove_points(run: Run, tools: Toolbox, points: Sequence[str]) -> None:
    for point in points:
        run.ledger.hold()
        tools.repository.remove_point(BackupId.parse(point))
        tools.index.remove_point(BackupId.parse(point))
        log.info("recovery_point_expired", point=point)


def _carry_out(run: Run, tools: Toolbox, decided: Plan, surveyed: Survey) -> list[str]:
    manifests = {backup.known.id: backup.manifest for backup in surveyed.backups}
    removed: list[Manifest] = []
    for backup in decided.expire:
        run.ledger.hold()
        _explain(run, tools, manifests[backup])
        tools.repository.remove_manifest(run.target, backup)
        tools.index.set_state(run.target, str(backup), "expired")
        removed.append(manifests.pop(backup))
        log.info("backup_expired", backup=str(backup))
    stored = tools.repository.packs(run.target)
    for path in unreferenced(stored, remaining=manifests.values(), gone=removed):
        _remove_pack(run, tools, path)
    return [manifest.backup for manifest in removed]


def _settle(tools: Toolbox, surveyed: Survey) -> None:
    """Write into the index what a run removed that was killed before it did so."""
    for known in tools.index.backups(surveyed.target):
        backup = BackupId.parse(known.id)
        if surveyed.readable_backup(backup) is None and is_pruned(
            tools.repository, surveyed.target, backup
        ):
            tools.index.set_state(surveyed.target, known.id, "expired")
    stored = {str(point) for point in tools.repository.points()}
    for point in tools.index.points():
        if point.id not in stored:
            tools.index.remove_point(BackupId.parse(point.id))


def _remove_pack(run: Run, tools: Toolbox, path: str) -> None:
    run.ledger.hold()
    tools.repository.remove_pack(path)
    log.info("pack_removed", pack=path)


def _explain(run: Run, tools: Toolbox, manifest: Manifest) -> None:
    age = counted(tools.limits.retention.max_age.days, "day")
    reasons = (f"older than {age} and kept by no rule",)
    statements.sign_statement(run, tools, manifest, "prune", reasons=reasons)
