"""Parse what is typed: targets, backups, moments. Nothing typed here is trusted."""

# ruff: noqa: PLC0415 - settings are heavy, and imported by what needs them

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final, cast

from pgben_tasks.domain.target import BackupId, Target, check_name, may_hold_password
from pgben_tasks.errors import BackupNotFound, ConfigurationError

if TYPE_CHECKING:
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.ports import Repository
    from pgben_tasks.runtime import Workplace

_JOB: Final = re.compile(r"[0-9a-f][0-9a-f-]{0,35}")


def parse_target(text: str) -> Target:
    """Read ``pgben`` or ``postgres/pgben``; raise ``ConfigurationError`` for anything else."""
    refuse_connection_string(text)
    return Target.parse(text) if "/" in text else Target("postgres", check_name(text))


def parse_database(text: str) -> str:
    """Read the name of a new database."""
    refuse_connection_string(text)
    return check_name(text)


def refuse_connection_string(text: str) -> None:
    """Raise for text that may hold a password, without repeating it."""
    if may_hold_password(text):
        raise ConfigurationError(
            "a target's name looks like a connection string, which is not repeated here",
            "name the database only; host, user and password belong in the settings",
        )


def parse_protected(wanted: Sequence[str], known: Iterable[str]) -> list[Target]:
    """Read targets that must be among the ``known`` ones, each once."""
    names = list(known)
    found = list(dict.fromkeys(parse_target(text) for text in wanted))
    for one in found:
        if str(one) not in names:
            raise ConfigurationError(
                f"'{one}' is not protected by this installation",
                f"known targets: {', '.join(names)}; see PGBEN_DB_NAME and PGBEN_SERVERS_FILE",
            )
    return found


def parse_known(text: str, work: Workplace | DirectPlace) -> Target:
    """Read a target that is protected here, or has a backup in the repository."""
    target = parse_target(text)
    protected = work.settings.targets()
    if target not in protected and target not in (stored := work.repository.targets()):
        known = dict.fromkeys(map(str, (*protected, *stored)))
        raise ConfigurationError(
            f"'{target}' is not protected by this installation, and the repository holds no "
            "backup of it",
            f"known targets: {', '.join(known) or 'none'}",
        )
    return target


def parse_job(text: str) -> str:
    """Read a job's id, or its beginning."""
    if not _JOB.fullmatch(text):
        refuse_connection_string(text)
        raise ConfigurationError(
            f"'{text[:40]}' is not a job's id",
            "ids look like 1f0c9a2b, the beginning is enough; `pgben jobs` lists the jobs",
        )
    return text


def looks_like_backup(text: str) -> bool:
    """Return whether the last part of ``text`` is a backup's id."""
    try:
        BackupId.parse(text.rpartition("/")[2])
    except ConfigurationError:
        return False
    return True


def find_backup(text: str, repository: Repository) -> tuple[Target, BackupId]:
    """Read ``<id>`` or ``<target>/<id>`` and find it in the repository.

    Raises ``BackupNotFound`` when no target has it.
    """
    refuse_connection_string(text)
    head, _, tail = text.rpartition("/")
    wanted = BackupId.parse(tail)
    targets = [parse_target(head)] if head else repository.targets()
    for one in targets:
        if wanted in repository.backups(one):
            return one, wanted
    where = f"of '{targets[0]}' " if head else ""
    raise BackupNotFound(
        f"there is no backup '{wanted}' {where}in {repository.describe()}",
        "`pgben list` shows the backups there are",
    )


def find_backups(text: str, repository: Repository) -> list[tuple[Target, BackupId]]:
    """Read a backup as ``find_backup`` does, or a recovery point: then return all its members."""
    refuse_connection_string(text)
    if "/" not in text and BackupId.parse(text) in repository.points():
        point = repository.point(BackupId.parse(text))
        return [(Target.parse(one.target), BackupId.parse(one.backup)) for one in point.members]
    return [find_backup(text, repository)]


def parse_moment(text: str, zone: tzinfo) -> datetime:
    """Read an ISO 8601 moment, and return it in ``zone``; one without an offset is meant there."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ConfigurationError(
            f"'{text[:40]}' is not a moment",
            "write it like '2026-11-22 14:30' (in PGBEN_TIMEZONE) or '2026-11-22T17:30:00Z'",
        ) from exc
    return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(zone)


def parse_since(text: str, zone: tzinfo, *, now: datetime) -> datetime:
    """Read a moment, or how long before ``now`` it is: ``30d``."""
    from pgben_tasks.domain.durations import parse_duration

    with suppress(ConfigurationError):
        return parse_moment(text, zone)
    try:
        before = parse_duration(text)
    except ValueError as exc:
        raise ConfigurationError(
            f"'{text[:40]}' is neither a moment nor a length of time",
            "write it like '2026-11-01' or '2026-11-22 14:30' (in PGBEN_TIMEZONE), or '30d'",
        ) from exc
    try:
        return now - cast("timedelta", before)
    except OverflowError:
        # Before every moment there is.
        return datetime.min.replace(tzinfo=UTC)
