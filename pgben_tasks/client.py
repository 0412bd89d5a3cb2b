"""Enqueue pgben's work from another service: light to import, needs only the broker.

    client = Client("redis://:secret@queue.example:6379/0")
    job = client.backup("postgres/pgben", requested_by="billing", idempotency_key="close-2026-11")
    outcome = job.get(timeout=3600)

Requests are checked here, before anything is sent, and again by the worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from pgben_tasks import canvases, names
from pgben_tasks.app import create_app
from pgben_tasks.contracts import TASK_REQUESTS, Request, request_model
from pgben_tasks.errors import ConfigurationError, PgbenError, TransientError
from pgben_tasks.events import NO_NAMED_ARGUMENTS, NO_WORKER, send_failure, shown_arguments

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Literal
    from uuid import UUID

    from celery import Celery

#: A person or a service waits for this call, so it fails after a few seconds, not minutes.
_PUBLISH = {"max_retries": 3, "interval_start": 0, "interval_step": 0.5, "interval_max": 1}
_CONNECT_TIMEOUT = 3
#: How long a server may be silent: a frozen one takes a connection and never answers on it.
_SILENCE = {"socket_timeout": 2, "socket_connect_timeout": 2}


class Asked(TypedDict, total=False):
    """Who asks, "unnamed" by default, and under which key: one key begins one job."""

    requested_by: str
    idempotency_key: str | None


class Kept(Asked, total=False):
    """For how long a backup is held, for what and why, and which existing one will do.

    See ``contracts.BackupRequest``; lengths of time may be text like ``14d``.
    """

    hold_for: timedelta | str
    label: str
    reason: str
    max_age: timedelta | str


class ObjectsChoice(Asked, total=False):
    """What of a snapshot is restored, and where to: see ``contracts.BucketRestoreRequest``."""

    backup: str
    at: datetime
    into: str
    put_below: str
    prefix: str
    keys: Sequence[str]
    allow_unverified: bool
    allow_damaged: bool
    settings: bool
    in_place: bool
    confirm: str
    delete_extra: bool


class Client:
    """Sends requests to pgben's workers through the broker at ``redis_url``."""

    def __init__(self, redis_url: str, *, app: Celery | None = None) -> None:
        """Connect lazily: nothing is sent before the first request.

        Raises ``ConfigurationError`` when ``redis_url`` is not the URL of a Redis database.
        """
        if app is None:
            app = _app_at(redis_url)
            app.conf.broker_transport_options.update(_SILENCE)
        self._app = app

    def backup(self, target: str, *, scheduled: bool = False, **asked: Unpack[Kept]) -> AsyncResult:
        """Ask for a backup of ``postgres/<name>``; see ``contracts.BackupRequest``."""
        return self._ask("backup", target=target, scheduled=scheduled, **asked)

    def backup_all(self, *, scheduled: bool = False, **asked: Unpack[Kept]) -> AsyncResult:
        """Ask for backups of everything and a recovery point; ``contracts.BackupAllRequest``."""
        return self._ask("point", scheduled=scheduled, **asked)

    def restore(
        self,
        target: str,
        *,
        backup: str = "latest",
        at: datetime | None = None,
        into: str | None = None,
        swap: bool = False,
        confirm: str | None = None,
        **asked: Unpack[Asked],
    ) -> AsyncResult:
        """Ask for a restore beside the original, or in its place; ``contracts.RestoreRequest``."""
        choice = {"backup": backup, "at": at, "into": into, "swap": swap, "confirm": confirm}
        return self._ask("restore", target=target, **choice, **asked)

    def restore_objects(self, target: str, **choice: Unpack[ObjectsChoice]) -> AsyncResult:
        """Ask for a snapshot's objects in another bucket, or in their own.

        ``choice`` are the fields of ``contracts.BucketRestoreRequest``; without any the newest
        verified snapshot comes back whole, in a new bucket.
        """
        return self._ask("restore", target=target, **choice)

    def restore_all(
        self,
        *,
        point: str = "latest",
        at: datetime | None = None,
        in_place: bool = False,
        confirm: Sequence[str] = (),
        **asked: Unpack[Asked],
    ) -> AsyncResult:
        """Ask for everything of a recovery point; see ``contracts.RestoreAllRequest``."""
        choice = {"point": point, "at": at, "in_place": in_place, "confirm": tuple(confirm)}
        return self._ask("restore_all", **choice, **asked)

    def undo_all(
        self, job: UUID | str, *, confirm: Sequence[str], **asked: Unpack[Asked]
    ) -> AsyncResult:
        """Ask to turn every swap of a restore of everything back; ``contracts.UndoAllRequest``."""
        return self._ask("undo_all", job=job, confirm=tuple(confirm), **asked)

    def plan(
        self, target: str | None = None, *, expires: float | None = None, **choice: Any
    ) -> AsyncResult:
        """Ask what a restore would bring back; see ``contracts.PlanRequest``.

        Nobody answers any more once ``expires`` seconds are over.
        """
        return self.ask(names.CATALOG_PLAN, {"target": target, **choice}, expires)

    def backups(
        self, target: str | None = None, *, expires: float | None = None, **choice: Any
    ) -> AsyncResult:
        """Ask which backups, or recovery points, there are; ``contracts.CatalogBackupsRequest``.

        Nobody answers any more once ``expires`` seconds are over.
        """
        return self.ask(names.CATALOG_BACKUPS, {"target": target, **choice}, expires)

    def jobs(
        self, target: str | None = None, *, expires: float | None = None, **choice: Any
    ) -> AsyncResult:
        """Ask which jobs there are; see ``contracts.CatalogJobsRequest``.

        Nobody answers any more once ``expires`` seconds are over.
        """
        return self.ask(names.CATALOG_JOBS, {"target": target, **choice}, expires)

    def status(self, *, expires: float | None = None) -> AsyncResult:
        """Ask whether everything can be restored, and whether everything works.

        Nobody answers any more once ``expires`` seconds are over.
        """
        return self.ask(names.CATALOG_STATUS, {}, expires)

    def cancel(
        self, job: UUID | str, *, requested_by: str = "unnamed", expires: float | None = None
    ) -> AsyncResult:
        """Ask to cancel a job; see ``contracts.CancelRequest``.

        Nobody cancels it any more once ``expires`` seconds are over.
        """
        fields = {"job": job, "requested_by": requested_by}
        return self.ask(names.CANCEL_RUN, fields, expires)

    def undo(
        self, target: str, job: UUID | str, *, confirm: str, **asked: Unpack[Asked]
    ) -> AsyncResult:
        """Ask to turn the swap of ``job`` back; see ``contracts.UndoRequest``."""
        return self._ask("undo", target=target, job=job, confirm=confirm, **asked)

    def verify(
        self,
        target: str | None = None,
        *,
        backup: str | None = None,
        level: Literal["quick", "full"] = "quick",
        **asked: Unpack[Asked],
    ) -> AsyncResult:
        """Ask for a verification; see ``contracts.VerifyRequest``."""
        return self._ask("verify", target=target, backup=backup, level=level, **asked)

    def prune(self, target: str, *, dry_run: bool = False, **asked: Unpack[Asked]) -> AsyncResult:
        """Ask for retention of one target; see ``contracts.PruneRequest``."""
        return self._ask("prune", target=target, dry_run=dry_run, **asked)

    def acknowledge(
        self,
        target: str,
        backup: str | None = None,
        *,
        keys: Sequence[str] = (),
        reason: str | None = None,
        **asked: Unpack[Asked],
    ) -> AsyncResult:
        """Record that a suspect backup is plausible, or that keys (their SHA-256) are lost.

        See ``contracts.AcknowledgeRequest``.
        """
        choice = {"backup": backup, "keys": tuple(keys), "reason": reason}
        return self._ask("acknowledge", target=target, **choice, **asked)

    def hold(
        self,
        target: str,
        backup: str,
        *,
        reason: str,
        until: datetime | None = None,
        keep_for: timedelta | str | None = None,
        label: str | None = None,
        **asked: Unpack[Asked],
    ) -> AsyncResult:
        """Ask that retention keeps one backup; see ``contracts.HoldRequest``."""
        choice = {"until": until, "keep_for": keep_for, "label": label, "reason": reason}
        return self._ask("hold", target=target, backup=backup, **choice, **asked)

    def release(
        self, target: str, backup: str, *, reason: str, **asked: Unpack[Asked]
    ) -> AsyncResult:
        """Ask that retention keeps one backup no longer; see ``contracts.HoldRequest``."""
        choice = {"reason": reason, "release": True}
        return self._ask("hold", target=target, backup=backup, **choice, **asked)

    def sweep(self, target: str, *, dry_run: bool = False, **asked: Unpack[Asked]) -> AsyncResult:
        """Ask for the removal of what ended runs left; see ``contracts.SweepRequest``."""
        return self._ask("sweep", target=target, dry_run=dry_run, **asked)

    def report(self, *, mail: bool = True, **asked: Unpack[Asked]) -> AsyncResult:
        """Ask for a report of everything, which is mailed; see ``contracts.ReportRequest``."""
        return self._ask("report", mail=mail, **asked)

    def _ask(self, kind: str, **fields: Any) -> AsyncResult:
        """Check the fields of a request, and send it."""
        return self.send(kind, request_model(kind, fields.get("target")).parse(fields))

    def send(self, kind: str, request: Request, *, task_id: str | None = None) -> AsyncResult:
        """Send a checked request to its entry task; ``TransientError`` when the broker is away.

        ``task_id`` is the id that callers wait on, a new one by default.
        """
        name, queue = canvases.entry(kind, getattr(request, "target", None))
        with self._reached("the broker does not take the request", "nothing was enqueued"):
            return self._send(name, request, queue=queue, task_id=task_id)

    def ask(self, name: str, fields: dict[str, Any], expires: float | None = None) -> AsyncResult:
        """Check the fields of a request that makes no job, and send it to the task ``name``."""
        request = TASK_REQUESTS[name].parse(fields)
        queue = names.QUEUE_RESTORE if name == names.CATALOG_PLAN else names.QUEUE_MAINTENANCE
        with self._reached("the broker does not take the request", "nothing was asked"):
            return self._send(name, request, queue=queue, expires=expires)

    def _send(self, name: str, request: Request, **options: Any) -> AsyncResult:
        args = (request.model_dump(mode="json"),)
        return self._app.send_task(
            name,
            args=args,
            argsrepr=shown_arguments(args),
            kwargsrepr=NO_NAMED_ARGUMENTS,
            retry=True,
            retry_policy=_PUBLISH,
            **options,
        )

    def outcome(self, task_id: str) -> dict[str, Any]:
        """Return what the store of results has of a task: its ``status`` and its ``result``.

        Raises ``TransientError`` when the store is away.
        """
        with self._reached("the store of results does not answer", "the task goes on"):
            meta: dict[str, Any] = self._app.backend.get_task_meta(task_id, cache=False)
        return meta

    def tell_end(self, task_id: str, error: PgbenError, *, hostname: str = NO_WORKER) -> None:
        """Send this error to whoever waits on ``task_id``, and to Flower.

        ``hostname`` is Celery's name of the worker that does so, where it is one. Raises
        ``TransientError`` when the broker is away.
        """
        with self._reached("the broker was not told", "whoever waits for the result waits on"):
            self._app.backend.mark_as_failure(task_id, error)
            send_failure(self._app, task_id, error, hostname=hostname)

    @contextmanager
    def _reached(self, sentence: str, meanwhile: str) -> Iterator[None]:
        """Check that the broker answers, then run the block.

        By itself Celery tries 20 seconds to reach a server of results that is away, or for ever.
        """
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(timeout=_CONNECT_TIMEOUT, **_PUBLISH)
            yield
        except _broker_errors() as exc:
            refused = _refusal(exc)
            if refused is not None:
                raise ConfigurationError(
                    f"{sentence}: the Redis server refuses {refused}",
                    f"correct the URL of the broker (PGBEN_REDIS_URL), or what Redis lets its user "
                    f"do; {meanwhile}",
                ) from exc
            raise TransientError(
                sentence, f"check PGBEN_REDIS_URL and that Redis runs; {meanwhile}"
            ) from exc


def _app_at(redis_url: str) -> Celery:
    """Return an application on the broker at this URL, which no error repeats."""
    try:
        return create_app(redis_url)
    except ConfigurationError as exc:
        raise ConfigurationError(
            "the broker's URL is not the URL of a Redis database", exc.hint
        ) from None


def _broker_errors() -> tuple[type[Exception], ...]:
    """Return what a broker that is away, or refuses, raises.

    Redis' own errors are known only once something went wrong: loading them takes long.
    """
    from redis import RedisError  # noqa: PLC0415

    return (OperationalError, ConnectionError, TimeoutError, RedisError)


def _refusal(error: BaseException | None) -> str | None:
    """Return what of a URL Redis refuses, which it would refuse again; None for other errors."""
    from redis import AuthenticationError, ResponseError  # noqa: PLC0415
    from redis.exceptions import AuthorizationError, NoPermissionError  # noqa: PLC0415

    while error is not None:
        if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
            return "the user or the password that is set"
        if isinstance(error, ResponseError) and "db index" in str(error).lower():
            return "the number of the database"
        error = error.__cause__ or error.__context__
    return None
