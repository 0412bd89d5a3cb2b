"""Look what a restore would bring back and what stands in its way; nothing is changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from pgben_tasks.contracts import PlanRequest
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.plan import PlannedPart, RestorePlan, size_of
from pgben_tasks.domain.points import KnownPoint
from pgben_tasks.domain.swap import replaced_name, restored_name
from pgben_tasks.domain.target import LATEST, BackupId, Target
from pgben_tasks.errors import PgbenError
from pgben_tasks.operations import spool
from pgben_tasks.operations.points.restore import choose, manifest_of
from pgben_tasks.operations.postgres.restore import room_for
from pgben_tasks.operations.repository.selection import choose_backup
from pgben_tasks.operations.toolbox import Toolbox


def plan(request: PlanRequest, tools: Toolbox) -> RestorePlan:
    """Return the plan of a restore of one target, or of everything.

    Raises ``BackupNotFound`` and ``RestoreRefused`` where there is nothing to restore.
    """
    if request.target is None:
        wanted = None if request.point == LATEST else BackupId.parse(request.point)
        return plan_of_point(choose(tools, wanted or request.at), tools)
    target = Target.parse(request.target)
    selection = choose_backup(
        tools.repository,
        target,
        request.at or request.backup,
        now=tools.clock.now(),
        here=None if tools.workers.may_sign_needs else tools.workers.restore_site(),
    )
    manifest = tools.repository.manifest(target, selection.backup.id)
    state = selection.backup.standing.state.label
    return _plan(None, [(manifest, state)], tools)


def plan_of_point(point: KnownPoint, tools: Toolbox) -> RestorePlan:
    """Return the plan of a restore of everything of a point."""
    members = zip(point.members, point.states, strict=True)
    return _plan(
        point,
        [(manifest_of(tools, one.target, one.backup), state) for one, state in members],
        tools,
    )


def _plan(
    point: KnownPoint | None, members: list[tuple[Manifest, str]], tools: Toolbox
) -> RestorePlan:
    parts = tuple(_part(manifest, state, tools) for manifest, state in members)
    return RestorePlan(
        point=point.id if point else None,
        moment=point.moment if point else members[0][0].snapshot_time,
        parts=parts,
        faults=point.check.rows if point and point.check else None,
        needed=sum(room_for(one) for one, _ in members if one.postgres is not None),
        free=shutil.disk_usage(tools.spool).free,
    )


def _part(manifest: Manifest, state: str, tools: Toolbox) -> PlannedPart:
    target = manifest.target_name
    rate = tools.jobs.restore_rate(target)
    obstacles = list(_obstacles(manifest, tools))
    live, exists, in_place = None, False, []
    try:
        if manifest.postgres is None:
            exists = tools.other_bucket(target.name).exists()
        elif target in tools.swapping:
            live = tools.swapping[target].occupied(target.name)
            exists = live is not None
            in_place = list(_against_a_swap(manifest, tools))
    except PgbenError as exc:
        obstacles.append(exc.sentence)
    size = size_of(manifest)
    return PlannedPart(
        target=target,
        backup=manifest.backup_id,
        state=state,
        moment=manifest.snapshot_time,
        objects=manifest.objects,
        rows=None if manifest.postgres is None else manifest.database.rows,
        size=size,
        stored=manifest.stored_bytes,
        exists=exists,
        live=live,
        seconds=None if not rate else size / rate,
        obstacles=tuple(obstacles),
        in_place=tuple(in_place),
    )


def _obstacles(manifest: Manifest, tools: Toolbox) -> Iterator[str]:
    """Yield what stands against any restore."""
    target = manifest.target_name
    if not tools.codec.can_open(manifest.recipients):
        yield "no identity at hand opens what is encrypted (PGBEN_AGE_IDENTITY_FILE)"
    if manifest.postgres is None:
        return
    if target not in tools.destinations:
        yield "this installation knows no server for it"
        return
    now = tools.clock.now().astimezone(tools.zone)
    try:
        spool.ensure_room(
            tools.spool, room_for(manifest), limit=tools.limits.spool_limit, what="the restore"
        )
        tools.destinations[target].preflight(
            restored_name(target.name, now), manifest.database, manifest.archive
        )
    except PgbenError as exc:
        yield exc.sentence


def _against_a_swap(manifest: Manifest, tools: Toolbox) -> Iterator[str]:
    """Yield what stands against the original being replaced."""
    target = manifest.target_name
    aside = replaced_name(target.name, tools.clock.now().astimezone(tools.zone))
    yield from tools.swapping[target].blockers(target.name, aside, manifest.database, room=True)
