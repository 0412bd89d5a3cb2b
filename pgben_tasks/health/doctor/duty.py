"""Checks of what must keep happening: workers, the reconciler, backups, verifications, mails."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pgben_tasks.domain.outlook import TargetOutlook
from pgben_tasks.health import situation
from pgben_tasks.health.doctor.patient import Patient
from pgben_tasks.health.doctor.report import Finding, error, ok, warning


def workers(patient: Patient) -> Iterator[Finding]:
    """Look whether a worker of every role lives."""
    patient.catalog  # noqa: B018 - only the catalog knows
    living = patient.work.recovery.live_workers()
    missing = situation.missing_roles(living)
    for role in missing:
        yield error("absent", role=role)
    if not missing:
        yield ok(names=", ".join(living))


def tick(patient: Patient) -> Iterator[Finding]:
    """Look whether the reconciler runs, which beat wakes every minute."""
    last = patient.catalog.last_tick()
    found = situation.reconciler(patient.work, patient.catalog)
    if last is None:
        yield warning("never")
    elif found == "silent":
        yield error("silent", last=last.astimezone(patient.work.zone).isoformat(" ", "seconds"))
    elif found == "runs without beat":
        yield warning("without_beat")
    else:
        yield ok()


def mail(patient: Patient) -> Iterator[Finding]:
    """Look whether somebody would hear of a failure."""
    settings = patient.settings
    wanted = {
        "PGBEN_SMTP_HOST": settings.smtp_host,
        "PGBEN_SMTP_FROM": settings.smtp_from,
        "PGBEN_ADMIN_EMAIL": settings.admin_email,
    }
    missing = [name for name, value in wanted.items() if not value]
    if missing:
        yield warning("incomplete", names=", ".join(missing))
    else:
        yield ok(host=settings.smtp_host, to=", ".join(settings.admin_email))


def backups(patient: Patient) -> Iterator[Finding]:
    """Look whether every target has a verified backup that is young enough."""
    for outlook, now in _outlooks(patient):
        good, age = outlook.newest_good, outlook.age(now)
        if good is None or age is None:
            yield error("none", target=outlook.target)
        elif not outlook.within_rpo(now):
            yield error("old", target=outlook.target, hours=_hours(age), rpo=_hours(outlook.rpo))
        else:
            yield ok(target=outlook.target, backup=good.backup, hours=_hours(age))


def verifications(patient: Patient) -> Iterator[Finding]:
    """Look whether the stored bytes of every target were read again in time."""
    days = patient.settings.verify_days
    for outlook, now in _outlooks(patient):
        if outlook.verification_overdue(now):
            yield error("overdue", target=outlook.target, days=days)
        elif outlook.newest_good is not None:
            yield ok(target=outlook.target, days=days)


def _outlooks(patient: Patient) -> Iterator[tuple[TargetOutlook, datetime]]:
    patient.repository  # noqa: B018 - the index is kept per repository
    records, now = patient.catalog, patient.work.database.now()
    for target in patient.addresses:
        yield situation.outlook(patient.work, records, now, target), now


def _hours(length: timedelta) -> str:
    return f"{length.total_seconds() / 3600:.1f}"
