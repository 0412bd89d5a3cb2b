"""Whether everything can be restored, and to when; and whether all that works and lives.

Pure: what is known comes in, and of each question a colour with its reasons comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Self

from pgben_tasks.domain.outlook import (
    Keys,
    PointOutlook,
    Presence,
    Surroundings,
    TargetOutlook,
)
from pgben_tasks.domain.restorability import RestoreSite
from pgben_tasks.domain.space import Forecast, cause
from pgben_tasks.language import size

Colour = Literal["green", "yellow", "red"]

#: From the least to the most alarming.
_COLOURS: Final[tuple[Colour, ...]] = ("green", "yellow", "red")
_MAKE_ROOM: Final = "docs/operations.md says under 'The disk fills' what makes room"
_START_BEAT: Final = "start it with `python -m workers beat`"
_DIRECT: Final = (
    "without it, `pgben list` and `pgben restore` work with `--direct`; `pgben catalog rebuild` "
    "brings a lost one back"
)


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that keeps a verdict from being green, and what to do about it."""

    colour: Colour
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The most alarming colour, and every reason, the most alarming first."""

    colour: Colour
    reasons: tuple[Reason, ...]

    @classmethod
    def from_reasons(cls, found: Iterable[Reason]) -> Self:
        """Return the verdict for these reasons; green without any."""
        ordered = sorted(found, key=lambda one: _COLOURS.index(one.colour), reverse=True)
        return cls(ordered[0].colour if ordered else "green", tuple(ordered))


def judge_restorable(
    targets: Sequence[TargetOutlook],
    known: Surroundings,
    *,
    now: datetime,
    point: PointOutlook | None = None,
) -> Verdict:
    """Return whether everything can be restored; ``point`` is None where no points are formed.

    Red: something cannot, or not to a moment that is recent enough, or it is not known. Yellow: it
    can, and something is wrong that will keep it from staying so.
    """
    found = [*_of_repository(known), *_of_keys(known.keys), *_of_site(known.restore_site)]
    if not known.protects:
        found.append(
            Reason(
                "yellow",
                "nothing is protected",
                "name databases in PGBEN_DB_NAME, and set PGBEN_MINIO_ACCESS_KEY for buckets",
            )
        )
    if known.repository_away is None:
        found += [reason for target in targets for reason in _of_backups(target, now)]
        found += _of_point(point, now) if point is not None else ()
    return Verdict.from_reasons(found)


def judge_running(targets: Sequence[TargetOutlook], known: Surroundings) -> Verdict:
    """Return whether the installation works, and whether what it protects is there.

    Red: something of it does not answer, or no process does what is due. Yellow: all of it works,
    and something is wrong that will keep it from staying so.
    """
    lost = {one.target for one in targets if one.newest_good is None}
    return Verdict.from_reasons(
        [
            *(reason for one in known.protected for reason in _of_presence(one, lost, known)),
            *_of_services(known),
            *_of_processes(known),
            *(reason for target in targets for reason in _of_failures(target)),
            *(
                Reason("yellow", f"the disk of '{disk}' is fuller than PGBEN_DISK_CRITICAL")
                for disk in known.full_disks
            ),
            *(_of_space(one) for one in known.space if one.critical),
        ]
    )


def _of_repository(known: Surroundings) -> Iterator[Reason]:
    away, unknown = known.repository_away, known.backups_away
    if away is not None:
        yield Reason("red", f"the repository cannot be read: {away.sentence}", away.hint)
    elif unknown is not None:
        yield Reason("red", f"what can be restored is not known: {unknown.sentence}", unknown.hint)


def _of_keys(keys: Keys | None) -> Iterator[Reason]:
    if keys is None:
        return
    if keys.fault is not None:
        if keys.elsewhere:
            yield Reason(
                "yellow",
                f"the identity that is set here opens no backup, and a restore worker elsewhere "
                f"may hold one: {keys.fault.sentence}",
                keys.fault.hint,
            )
        else:
            yield Reason(
                "red",
                f"the identity that is set here opens no backup: {keys.fault.sentence}",
                keys.fault.hint,
            )
    elif not keys.set_here and not keys.restorers:
        yield Reason(
            "yellow",
            "no identity that opens backups is set here, and the catalog does not say whether a "
            "restore worker lives that may hold one"
            if keys.restorers is None
            else "no identity that opens backups is set here, and no restore worker lives that may "
            "hold one",
            "set PGBEN_AGE_IDENTITY_FILE, or start a restore worker",
        )


def _of_site(site: RestoreSite | None) -> Iterator[Reason]:
    if site is not None and site.clients is None:
        yield Reason(
            "yellow",
            "whether backups can be restored here is not known: no restore worker has published "
            "its clients",
        )
    elif site is not None and not site.current:
        yield Reason(
            "yellow",
            "whether backups can be restored here is not known: judged by the clients that were "
            "published last",
        )


def _of_backups(one: TargetOutlook, now: datetime) -> Iterator[Reason]:
    name = f"'{one.target}'"
    good, newest = one.newest_good, one.backups[0] if one.backups else None
    if good is None:
        yield Reason(
            "red", f"{name} has no verified backup", f"make one: `pgben backup {one.target}`"
        )
    elif not one.within_rpo(now):
        yield _too_old(name, one.age(now))
    if newest is not None and newest is not good:
        what = "suspect" if newest.suspect else newest.state
        yield Reason(
            "yellow",
            f"the newest backup of {name} is {what}: it needs {newest.needs}"
            if newest.needs
            else f"the newest backup of {name} is {what}",
        )
    foreign = sum(not backup.restorable for backup in one.backups[1:])
    if foreign:
        yield Reason("yellow", f"older backups of {name} that cannot be restored here: {foreign:,}")
    damaged = sum(one.state in {"damaged", "unreadable", "missing"} for one in one.backups)
    if damaged:
        yield Reason("yellow", f"damaged or missing backups of {name}: {damaged:,}")
    if one.verification_overdue(now):
        yield Reason("yellow", f"the stored bytes of {name} were not read for too long")


def _too_old(name: str, age: timedelta | None) -> Reason:
    if age is not None and age < timedelta():
        return Reason(
            "red",
            f"the newest verified backup of {name} is dated in the future",
            "find out whose clock was wrong, then make one: `pgben backup --all`",
        )
    return Reason("red", f"the newest verified backup of {name} is older than PGBEN_RPO")


def _of_point(one: PointOutlook, now: datetime) -> Iterator[Reason]:
    if one.newest_good is None:
        yield Reason(
            "yellow", "there is no verified recovery point", "`pgben backup --all` forms one"
        )
    elif not one.within_rpo(now):
        yield Reason(
            "yellow",
            "the newest verified recovery point is older than PGBEN_RPO",
            "`pgben jobs` shows what became of later ones",
        )
    if one.newest is not None and not one.newest.good:
        yield Reason(
            "yellow",
            f"the newest recovery point is {one.newest.state}",
            "`pgben points` names the member",
        )
    yield from _of_cross_check(one)


def _of_cross_check(one: PointOutlook) -> Iterator[Reason]:
    point = one.newest_good
    if point is None:
        return
    if point.faults:
        yield Reason(
            "red" if one.strict else "yellow",
            "rows of the newest verified recovery point whose objects are not as they say: "
            f"{point.faults:,}",
            f"`pgben points {point.id}` shows them",
        )
    elif one.checked and point.check is None:
        yield Reason(
            "yellow",
            "rows and objects of the newest verified recovery point were not compared",
            "`pgben jobs` says why: look at its recovery point",
        )


def _of_failures(one: TargetOutlook) -> Iterator[Reason]:
    if one.failures:
        failed, last = f"{one.failures:,}", one.last_failure
        yield Reason(
            "yellow",
            f"backups of '{one.target}' that failed since the last success: {failed}; {last}"
            if last
            else f"backups of '{one.target}' that failed since the last success: {failed}",
            "`pgben jobs` shows them",
        )


def _of_presence(one: Presence, lost: AbstractSet[str], known: Surroundings) -> Iterator[Reason]:
    kind, _, name = one.target.partition("/")
    if one.gone:
        # Without catalog and broker a job would only wait.
        direct = known.catalog_away is not None or known.broker_away is not None
        yield Reason(
            "red",
            f"the protected database '{name}' is not there"
            if kind == "postgres"
            else f"the protected bucket '{name}' is not there",
            "there is no backup to bring it back from; see whether its name is right"
            if one.target in lost
            else f"bring it back with `{_way_back(kind, name, direct=direct)}`",
        )
    elif one.fault is not None:
        yield Reason(
            "red",
            f"the protected database '{name}' cannot be used: {one.fault.sentence}"
            if kind == "postgres"
            else f"the protected bucket '{name}' cannot be used: {one.fault.sentence}",
            one.fault.hint,
        )


def _of_space(one: Forecast) -> Reason:
    free, capacity, needed = size(one.free), size(one.capacity), size(one.tonight)
    why = cause(one)
    if why == "full":
        return Reason(
            "yellow",
            f"'{one.where}' is fuller than PGBEN_DISK_CRITICAL: {free} of {capacity} are free",
            _MAKE_ROOM,
        )
    return Reason(
        "yellow",
        f"what is due until this time tomorrow needs about {needed} by earlier nights, and "
        f"'{one.where}' has {free} of {capacity} free"
        if why == "short"
        else f"a restore of the largest database beside needs about {needed}, and '{one.where}' "
        f"has {free} of {capacity} free",
        _MAKE_ROOM,
    )


def _way_back(kind: str, name: str, *, direct: bool) -> str:
    if kind == "bucket":
        here = " --direct" if direct else ""
        return f"pgben restore bucket/{name} --in-place --confirm {name}{here}"
    if direct:
        return f"pgben restore {name} --direct --into {name}"
    return f"pgben restore {name} --in-place --confirm {name}"


def _of_services(known: Surroundings) -> Iterator[Reason]:
    if known.catalog_away is not None:
        text, hint = known.catalog_away.sentence, known.catalog_away.hint
        # What is known to be lost says so itself; of what hangs only that is known.
        if "--direct" not in hint:
            hint = f"{hint}; {_DIRECT}" if hint else _DIRECT
        yield Reason("red", f"the catalog cannot be asked: {text}", hint)
    if known.broker_away is not None:
        text, hint = known.broker_away.sentence, known.broker_away.hint
        yield Reason("red", f"the broker cannot be used: {text}", hint)
    if known.disks_away is not None:
        yield Reason("red", f"the disks cannot be looked at: {known.disks_away.sentence}")


def _of_processes(known: Surroundings) -> Iterator[Reason]:
    if known.missing_roles:
        yield Reason(
            "red",
            f"no worker runs for {', '.join(known.missing_roles)}",
            f"start one with `python -m workers {known.missing_roles[0]}`, or all with "
            "`python -m workers all`",
        )
    if known.reconciler == "silent":
        yield Reason(
            "red", "the reconciler has not run for five minutes: beat is down", _START_BEAT
        )
    elif known.reconciler == "runs without beat":
        yield Reason("yellow", "beat is down; a maintenance worker stands in for it", _START_BEAT)
    elif known.reconciler == "never ran":
        yield Reason(
            "yellow", "the reconciler has not run yet; beat wakes it every minute", _START_BEAT
        )
