"""Databases that restores and swaps left: what each is, and until when it stays.

Pure. A database is told by its oid; its name only says what it may be where nothing else is known.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal
from uuid import UUID

from pgben_tasks.domain.alarm import Alarm, facts
from pgben_tasks.domain.documents import TableCount
from pgben_tasks.domain.swap import Swap, replaced_name, restored_name, undone_name
from pgben_tasks.domain.target import Target

#: How long before a copy is removed its alarm comes; no copy is removed sooner after its alarm.
NOTICE: Final = timedelta(days=2)

#: ``restored``: a copy beside the original; ``replaced``: the original that a swap set aside;
#: ``undone``: the restored database that an undo set aside.
Origin = Literal["restored", "replaced", "undone"]

_GENERATED: Final = re.compile(
    r"(?P<base>.+)_(?P<origin>restored|replaced|undone)_(?P<made>\d{8}_\d{6})", re.DOTALL
)
_NAMES: Final[Mapping[str, Callable[[str, datetime], str]]] = {
    "restored": restored_name,
    "replaced": replaced_name,
    "undone": undone_name,
}
_ANY_MOMENT: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredDatabase:
    """A copy beside the original, as the catalog keeps it.

    ``checked_at`` is the server's transaction counter when its rows were about to be compared, and
    ``contents`` the digest of what was counted then: by both it is told whether anybody wrote to it
    since. Only one with a ``generated`` name is ever removed by itself, and none that has a reason
    to stay in ``kept_because``.
    """

    job: UUID
    target: str
    name: str
    oid: int
    checked_at: int
    contents: str
    generated: bool
    made_at: datetime | None = None
    kept_because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDatabase:
    """A database of a server as it is now; ``sessions`` are connected to it."""

    name: str
    oid: int
    size: int
    sessions: int
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDatabase:
    """One line of `pgben databases`.

    ``until`` is when it is removed by itself; None: never, for ``kept_because``. ``job`` is None
    where the catalog does not know which one made it.
    """

    target: Target
    origin: Origin
    found: FoundDatabase
    since: datetime | None
    until: datetime | None
    job: UUID | None
    kept_because: str | None


def contents_digest(tables: Iterable[TableCount], large_objects: int) -> str:
    """Return the digest of what a database holds, by the numbers of its rows."""
    lines = sorted(f"{one.schema_name}\n{one.table}\n{one.rows}" for one in tables)
    return hashlib.sha256("\0".join([*lines, str(large_objects)]).encode()).hexdigest()


def may_be_left(name: str, target: Target) -> bool:
    """Return whether a database's name is one that restores and swaps of ``target`` give."""
    named = _GENERATED.fullmatch(name)
    # Long names are cut so that 63 bytes suffice.
    return named is not None and _NAMES[named["origin"]](target.name, _ANY_MOMENT).startswith(
        f"{named['base']}_{named['origin']}_"
    )


def list_kept(
    target: Target,
    found: Sequence[FoundDatabase],
    *,
    restored: Sequence[RestoredDatabase],
    swaps: Sequence[Swap],
    keep_restored: timedelta,
    keep_replaced: timedelta,
    zone: tzinfo,
) -> Iterator[KeptDatabase]:
    """Yield what restores and swaps of ``target`` left among the databases ``found`` on its server.

    ``restored`` and ``swaps`` are those of this target that the catalog knows; times in names are
    local to ``zone``.
    """
    copies = {(one.name, one.oid): one for one in restored}
    asides = {(one.aside, one.live_oid): one for one in swaps if one.state == "done"}
    for database in found:
        named = _GENERATED.fullmatch(database.name)
        origin: Origin = named["origin"] if named else "restored"  # type: ignore[assignment]  # the pattern names them
        if copy := copies.get((database.name, database.oid)):
            yield _kept_copy(target, database, copy, keep_restored)
        elif swap := asides.get((database.name, database.oid)):
            why = "it takes connections" if database.is_open else swap.kept_because
            yield KeptDatabase(
                target=target,
                origin=origin,
                found=database,
                since=swap.settled_at,
                until=None if why or swap.settled_at is None else swap.settled_at + keep_replaced,
                job=swap.job,
                kept_because=why,
            )
        elif named and may_be_left(database.name, target):
            yield KeptDatabase(
                target=target,
                origin=origin,
                found=database,
                since=_moment(named["made"], zone),
                until=None,
                job=None,
                kept_because="the catalog does not know it",
            )


def expiry_alarm(one: RestoredDatabase, *, keep: timedelta, now: datetime) -> Alarm:
    """Return the alarm that a copy will be removed; never sooner than ``NOTICE`` from ``now``."""
    until = max((one.made_at or now) + keep, now + NOTICE)
    return Alarm(
        key=expiry_key(one.job),
        kind="expiring",
        target=one.target,
        job=one.job,
        happened_at=now,
        facts=facts(work="restore", database=one.name, until=until.isoformat()),
    )


def expiry_key(job: UUID | str) -> str:
    """Return the key of the alarm that the copy of a job will be removed."""
    return f"expiring:{job}"


def _kept_copy(
    target: Target, found: FoundDatabase, copy: RestoredDatabase, keep: timedelta
) -> KeptDatabase:
    why = copy.kept_because if copy.generated else "its name was chosen"
    return KeptDatabase(
        target=target,
        origin="restored",
        found=found,
        since=copy.made_at,
        until=None if why or copy.made_at is None else copy.made_at + keep,
        job=copy.job,
        kept_because=why,
    )


def _moment(text: str, zone: tzinfo) -> datetime | None:
    try:
        local = datetime.strptime(text, "%Y%m%d_%H%M%S").replace(tzinfo=zone)
    except ValueError:
        return None
    return local.astimezone(UTC)
