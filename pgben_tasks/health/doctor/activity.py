"""Checks of what must keep happening: workers, the reconciler, backups, verifications, mails."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pgben_tasks.domain.outlook import TargetOutlook
from pgben_tasks.health.doctor.installation import Installation
from pgben_tasks.health.doctor.report import Result, error, ok, warning
from pgben_tasks.health.facts import missing_roles, outlook, reconciler
from pgben_tasks.language import age as in_words, translatable as _


def workers(installation: Installation) -> Iterator[Result]:
    """Check that a worker of every role is alive."""
    installation.catalog  # noqa: B018 - only the catalog knows
    living = installation.work.workers.living()
    missing = missing_roles(living)
    for role in missing:
        yield error(
            "absent",
            _("no worker of the role '{role}' lives"),
            _("start one with `python -m workers {role}`, or all with `python -m workers all`"),
            role=role,
        )
    if not missing:
        yield ok(_("workers of every role live: {names}"), names=", ".join(living))


def tick(installation: Installation) -> Iterator[Result]:
    """Check that the reconciler runs, which beat wakes every minute."""
    last = installation.catalog.last_tick()
    found = reconciler(installation.work, installation.catalog)
    if last is None:
        yield warning(
            "never",
            _("the reconciler has not run yet"),
            _("beat wakes it every minute; if it stays so, start `python -m workers beat`"),
        )
    elif found == "silent":
        yield error(
            "silent",
            _("the reconciler has not run for five minutes (last: {last})"),
            _("start beat with `python -m workers beat`, and a maintenance worker"),
            last=last.astimezone(installation.work.zone).isoformat(" ", "seconds"),
        )
    elif found == "runs without beat":
        yield warning(
            "without_beat",
            _("beat is down; a maintenance worker stands in for it"),
            _("start it with `python -m workers beat`"),
        )
    else:
        yield ok(_("the reconciler runs"))


def mail(installation: Installation) -> Iterator[Result]:
    """Check that somebody would hear of a failure."""
    settings = installation.settings
    needed = {
        "PGBEN_SMTP_HOST": settings.smtp_host,
        "PGBEN_SMTP_FROM": settings.smtp_from,
        "PGBEN_ADMIN_EMAIL": settings.admin_email,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        yield warning(
            "incomplete",
            _("nobody hears of a failure by mail: {names} not set"),
            _("set {names}"),
            names=", ".join(missing),
        )
    else:
        yield ok(
            _("failures are told to {to} through {host}"),
            host=settings.smtp_host,
            to=", ".join(settings.admin_email),
        )


def history(installation: Installation) -> Iterator[Result]:
    """Check that the files of the history can be written."""
    installation.catalog  # noqa: B018 - the worker that writes them tells it there
    outages = installation.work.history.outages()
    for outage in outages:
        yield error(
            "unwritten",
            _("{why} (node '{node}', since {since})"),
            _(
                "look at that folder; its lines are not lost, and are written once it is back "
                "(`pgben history` shows them)"
            ),
            why=outage.why,
            node=outage.node,
            since=outage.since.astimezone(installation.work.zone).isoformat(" ", "seconds"),
        )
    if not outages:
        yield ok(_("the files of the history are written"))


def backups(installation: Installation) -> Iterator[Result]:
    """Check that every target has a verified backup that is young enough."""
    for known, now in _outlooks(installation):
        good, age = known.newest_good, known.age(now)
        if good is None or age is None:
            yield error(
                "none",
                _("{target} has no verified backup"),
                _("run `pgben backup {target}`"),
                target=known.target,
            )
        elif not known.within_rpo(now):
            yield error(
                "old",
                _("the newest verified backup of {target} is {hours} h old, PGBEN_RPO is {rpo} h"),
                _("see `pgben jobs` for why the last one failed, then `pgben backup {target}`"),
                target=known.target,
                hours=_hours(age),
                rpo=_hours(known.rpo),
            )
        else:
            yield ok(
                _("{target} can be restored from {backup}, {age} old"),
                target=known.target,
                backup=good.backup,
                age=in_words(age),
            )


def verifications(installation: Installation) -> Iterator[Result]:
    """Check that the stored bytes of every target were read again in time."""
    days = installation.settings.verify_days
    for known, now in _outlooks(installation):
        if known.verification_overdue(now):
            yield error(
                "overdue",
                _("the stored bytes of {target} were not read for more than {days} days"),
                _("run `pgben verify --level full`, and see whether beat runs"),
                target=known.target,
                days=days,
            )
        elif known.newest_good is not None:
            yield ok(
                _("{target} was read in full within {days} days"),
                target=known.target,
                days=days,
            )


def _outlooks(installation: Installation) -> Iterator[tuple[TargetOutlook, datetime]]:
    installation.repository  # noqa: B018 - the index is kept per repository
    records, now = installation.catalog, installation.work.database.now()
    for target in installation.settings.targets():
        yield outlook(installation.work, records, now, target), now


def _hours(length: timedelta) -> str:
    return f"{length.total_seconds() / 3600:.1f}"
