"""Alarms as values: which kinds there are, and which end of a job is worth one.

Pure. ``overdue`` decides about what did not happen, ``episodes`` when an alarm is over and what is
sent when; the words are in ``operations``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, get_args
from uuid import UUID

from pgben_tasks.domain.job import Job
from pgben_tasks.errors import IntegrityError, NotRestorable, RequestMistaken, RoomRefused
from pgben_tasks.redaction import redact

#: The worst first: a message of many shows these in full and counts the last ones.
AlarmKind = Literal[
    "damaged",
    "audit",
    "in_place",
    "failed",
    "after_swap",
    "unverified",
    "suspect",
    "faulty",
    "foreign",
    "stale",
    "overdue",
    "space",
    "silent",
    "channel",
    "unsent",
    "expiring",
    "message",
    "refused",
]
SEVERITY: Final[tuple[AlarmKind, ...]] = get_args(AlarmKind)
#: Errors of jobs that are no alarm: whoever asked has been told, and only they can do anything.
NO_ALARM: Final = (RequestMistaken.__name__,)
#: How many alarms a message shows in full.
MOST_IN_A_MAIL: Final = 5
#: Anybody who reaches the queue can be refused, or ask for a restore in place, again and again;
#: messages of nothing but one of these therefore keep this distance.
REFUSALS_APART: Final = timedelta(minutes=15)
#: Waits of a message that its channel did not take: 1, 2, 4 … minutes, at most this.
LONGEST_WAIT: Final = timedelta(minutes=30)

#: Longer texts are cut: a mail is read on a telephone.
_LONGEST_TEXT: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One occurrence that people must learn of.

    ``key`` is the same however often the occurrence is seen. ``target`` is ``*`` for everything
    and empty for the installation itself. ``facts`` are short single lines, nothing secret.
    """

    key: str
    kind: AlarmKind
    target: str
    happened_at: datetime
    job: UUID | None = None
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of an alarm on one channel.

    ``told_at`` is when the channel took the alarm, ``last_sent_at`` when it took that or the latest
    reminder, and ``over_at`` when it took that the alarm is over, or needs no further message.
    """

    channel: str
    told_at: datetime | None
    last_sent_at: datetime | None
    reminders: int
    over_at: datetime | None
    tries: int
    next_try_at: datetime
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAlarm:
    """An alarm in the outbox: one episode, when it began and ended, and which channels know.

    ``absent_since`` is when a tick first did not find it any more; ``cleared_at`` when that was
    believed. An event that needs no end was cleared when it was raised.
    """

    id: int
    alarm: Alarm
    episode: int
    raised_at: datetime
    absent_since: datetime | None
    cleared_at: datetime | None
    deliveries: tuple[Delivery, ...] = ()

    @property
    def open(self) -> bool:
        """Whether it holds, as far as is known."""
        return self.cleared_at is None

    @property
    def sent_at(self) -> datetime | None:
        """When the first channel took it; None while none has."""
        return min((one.told_at for one in self.deliveries if one.told_at), default=None)


def one_line(text: object) -> str:
    """Return as a single printable line what a stranger or a server wrote, secrets hidden.

    Nothing that passes here can begin a new line or header of a mail.
    """
    printable = "".join(sign if sign.isprintable() else " " for sign in redact(str(text)))
    line = " ".join(printable.split())
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"


def facts(**texts: object) -> dict[str, str]:
    """Return the facts of an alarm; what is None or empty is left out."""
    return {name: one_line(text) for name, text in texts.items() if text is not None and text != ""}


def is_in_place(job: Job) -> bool:
    """Return whether a job replaces something that is in use; a part of a whole does not count.

    Of a request that was refused at once, the error says so.
    """
    asked = job.request
    if asked.get("part_of"):
        return False
    if (job.error or {}).get("in_place"):
        return True
    if job.kind in {"undo", "undo_all"}:
        return True
    restores = job.kind in {"restore", "restore_all"}
    return restores and bool(asked.get("swap") or asked.get("in_place"))


def in_place_alarm(job: Job) -> Alarm | None:
    """Return the alarm that something in use is to be replaced, or how that ended.

    None for jobs that replace nothing. Typing errors count as well: whoever heard that it was asked
    for wants to hear the end.
    """
    if not is_in_place(job):
        return None
    if job.ended_at is None:
        return _of_end(
            job, job.created_at, "in_place", f"in_place:{job.id}:asked", what="in_place_asked"
        )
    key = f"in_place:{job.id}:{job.state}:{job.attempt}"
    return _of_end(job, job.ended_at, "in_place", key, what=f"in_place_{job.state}")


def alarm_of_job(job: Job) -> Alarm | None:
    """Return the alarm that the end of a job is worth; None for a good end and for an open job.

    A job that is tried again has one alarm for its first failure and one when it is given up; the
    attempts between share the first one's key, under which nothing is told again.
    """
    if job.ended_at is None:
        return None
    if job.state == "succeeded":
        return _of_doubtful_success(job, job.ended_at)
    if _is_unverified(job):
        what = "cancelled" if job.state == "cancelled" else None
        key = f"unverified:{job.id}:{job.attempt}"
        return _of_end(job, job.ended_at, "unverified", key, what=what)
    # How a restore in place ended is an alarm of its own.
    if (job.error or {}).get("type") in NO_ALARM or is_in_place(job) or job.state == "cancelled":
        return None
    # A backup that does not fit did not take place, whoever asked for it.
    if job.state == "refused" and (job.error or {}).get("type") != RoomRefused.__name__:
        return _of_end(job, job.ended_at, "refused", f"refused:{job.id}")
    which = "first" if job.retry_at else f"final:{job.attempt}"
    return _of_end(job, job.ended_at, _kind_of_failure(job), f"failed:{job.id}:{which}")


def _of_doubtful_success(job: Job, ended_at: datetime) -> Alarm | None:
    reason = job.result.get("suspect")
    if job.kind in {"backup", "point"} and reason:
        # Of a recovery point it is rows and objects that do not go together.
        kind: AlarmKind = "suspect" if job.kind == "backup" else "faulty"
        return _of_end(job, ended_at, kind, f"{kind}:{job.id}", sentence=reason)
    if told := job.result.get("after_swap_failed"):
        return _of_end(job, ended_at, "after_swap", f"after_swap:{job.id}", sentence=told)
    if job.kind == "verify" and job.window is not None and job.result.get("backups") == 0:
        key = f"unverified:{job.id}:{job.attempt}"
        return _of_end(job, ended_at, "unverified", key, what="nothing_examined")
    return None


def _is_unverified(job: Job) -> bool:
    """Return whether the verification of a window ended for good without having looked."""
    given_up = job.state == "cancelled" or job.retry_at is None
    looked = (job.error or {}).get("type") in {IntegrityError.__name__, NotRestorable.__name__}
    return job.kind == "verify" and job.window is not None and given_up and not looked


def _kind_of_failure(job: Job) -> AlarmKind:
    if job.kind == "verify" and (job.error or {}).get("type") == IntegrityError.__name__:
        return "damaged"
    # A report whose mail went and whose file could not be kept was sent.
    unsent = job.kind == "report" and not job.context.get("mailed")
    return "unsent" if unsent else "failed"


def _of_end(
    job: Job,
    at: datetime,
    kind: AlarmKind,
    key: str,
    *,
    sentence: str | None = None,
    what: str | None = None,
) -> Alarm:
    error = job.error or {}
    return Alarm(
        key=key,
        kind=kind,
        target=one_line(job.target),
        job=job.id,
        happened_at=at,
        facts=facts(
            work=job.kind,
            what=what,
            sentence=sentence or error.get("sentence"),
            hint=error.get("hint"),
            step=error.get("step"),
            backup_id=job.backup,
            requested_by=job.requested_by,
            attempt=job.attempt,
            window=job.window and job.window.isoformat(),
            next_attempt=job.retry_at and job.retry_at.isoformat(),
        ),
    )


def wait_after(tries: int) -> timedelta:
    """Return how long a message waits that its channel has not taken ``tries`` times."""
    return min(timedelta(minutes=2 ** (min(tries, 10) - 1)), LONGEST_WAIT)
