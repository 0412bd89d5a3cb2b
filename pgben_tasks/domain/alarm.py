"""Alarms as values: which end of a job is worth one, which of them share a mail, and when.

Pure. ``overdue`` decides about what did not happen; the words of mails are in ``operations``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from pgben_tasks.domain.job import Job
from pgben_tasks.errors import RequestMistaken
from pgben_tasks.redaction import redact

AlarmKind = Literal[
    "damaged",
    "failed",
    "after_swap",
    "suspect",
    "faulty",
    "stale",
    "overdue",
    "space",
    "silent",
    "expiring",
    "refused",
]

#: The worst first: a mail of many shows these in full and counts the last ones.
SEVERITY: Final[tuple[AlarmKind, ...]] = (
    "damaged",
    "failed",
    "after_swap",
    "suspect",
    "faulty",
    "stale",
    "overdue",
    "space",
    "silent",
    "expiring",
    "refused",
)
#: Errors of jobs that are no alarm: whoever asked has been told, and only they can do anything.
NO_ALARM: Final = (RequestMistaken.__name__,)
#: How many alarms a mail shows in full.
MOST_IN_A_MAIL: Final = 5
#: Anybody who reaches the queue can be refused, again and again; mails of nothing but refusals
#: therefore keep this distance.
REFUSALS_APART: Final = timedelta(minutes=15)
#: Waits of a mail that the server did not take: 1, 2, 4 … minutes, at most this.
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
class KeptAlarm:
    """An alarm in the outbox: when it was raised, and what became of its mail."""

    id: int
    alarm: Alarm
    raised_at: datetime
    sent_at: datetime | None
    tries: int
    next_try_at: datetime
    last_error: str | None


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


def alarm_of_job(job: Job) -> Alarm | None:
    """Return the alarm that the end of a job is worth; None for a good end and for an open job.

    A job that is tried again has one alarm for its first failure and one when it is given up; the
    attempts between share the first one's key, under which no second mail is sent.
    """
    if job.ended_at is None or (job.error or {}).get("type") in NO_ALARM:
        return None
    reason = job.result.get("suspect")
    if job.state == "succeeded" and job.kind in {"backup", "point"} and reason:
        # Of a recovery point it is rows and objects that do not go together.
        what: AlarmKind = "suspect" if job.kind == "backup" else "faulty"
        return _of_end(job, job.ended_at, what, f"{what}:{job.id}", sentence=reason)
    if job.state == "succeeded" and (told := job.result.get("after_swap_failed")):
        return _of_end(job, job.ended_at, "after_swap", f"after_swap:{job.id}", sentence=told)
    if job.state == "refused":
        return _of_end(job, job.ended_at, "refused", f"refused:{job.id}")
    if job.state == "failed":
        damaged = job.kind == "verify" and (job.error or {}).get("type") == "IntegrityError"
        which = "first" if job.retry_at else f"final:{job.attempt}"
        kind: AlarmKind = "damaged" if damaged else "failed"
        return _of_end(job, job.ended_at, kind, f"failed:{job.id}:{which}")
    return None


def _of_end(
    job: Job, ended_at: datetime, kind: AlarmKind, key: str, *, sentence: str | None = None
) -> Alarm:
    error = job.error or {}
    return Alarm(
        key=key,
        kind=kind,
        target=one_line(job.target),
        job=job.id,
        happened_at=ended_at,
        facts=facts(
            work=job.kind,
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


def may_go(
    waiting: Sequence[KeptAlarm], *, now: datetime, last_refusal_sent: datetime | None
) -> bool:
    """Return whether a mail of these alarms goes now; whatever waits then goes with it."""
    if all(one.next_try_at > now for one in waiting):
        return False
    if any(one.alarm.kind != "refused" for one in waiting):
        return True
    return last_refusal_sent is None or now - last_refusal_sent >= REFUSALS_APART


def split_for_mail(
    waiting: Sequence[KeptAlarm], *, most: int = MOST_IN_A_MAIL
) -> tuple[list[KeptAlarm], Counter[AlarmKind]]:
    """Return the alarms that a mail shows in full, the worst first, and counts of the rest."""
    ordered = sorted(waiting, key=lambda one: (SEVERITY.index(one.alarm.kind), one.id))
    return ordered[:most], Counter(one.alarm.kind for one in ordered[most:])


def wait_after(tries: int) -> timedelta:
    """Return how long a mail waits that the server has not taken ``tries`` times."""
    return min(timedelta(minutes=2 ** (min(tries, 10) - 1)), LONGEST_WAIT)
