"""The reconciler: every minute it sends from the ledger what the broker lost; idempotent.

Two ticks at once, two beats, a lost schedule file or a lost broker change nothing but time: every
change is one conditional UPDATE, and every message reaches the same row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from pgben_tasks import canvases, runtime
from pgben_tasks.adapters.catalog.locks import holding, is_free, job_lock
from pgben_tasks.adapters.catalog.outbox import HEARTBEAT
from pgben_tasks.adapters.catalog.recovery import Stalled
from pgben_tasks.adapters.catalog.workers import BEAT, TICK
from pgben_tasks.adapters.pings import send_ping
from pgben_tasks.adapters.redis import SetAside, broker_uptime, record_set_aside
from pgben_tasks.client import Client
from pgben_tasks.contracts import (
    JSON,
    BackupAllRequest,
    BackupRequest,
    JobRef,
    ReportRequest,
    Request,
    SweepRequest,
    VerifyRequest,
)
from pgben_tasks.domain import report_due
from pgben_tasks.domain.alarm import Alarm, AlarmKind, facts
from pgben_tasks.domain.episodes import Undecided, channel_alarm, foreign_alarm
from pgben_tasks.domain.job import EVERYTHING, MOST_LOSSES, Job, JobKind, window_key
from pgben_tasks.domain.kept_databases import RestoredDatabase, expiry_alarm
from pgben_tasks.domain.outlook import Fault
from pgben_tasks.domain.states import GOOD_LABELS, State
from pgben_tasks.domain.swap import Swap
from pgben_tasks.domain.sweeping import SWEEP_AGE
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import (
    ConfigurationError,
    PermanentError,
    PgbenError,
    TargetBusy,
    TransientError,
)
from pgben_tasks.events import NO_NAMED_ARGUMENTS, NO_WORKER, shown_arguments
from pgben_tasks.health.looks import Look, ask_once
from pgben_tasks.health.restorability import indexed_backups
from pgben_tasks.health.space import measure_server, measure_stored, space_conditions
from pgben_tasks.operations.alarms.detect import raise_alarms
from pgben_tasks.operations.alarms.pings import send_pings
from pgben_tasks.operations.alarms.send import send_alarms
from pgben_tasks.operations.history import write_history
from pgben_tasks.operations.points.form import require_new_workers
from pgben_tasks.operations.postgres import swap as swap_postgres
from pgben_tasks.operations.report import require_new_workers as require_workers_with_reports
from pgben_tasks.ports import PostgresSwap

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
#: How long a source of alarms may take, and a listing of the repository for its size.
_JUDGED_WITHIN: Final = timedelta(seconds=30)
_WHO_WRITES: Final = "find out who can write to the broker; docs/tasks.md says what a message is"


def tick(
    work: runtime.Workplace, app: Celery, *, stand_in: bool = False, hostname: str = NO_WORKER
) -> JSON:
    """Do what is due at this moment; returns how much of each was done.

    What keeps one thing from being done keeps nothing else from it; only the catalog is needed.
    ``stand_in`` says that a worker sent this tick because beat is silent, ``hostname`` is Celery's
    name of the worker that runs it.
    """
    if not stand_in:
        work.workers.send_heartbeat([BEAT])
    broker_since = _broker_since(work)
    done = {
        # First of all: a live database that a dead swap keeps closed.
        "swaps": _each(work.swaps.open(), lambda swap: _settle(work, swap)),
        "taken_over": _each(
            work.recovery.stalled(broker_since=broker_since),
            lambda one: _revive(work, app, one, hostname),
        ),
        "windows": _each(work.timetable(), lambda due: _begin_window(work, *due)),
        "reports": _each([work], _begin_report),
        "sweeps": _each(work.target_names(), lambda target: _begin_sweep(work, target)),
        # Before failed jobs are queued again: what they failed of is then forgotten.
        "alarms_raised": _each([work], _raise_alarms),
        "published": publish_due(work, app, broker_since=broker_since),
        "set_aside": _each([work], _record_set_aside),
        # Before anything that a server in trouble may hold up.
        "alarms_sent": _each([work], _send_alarms),
        "measured": _each([work], _measure_stored) + _measure_servers(work),
        "cleaned": _each(work.ledger.to_clean(), lambda job: _clean(work, job)),
        "dropped": _each(
            work.swaps.expired(work.settings.keep_replaced), lambda swap: _drop(work, swap)
        ),
        "expired": _each(
            work.restored.expired(work.settings.keep_restored), lambda one: _expire(work, one)
        ),
        # After what this tick ended itself.
        "history": _bounded(work, "history", _write_history),
        "ends_entered": _each([work], lambda place: place.trail.append_ends()),
        "audited": _bounded(work, "audit trail", lambda place: place.trail.store_missing()),
    }
    work.workers.send_heartbeat([TICK])
    done["pings"] = _each([work], lambda place: _send_pings(place, stand_in=stand_in))
    if any(done.values()):
        log.info("ticked", **done)
    return dict(done)


def _broker_since(work: runtime.Workplace) -> datetime | None:
    """Return when the broker was started, by the catalog's clock; None when it does not say."""
    try:
        uptime = broker_uptime(work.settings.redis_url.get_secret_value())
    except PgbenError as exc:
        log.warning("broker_not_asked", why=exc.sentence)
        return None
    return work.database.now() - uptime


def _each(things: Iterable[_T], do: Callable[[_T], int]) -> int:
    """Do something with each of several things, and count; a failure is logged, not final."""
    count = 0
    for thing in things:
        try:
            count += do(thing)
        except (PgbenError, OperationalError) as exc:
            log.warning("tick_part_failed", why=getattr(exc, "sentence", type(exc).__name__))
    return count


def _bounded(work: runtime.Workplace, what: str, do: Callable[[runtime.Workplace], int]) -> int:
    """Do what writes to folders that may hang, and count; nothing waits for it for long."""

    def bounded(place: runtime.Workplace) -> int:
        found = ask_once(what, partial(do, place), within=_JUDGED_WITHIN)
        if isinstance(found, Fault):
            raise TransientError(found.sentence, found.hint)
        return found

    return _each([work], bounded)


def _raise_alarms(work: runtime.Workplace) -> int:
    now = work.database.now()
    with work.database.kept():
        return raise_alarms(
            work.records,
            work.outbox,
            job=work.ledger.job,
            timetable=work.timed(),
            bounds=work.bounds,
            conditions=conditions(work, now),
            now=now,
        )


def conditions(work: runtime.Workplace, now: datetime) -> Iterator[Alarm | Undecided]:
    """Yield what holds beside what the ledger says; a source that cannot be asked decides nothing.

    Sources are looked at one after another, each with the kind of its alarms.
    """
    sources: tuple[tuple[AlarmKind, Callable[[], Iterable[Alarm | Undecided]]], ...] = (
        ("expiring", lambda: _expiring(work, now)),
        ("foreign", lambda: _foreign(work, now)),
        ("audit", lambda: _broken_trail(work, now)),
        ("space", lambda: space_conditions(work, now=now)),
        ("channel", lambda: _failing_channels(work, now)),
    )
    for kind, source in sources:
        # One asks the repository, which may hang: alarms are sent all the same.
        found = Look(kind, partial(_listed, work, source)).outcome(_JUDGED_WITHIN)
        if isinstance(found, Fault):
            log.warning("condition_not_judged", kind=kind, why=found.sentence)
            yield Undecided(kind)
        else:
            yield from found


def _listed(
    work: runtime.Workplace, source: Callable[[], Iterable[Alarm | Undecided]]
) -> list[Alarm | Undecided]:
    with work.database.kept():
        return list(source())


def _expiring(work: runtime.Workplace, now: datetime) -> Iterator[Alarm]:
    keep = work.settings.keep_restored
    yield from (expiry_alarm(one, keep=keep, now=now) for one in work.restored.expiring(keep))


def _foreign(work: runtime.Workplace, now: datetime) -> Iterator[Alarm]:
    """Yield the databases whose newest good backup the restore workers cannot load."""
    for target in work.settings.postgres_targets():
        for backup in indexed_backups(work, target):
            if backup.suspect and not backup.acknowledged:
                continue
            if backup.state == State.NOT_RESTORABLE.label:
                yield foreign_alarm(str(target), backup.id, backup.needs or "?", now=now)
            if backup.state in {*GOOD_LABELS, State.NOT_RESTORABLE.label}:
                break


def _broken_trail(work: runtime.Workplace, now: datetime) -> Iterator[Alarm]:
    """Yield that the catalog's next audit entry contradicts what the repository has."""
    if (why := work.trail.conflict()) is not None:
        yield Alarm(
            key="audit",
            kind="audit",
            target="",
            happened_at=now,
            facts=facts(sentence=why.sentence, hint=why.hint),
        )


def _failing_channels(work: runtime.Workplace, now: datetime) -> Iterator[Alarm]:
    records = work.outbox.channels()
    for channel in work.channels:
        record = records.get(channel.name)
        if record is None or record.failing_since is None:
            continue
        why = record.last_error or "?"
        if alarm := channel_alarm(channel.name, record.failing_since, why, now=now):
            yield alarm


def _measure_stored(work: runtime.Workplace) -> int:
    now = work.database.now()
    found = Look(work.settings.repository, partial(measure_stored, work, now=now)).outcome(
        _JUDGED_WITHIN
    )
    if isinstance(found, Fault):
        log.warning("space_not_measured", why=found.sentence)
        return 0
    return found


def _measure_servers(work: runtime.Workplace) -> int:
    """Measure each server's disk; one that is down hides no other."""
    now = work.database.now()
    servers = dict.fromkeys(runtime.postgres_servers(work.settings).values())
    return _each(servers, lambda server: measure_server(work, server, now=now))


def _record_set_aside(work: runtime.Workplace) -> int:
    """Record the messages that workers set aside, and raise the alarm for each.

    All at once: several ticks may meet hundreds of them, and each would commit twice for each.
    """

    def record(messages: Sequence[SetAside], dropped: int) -> None:
        # Recorded again after a crash, each has the same detail.
        work.trail.append_missing(
            (f"{_of_message(one)}, {one.id}" for one in messages),
            who="unnamed",
            action="message",
            target=EVERYTHING,
            result="set aside",
        )
        alarms = [
            Alarm(
                key=f"message:{one.id}",
                kind="message",
                target="",
                happened_at=one.at,
                facts=facts(work="message", sentence=_of_message(one), hint=_WHO_WRITES),
            )
            for one in messages
        ]
        work.outbox.add_all(alarms, now=work.database.now())
        if dropped:
            _record_dropped(work, dropped)

    return record_set_aside(work.settings.redis_url.get_secret_value(), record)


def _record_dropped(work: runtime.Workplace, count: int) -> None:
    """Record that the list had no room for so many messages, and raise one alarm."""
    now = work.database.now()
    said = _of_dropped(count)
    work.trail.append(
        who="unnamed", action="message", target=EVERYTHING, result="dropped", detail=said
    )
    alarm = Alarm(
        key=f"messages-dropped:{now:%Y-%m-%dT%H:%M:%S.%fZ}",
        kind="message",
        target="",
        happened_at=now,
        facts=facts(work="message", sentence=said, hint=_WHO_WRITES),
    )
    work.outbox.add_all([alarm], now=now)


def _of_dropped(count: int) -> str:
    return f"{count} more messages were set aside than the list has room for; they are not kept"


def _of_message(one: SetAside) -> str:
    return (
        f"a message of the queue '{one.queue}' was set aside: {one.why} ({one.size} bytes, "
        f"SHA-256 {one.sha256})"
    )


def _send_alarms(work: runtime.Workplace) -> int:
    # Without any channel alarms stay in the outbox; that was said once, when the worker started.
    return send_alarms(
        work.outbox,
        work.channels,
        begin=Look,
        letterhead=work.letterhead,
        restorable=work.records.restorable,
        now=work.database.now(),
    )


def _write_history(work: runtime.Workplace) -> int:
    return write_history(
        work.history, runtime.history_folders(work.settings), zone=work.zone, node=work.node
    )


def _send_pings(work: runtime.Workplace, *, stand_in: bool) -> int:
    secret = work.settings.heartbeat_url
    if secret is None:
        return 0
    now = work.database.now()
    result = send_pings(
        work.ping_log,
        work.records,
        template=secret.get_secret_value(),
        watched=set(work.timetable()),
        send=send_ping,
        begin=Look,
        # One that a worker sent because beat is silent does not say that all is well.
        ticked=not stand_in,
        now=now,
    )
    if result.asked and work.outbox.note_channel(HEARTBEAT, error=result.error, now=now):
        if result.error:
            log.warning("pings_not_taken", why=result.error)
        else:
            log.info("pings_taken_again")
    return result.sent


def publish_due(
    work: runtime.Workplace, app: Celery, *, broker_since: datetime | None = None
) -> int:
    """Send the entry messages of jobs that wait for one; return how many."""
    due = work.recovery.to_publish(broker_since=broker_since)
    return _each(due, lambda one: _publish(work, app, one[0]))


def _publish(work: runtime.Workplace, app: Celery, job: UUID) -> int:
    publish(app, work.ledger.job(job))
    return 1


def _clean(work: runtime.Workplace, job: Job) -> int:
    """Remove what an ended job left, unless a step of it still runs or it was begun again."""
    try:
        with holding(work.database, [job_lock(job.id)]):
            if not work.ledger.job(job.id).ended:
                return 0
            runtime.abandon(job, work.tools)
            work.ledger.cleaned(job.id)
    except TargetBusy:
        return 0
    log.info("job_cleaned", job=str(job.id))
    return 1


def _settle(work: runtime.Workplace, swap: Swap) -> int:
    """End the swap of a dead process, so that the live database answers again, as old or new."""
    server = _server(work, swap)
    try:
        # No step of the job may intend anew while what it intended before is judged.
        with holding(work.database, [job_lock(swap.job)]):
            return int(swap_postgres.settle(swap, server, work.swaps) in {"done", "not done"})
    except TargetBusy:
        return 0


def _server(work: runtime.Workplace, swap: Swap) -> PostgresSwap:
    """Return the server of a swap, as long as the settings name its target."""
    server = work.swapping.get(Target.parse(swap.target))
    if server is None:
        raise ConfigurationError(
            f"the swap of job '{swap.job}' is about '{swap.target}', which is not protected any "
            "more",
            "name the target in the settings again, or look after its databases by hand",
        )
    return server


def _drop(work: runtime.Workplace, swap: Swap) -> int:
    """Remove a replaced database whose time is over, unless somebody opened it again."""
    server = _server(work, swap)
    try:
        with holding(work.database, [job_lock(swap.job)]):
            if swap not in work.swaps.expired(work.settings.keep_replaced):
                # Since they were listed, somebody decided to keep it, or asked to undo the swap.
                return 0
            found = server.drop(swap)
    except TargetBusy:
        return 0
    log.info("replaced_database", database=swap.aside, job=str(swap.job), found=found)
    if found == "in use":
        return 0
    work.swaps.dropped(swap)
    work.trail.append(
        who="schedule",
        action="drop replaced",
        target=swap.target,
        job=str(swap.job),
        result=found,
        detail=f"database '{swap.aside}'",
    )
    return 1


def _expire(work: runtime.Workplace, one: RestoredDatabase) -> int:
    """Remove a restored copy whose time is over, unless somebody uses it or wrote to it."""
    target = Target.parse(one.target)
    server = work.keeping.get(target)
    if server is None:
        raise ConfigurationError(
            f"the copy '{one.name}' is one of '{target}', which is not protected any more",
            "name the target in the settings again, or look after its databases by hand",
        )
    try:
        # Two ticks at once would each see the other's session.
        with holding(work.database, [job_lock(one.job)]):
            if one not in work.restored.expired(work.settings.keep_restored):
                # Since they were listed, somebody decided to keep it.
                return 0
            if Target("postgres", one.name) in work.keeping:
                work.restored.keep(one, "it is protected itself")
                return 1
            found = server.drop_unchanged(one, live=target.name)
    except TargetBusy:
        return 0
    log.info("restored_database", database=one.name, job=str(one.job), found=found)
    if found == "in use":
        return 0
    if found == "written":
        work.restored.keep(one, "somebody wrote to it")
    else:
        work.restored.gone(one)
    work.trail.append(
        who="schedule",
        action="drop restored",
        target=one.target,
        job=str(one.job),
        result="kept" if found == "written" else found,
        detail=f"database '{one.name}'",
    )
    return 1


def publish(app: Celery, job: Job) -> None:
    """Send the entry message of a queued job; the ledger has its request."""
    entry, queue = canvases.entry(job.kind, job.target)
    args = (job.request_again,)
    app.send_task(
        entry,
        args=args,
        argsrepr=shown_arguments(args),
        kwargsrepr=NO_NAMED_ARGUMENTS,
        queue=queue,
        task_id=job.root_task,
    )
    log.info("job_published", job=str(job.id), key=job.key)


def _begin_window(work: runtime.Workplace, kind: JobKind, target: str) -> int:
    """Write the job of the due window unless it is there; ``to_publish`` sends it."""
    schedule = work.schedule(kind, target)
    window = schedule.due(work.database.now(), work.settings.catch_up) if schedule else None
    if window is None:
        return 0
    if kind == "point":
        # Workers of a version that knows no such jobs could not even publish one.
        require_new_workers(work.workers)
    request: Request
    if kind == "backup":
        request = BackupRequest(target=target, requested_by="schedule")
    elif kind == "point":
        request = BackupAllRequest(requested_by="schedule")
    else:
        request = VerifyRequest(level="full", requested_by="schedule")
    _, new = work.ledger.request(
        kind,
        target=target,
        key=window_key(kind, target, window),
        request=request.model_dump(mode="json"),
        requested_by="schedule",
        window=window,
    )
    return int(new)


def _begin_report(work: runtime.Workplace) -> int:
    """Write the report of the week once its verification has ended, or was waited for.

    A report that was made already, whatever became of it, is not made again.
    """
    schedule = work.schedule("verify", EVERYTHING)
    if schedule is None:
        return 0
    now = work.database.now()
    window = report_due.window_to_report(schedule, now=now, since=work.reports.since())
    if window is None:
        return 0
    key = window_key("report", EVERYTHING, window)
    if work.records.known([key]):
        return 0
    verification = work.ledger.by_key(window_key("verify", EVERYTHING, window))
    if not report_due.is_due(window, verification, now=now):
        return 0
    # Workers of a version that knows no such jobs could not even publish one.
    require_workers_with_reports(work.workers)
    _, new = work.ledger.request(
        "report",
        target=EVERYTHING,
        key=key,
        request=ReportRequest(requested_by="schedule").model_dump(mode="json"),
        requested_by="schedule",
        window=window,
    )
    return int(new)


def _begin_sweep(work: runtime.Workplace, target: str) -> int:
    """Write the day's sweep of a target unless it is there; ``to_publish`` sends it.

    In the first days of a target nothing can be old enough to be left over.
    """
    now = work.database.now()
    since = work.ledger.known_since(Target.parse(target))
    if since is None or now - since <= SWEEP_AGE:
        return 0
    _, new = work.ledger.request(
        "sweep",
        target=target,
        key=f"sweep:{target}:{now.astimezone(work.zone):%Y-%m-%d}",
        request=SweepRequest(target=target, requested_by="schedule").model_dump(mode="json"),
        requested_by="schedule",
    )
    return int(new)


def _revive(work: runtime.Workplace, app: Celery, stalled: Stalled, hostname: str) -> int:
    """Continue a stalled job where a worker has its files, else queue it again for any node."""
    if not is_free(work.database, job_lock(stalled.job)):
        # Its process runs and is only cut off from the catalog; its heartbeat will come back.
        return 0
    if stalled.losses >= MOST_LOSSES:
        return _give_up(work, app, stalled, hostname)
    job = work.ledger.job(stalled.job)
    if canvases.has_step(job.chain, stalled.step):
        if not canvases.needs_its_node(job.chain, stalled.step):
            return _go_on(work, app, stalled, job) if _is_awaited(work, stalled) else 0
        if stalled.node_alive:
            return _go_on(work, app, stalled, job)
    # The job is queued without a message; ``to_publish`` of this very tick sends one.
    if not work.recovery.begin_again(stalled):
        return 0
    log.warning("job_begun_again", job=str(stalled.job), step=stalled.step, why=stalled.why)
    return 1


def _is_awaited(work: runtime.Workplace, stalled: Stalled) -> bool:
    """Return whether a step that any worker of its role may take should be sent again.

    While it waits and there is no such worker, nothing is lost by waiting on.
    """
    role = canvases.entry_queue(stalled.kind)
    has_worker = any(name.startswith(f"{role}.") for name in work.workers.living())
    return stalled.state == "running" or stalled.overdue or has_worker


def _go_on(work: runtime.Workplace, app: Celery, stalled: Stalled, job: Job) -> int:
    """Take a job over and send the rest of its chain, from the step where it stood."""
    ref = work.recovery.take_over(stalled, wait=work.step_wait)
    if ref is None:
        return 0
    chain = canvases.build(
        app,
        job.chain,
        ref.to_json(),
        node=stalled.node,
        start=stalled.step,
        root_task=job.root_task,
    )
    try:
        chain.apply_async()
    except OperationalError:
        work.recovery.step_not_sent(ref)
        raise
    log.warning("step_taken_over", job=str(job.id), step=stalled.step, why=stalled.why)
    return 1


def _give_up(work: runtime.Workplace, app: Celery, stalled: Stalled, hostname: str) -> int:
    """Fail a job during whose step one worker after another was lost."""
    job = work.ledger.job(stalled.job)
    error = {
        "type": "PermanentError",
        "sentence": f"its worker was lost {stalled.losses} times in a row in '{stalled.step}'",
        "hint": "look for a lack of memory or a crash in the worker's log and the kernel's",
        "step": stalled.step,
    }
    work.ledger.fail(
        JobRef(job=job.id, fence=stalled.fence),
        state="failed",
        error=error,
        retry_at=work.next_attempt(job, "failed"),
    )
    work.audit(job, result="failed", detail=error["sentence"])
    log.error("job_given_up", job=str(job.id), step=stalled.step, losses=stalled.losses)
    if job.root_task is not None:
        _tell_given_up(work, app, job.root_task, error, hostname)
    return 1


def _tell_given_up(
    work: runtime.Workplace, app: Celery, task_id: str, error: JSON, hostname: str
) -> None:
    """Write a job's end for callers that wait: no step of it is left that would."""
    client = Client(work.settings.redis_url.get_secret_value(), app=app)
    try:
        client.tell_end(
            task_id, PermanentError(error["sentence"], error["hint"]), hostname=hostname
        )
    except (TransientError, ConfigurationError) as exc:
        log.warning("end_not_told", why=exc.sentence)
