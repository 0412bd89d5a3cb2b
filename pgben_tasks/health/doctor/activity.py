"""Checks of what must keep happening: workers, the tick, backups, verifications, alarms, pings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pgben_tasks.adapters.catalog.outbox import HEARTBEAT
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
            last=_moment(installation, last),
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
    """Check that somebody would hear of a failure by mail, or by something else."""
    settings = installation.settings
    needed = {
        "PGBEN_SMTP_HOST": settings.smtp_host,
        "PGBEN_SMTP_FROM": settings.smtp_from,
        "PGBEN_ADMIN_EMAIL": settings.admin_email,
    }
    missing = [name for name, value in needed.items() if not value]
    if not missing:
        yield ok(
            _("failures are told to {to} through {host}"),
            host=settings.smtp_host,
            to=", ".join(settings.admin_email),
        )
    elif settings.alert_urls and len(missing) == len(needed):
        yield ok(_("failures are told by other channels than mail"))
    else:
        yield warning(
            "incomplete",
            _("nobody hears of a failure by mail: {names} not set"),
            _("set {names}"),
            names=", ".join(missing),
        )


def channels(installation: Installation) -> Iterator[Result]:
    """Check that the URLs of further channels can be used, and that every channel takes alarms."""
    work = installation.work
    every = work.channels
    if not every:
        return
    installation.catalog  # noqa: B018 - only the catalog knows
    records = work.outbox.channels()
    for channel in every:
        record = records.get(channel.name)
        if record is not None and record.failing_since is not None:
            yield error(
                "failing",
                _("the channel '{channel}' has taken no alarm since {since}: {why}"),
                _("try all channels: `pgben alarms --test`"),
                channel=channel.name,
                since=_moment(installation, record.failing_since),
                why=record.last_error,
            )
        elif record is not None and record.worked_at is not None:
            yield ok(
                _("the channel '{channel}' took a message last at {at}"),
                channel=channel.name,
                at=_moment(installation, record.worked_at),
            )
        else:
            yield ok(
                _("the channel '{channel}' was not needed yet; `pgben alarms --test` tries it"),
                channel=channel.name,
            )


def heartbeat(installation: Installation) -> Iterator[Result]:
    """Check that the server outside takes the pings."""
    if installation.settings.heartbeat_url is None:
        yield ok(_("no server outside is pinged: PGBEN_HEARTBEAT_URL is not set"))
        return
    installation.catalog  # noqa: B018 - only the catalog knows
    record = installation.work.outbox.channels().get(HEARTBEAT)
    if record is None:
        yield warning(
            "never",
            _("no ping was sent yet"),
            _("every tick sends one: see whether a maintenance worker with this setting runs"),
        )
    elif record.failing_since is not None:
        yield error(
            "failing",
            _("pings are not taken since {since}: {why}"),
            _("look at PGBEN_HEARTBEAT_URL, and at what the maintenance worker can reach"),
            since=_moment(installation, record.failing_since),
            why=record.last_error,
        )
    else:
        yield ok(_("pings are taken by the server outside"))


def _moment(installation: Installation, at: datetime) -> str:
    return at.astimezone(installation.work.zone).isoformat(" ", "seconds")


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
