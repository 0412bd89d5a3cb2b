"""The entry of every chain: read the request, find or write its job, claim it, become the chain.

Beat, the tick, a person and a second delivery of the same message all come through here, and all
reach the same row of the ledger.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, NoReturn

import structlog
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError
from redis import RedisError

from pgben_tasks import canvases
from pgben_tasks.contracts import (
    JSON,
    BackupAllRequest,
    BackupRequest,
    JobOutcome,
    Request,
    VerifyRequest,
    check_same_job,
    is_same_job,
    request_model,
)
from pgben_tasks.domain.failures import (
    error_record,
    failed_state,
    public_sentence,
    recorded_error,
)
from pgben_tasks.domain.job import EVERYTHING, Job, window_key
from pgben_tasks.domain.swap import check_confirmation
from pgben_tasks.domain.target import Target, may_hold_password
from pgben_tasks.errors import (
    FenceLost,
    PgbenError,
    RequestRefused,
    RestoreRefused,
    TargetBusy,
    TransientError,
)
from pgben_tasks.operations import spool
from pgben_tasks.operations.chains import first_context, lease_of
from pgben_tasks.operations.points.form import require_new_workers
from pgben_tasks.operations.progress import Gauge
from pgben_tasks.operations.report import require_new_workers as require_workers_with_reports
from pgben_tasks.operations.repository import hold
from pgben_tasks.tasks.base import BUSY_DELAY, PgbenTask, one_argument

log = structlog.get_logger(__name__)


class EntryTask(PgbenTask):
    """Base of the public tasks."""

    abstract = True

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Take the one argument, the request; anything else is refused as a malformed one."""
        # Celery's own would hide the request of the message behind a new one.
        return self.run(one_argument(arguments, named))

    def enter(self, kind: Any, raw: object) -> JSON:
        """Claim the job that ``raw`` asks for and replace this task by its chain.

        An ended job answers with its outcome or raises its error; a running one is left alone.
        """
        request: Request | None = None
        try:
            asked = raw.get("target") if isinstance(raw, dict) else None
            request = request_model(kind, asked).parse(raw)
            target = self._target(kind, request)
            job = self._job(kind, request, target)
        except TransientError as exc:
            self._again(exc)
        except PgbenError as exc:
            self._refuse(kind, raw, request, exc)
        with structlog.contextvars.bound_contextvars(job=str(job.id), target=job.target):
            if job.state == "succeeded":
                return JobOutcome.of_job(job).to_json()
            if job.ended:
                raise recorded_error(job)
            if job.state != "queued":
                log.info("entry_ignored", state=job.state)
                raise Ignore
            return self._become_chain(job, request)

    def _become_chain(self, job: Job, request: Request) -> JSON:
        work = self.work
        try:
            lease, context = self._lease(job, request)
            # What the context says decides on the chain.
            job = replace(job, context=context)
            ref = work.ledger.claim(
                job.id,
                node=work.node,
                first_step=canvases.first_step(job.chain),
                lease=lease,
                context=context,
                root_task=self.request.id,
                wait=work.step_wait,
            )
        except FenceLost as exc:
            raise Ignore from exc
        except TargetBusy as exc:
            if job.kind in {"restore_all", "undo_all"}:
                self._end_unclaimed(job, _under_way(exc))
            work.ledger.postpone(job.id)
            # As long as it takes: the class's own limit is for workers that are lost.
            raise self.retry(exc=exc, countdown=BUSY_DELAY, max_retries=sys.maxsize) from exc
        except TransientError as exc:
            self._again(exc)
        except PgbenError as exc:
            self._end_unclaimed(job, exc)
        self._sweep()
        work.audit(job, result="began")
        log.info("job_claimed", fence=ref.fence, node=work.node)
        self._show_claimed(job)
        chain = canvases.build(self.app, job.chain, ref.to_json(), node=work.node)
        return self.replace(chain)  # type: ignore[no-any-return]  # Celery has no types

    def _show_claimed(self, job: Job) -> None:
        """Show callers that the job has begun: its first step may wait for its node."""
        try:
            self._show_progress(
                job, self.request.id, canvases.first_step(job.chain), Gauge().read()
            )
        except (OperationalError, OSError, RedisError) as exc:
            log.warning("progress_not_shown", why=type(exc).__name__)

    def _sweep(self) -> None:
        """Make room in the spool; where that fails the steps will say so with their own error."""
        try:
            spool.sweep(self.work.settings.spool_dir, keep=self.work.open_jobs)
        except (PgbenError, OSError) as exc:
            log.warning("spool_not_swept", why=public_sentence(exc))

    def _target(self, kind: str, request: Any) -> str:
        """Check the target a request names against what this installation protects."""
        if request.target is None:
            if kind == "point":
                self._require_points(request)
            if kind == "report":
                require_workers_with_reports(self.work.workers)
            if request.replaces:
                # Which names there are to confirm is known when the recovery point is chosen.
                self._check_approval()
            return EVERYTHING
        target = Target.parse(request.target)
        if kind != "verify" and str(target) not in self.work.target_names():
            known = ", ".join(f"'{one}'" for one in self.work.target_names())
            raise RequestRefused(
                f"'{target}' is not protected by this installation",
                f"known targets: {known}; see PGBEN_DB_NAME and PGBEN_SERVERS_FILE",
            )
        entry, _ = canvases.entry(kind, str(target))
        if entry != self.name:
            raise RequestRefused(f"'{self.name}' is not for '{target}'", f"ask '{entry}'")
        if kind == "hold":
            hold.require_new_workers(self.work.workers)
        if request.replaces:
            check_confirmation(target.name, request.confirm)
            self._check_approval()
        return str(target)

    def _require_points(self, request: BackupAllRequest) -> None:
        """Refuse a recovery point where none can be; a scheduled one is left to a later tick."""
        if not self.work.settings.forms_points:
            raise RequestRefused(
                "a recovery point joins databases with buckets, and this installation does not "
                "protect both",
                "see PGBEN_DB_NAME, PGBEN_BUCKETS and PGBEN_MINIO_ACCESS_KEY; back single targets "
                "up by `pgben backup NAME`",
            )
        try:
            require_new_workers(self.work.workers)
        except RequestRefused as exc:
            if request.scheduled:
                log.info("no_point_yet", why=exc.sentence)
                raise Ignore from exc
            raise

    def _check_approval(self) -> None:
        """Refuse to replace anything where more than a name is needed for that."""
        if self.work.settings.restore_approval == "token":
            raise RequestRefused(
                "PGBEN_RESTORE_APPROVAL is 'token', and this version of pgben makes no tokens",
                "set it to 'confirm', or restore beside without a swap",
            )

    def _job(self, kind: Any, request: Request, target: str) -> Job:
        window = None
        key = request.idempotency_key
        if (
            isinstance(request, BackupRequest | BackupAllRequest | VerifyRequest)
            and request.scheduled
        ):
            schedule = self.work.schedule(kind, target)
            now = self.work.database.now()
            window = schedule.due(now, self.work.settings.catch_up) if schedule else None
            if window is None:
                log.info("no_window_due", target=target, kind=kind)
                raise Ignore
            key = window_key(kind, target, window)
        job, new = self.work.ledger.request(
            kind,
            target=target,
            key=key or f"{kind}:{target}:{self.request.id}",
            request=request.model_dump(mode="json"),
            requested_by=request.requested_by,
            window=window,
            published=True,
            root_task=self.request.id,
        )
        check_same_job(job, kind, target, request)
        if new:
            log.info("job_written", job=str(job.id), key=job.key)
        return job

    def _lease(self, job: Job, request: Request) -> tuple[tuple[str, str], JSON]:
        """Return the lease of a job from claim to end, and the context that its steps find."""
        now = self.work.database.now().astimezone(self.work.zone)
        context = first_context(job.target, request, now=now, kept=job.context)
        if job.target != EVERYTHING:
            context |= hold.existing(self.work.tools, Target.parse(job.target), request)
        return lease_of(job, request, context), context

    def _refuse(self, kind: Any, raw: object, request: Any, error: PgbenError) -> NoReturn:
        """Record a request that cannot be accepted, then raise.

        ``request`` is None when it is malformed. Nothing of such a one is believed, least of all
        its key: that may be the key of a job that is well and queued.
        """
        own = f"{kind}:refused:{self.request.id}"
        key = (request.idempotency_key if request else None) or own
        target = (request.target or EVERYTHING) if request else _safe_target(raw) or "?"
        who = request.requested_by if request else _safe_field(raw, "requested_by") or "unnamed"

        def row(key: str) -> Job:
            job, _ = self.work.ledger.request(
                kind, target=target, key=key, request={}, requested_by=who, published=True
            )
            return job

        try:
            job = row(key)
            if request is not None and not is_same_job(job, kind, target, request):
                job = row(own)
            self._end_unclaimed(job, error, in_place=request is not None and request.replaces)
        except TransientError as exc:
            self._again(exc)

    def _end_unclaimed(self, job: Job, error: PgbenError, *, in_place: bool = False) -> NoReturn:
        """End a job that no worker claimed, and raise its error.

        Of a request that was refused the ledger keeps nothing but whether it would have replaced
        something ``in_place``, which people are told.
        """
        state = failed_state(error)
        self.work.ledger.fail_unclaimed(
            job.id,
            state=state,
            error=error_record(error, self.name) | ({"in_place": "yes"} if in_place else {}),
            retry_at=self.work.next_attempt(job, state),
        )
        self.work.audit(job, result=state, detail=error.sentence)
        log.warning("job_not_begun", job=str(job.id), state=state, why=error.sentence)
        raise error


def _under_way(busy: TargetBusy) -> RestoreRefused:
    """Return the refusal of a second restore, or undo, of everything beside another one."""
    return RestoreRefused(
        f"another restore or undo of everything is under way: {busy.sentence}",
        "`pgben jobs --follow JOB` follows it; nothing was changed",
    )


def _safe_target(raw: object) -> str:
    """Return the target of a malformed request for the record, unless it is none.

    What is none may be anything: a person's number, a key.
    """
    text = _safe_field(raw, "target")
    try:
        return str(Target.parse(text)) if text else ""
    except PgbenError:
        return ""


def _safe_field(raw: object, field: str) -> str:
    """Return a field of a malformed request for the record, unless it may hold a password."""
    value = raw.get(field) if isinstance(raw, dict) else None
    if isinstance(value, str) and value.isprintable() and not may_hold_password(value):
        return value[:100]
    return ""
