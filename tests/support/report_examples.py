"""Reports as a small city's installation would have them; always the same.

``good``: nothing is wrong. ``attention``: restorable, and some things need a look. ``critical``: a
database without a recent backup, damage, and a verification that did not run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final

from pgben_tasks.domain.nights import NightState
from pgben_tasks.domain.report import (
    Acknowledgement,
    Answers,
    CrossCheck,
    Hold,
    NightOf,
    OpenAlarm,
    PointFacts,
    Pruned,
    Report,
    ReportFinding,
    ReportReason,
    Size,
    SpaceFacts,
    TargetFacts,
    VerificationFacts,
)

#: Monday morning in Fortaleza, after the verification.
MADE: Final = datetime(2026, 11, 30, 12, 40, tzinfo=UTC)
_TODAY: Final = date(2026, 11, 30)
_HOURS: Final = 3600.0
_GIB: Final = 2**30
_MIB: Final = 2**20
_NIGHTS: Final = 90


def _night(back: int, hour: int = 5) -> datetime:
    """Return the moment of the backup so many nights ago."""
    return datetime(2026, 11, 30, hour, 2, 11, tzinfo=UTC) - timedelta(days=back)


def _id(back: int, hour: int = 5) -> str:
    return f"{_night(back, hour):%Y%m%dT%H%M%SZ}-{(back * 7919 + hour * 104729) % 16**6:06x}"


def _week(states: Mapping[int, NightState]) -> tuple[NightOf, ...]:
    return tuple(
        NightOf(day=_TODAY - timedelta(days=back), state=states.get(back, "good"))
        for back in reversed(range(7))
    )


def _nights(states: Mapping[int, NightState]) -> tuple[NightOf, ...]:
    return tuple(
        NightOf(day=_TODAY - timedelta(days=back), state=states.get(back, "good"))
        for back in reversed(range(_NIGHTS))
    )


def _trend(
    start: float, growth: float, seconds: float, *, without: tuple[int, ...] = (), hour: int = 5
) -> tuple[Size, ...]:
    """Return sizes that grow with a wave in them; none of the nights ``without``."""
    found = []
    for back in reversed(range(_NIGHTS)):
        if back in without:
            continue
        day = _NIGHTS - back
        wave = 1 + 0.02 * math.sin(day / 2.2) + 0.012 * math.sin(day * 1.7)
        size = int((start + growth * day) * wave)
        # Weekends are quiet.
        calm = 0.82 if (_TODAY - timedelta(days=back)).weekday() > 4 else 1.0
        took = round(seconds * calm * (1 + 0.0035 * day) * (1 + 0.06 * math.sin(day * 2.9)), 1)
        found.append(Size(at=_night(back, hour), stored_bytes=size, seconds=took))
    return tuple(found)


def _retention(hour: int) -> tuple[Pruned, ...]:
    young = tuple(
        Pruned(
            backup=_id(back, hour),
            decision="keep",
            reasons=("younger than 30 days",)
            if back > 2
            else ("younger than 30 days", "one of the 3 newest verified"),
        )
        for back in range(30)
    )
    monthly = Pruned(backup=_id(60, hour), decision="keep", reasons=("newest of month 2026-10",))
    gone = tuple(
        Pruned(
            backup=_id(back, hour),
            decision="expired",
            reasons=("past its age, and no rule keeps it",),
        )
        for back in range(30, 37)
    )
    return (*young, *gone, monthly)


def _database() -> TargetFacts:
    return TargetFacts(
        target="postgres/pgben",
        week=_week({}),
        backup=_id(0),
        state="verified",
        last_good=_night(0),
        age_seconds=7.6 * _HOURS,
        within_rpo=True,
        trend=_trend(36.2 * _GIB, 0.058 * _GIB, 640, without=(71,)),
        bytes_reread=int(41.4 * _GIB),
        last_full_verification=datetime(2026, 11, 30, 11, 21, tzinfo=UTC),
        verification_overdue=False,
        last_restore_seconds=2310,
        last_restore_at=datetime(2026, 11, 24, 14, 5, tzinfo=UTC),
        within_rto=True,
        next_window=_night(-1),
        failures=0,
        retention=_retention(5),
    )


def _bucket() -> TargetFacts:
    return TargetFacts(
        target="bucket/documentos",
        week=_week({}),
        backup=_id(0, 6),
        state="verified",
        last_good=_night(0, 6),
        age_seconds=6.6 * _HOURS,
        within_rpo=True,
        trend=_trend(512 * _MIB, 3.4 * _MIB, 205, without=(71,), hour=6),
        bytes_reread=int(388 * _GIB),
        last_full_verification=datetime(2026, 11, 30, 12, 18, tzinfo=UTC),
        verification_overdue=False,
        last_restore_seconds=5400,
        last_restore_at=datetime(2026, 11, 24, 15, 50, tzinfo=UTC),
        within_rto=True,
        next_window=_night(-1, 6),
        failures=0,
        retention=_retention(6),
        holds=(
            Hold(
                backup=_id(12, 6),
                label="release-42",
                until=datetime(2026, 12, 15, 3, 0, tzinfo=UTC),
                who="ana",
            ),
        ),
    )


def _space() -> tuple[SpaceFacts, ...]:
    return (
        SpaceFacts(
            place="spool",
            where="/var/lib/pgben/spool",
            used=31 * _GIB,
            capacity=200 * _GIB,
            growth_per_day=int(0.06 * _GIB),
            days_left=2790,
            tonight=44 * _GIB,
            fits=True,
            critical=False,
        ),
        SpaceFacts(
            place="repository",
            where="s3://backups/pgben",
            used=1640 * _GIB,
            capacity=4000 * _GIB,
            growth_per_day=int(9.4 * _GIB),
            days_left=251,
            tonight=int(42.1 * _GIB),
            fits=True,
            critical=False,
        ),
        SpaceFacts(
            place="restore",
            where="postgres/pgben",
            used=212 * _GIB,
            capacity=500 * _GIB,
            growth_per_day=int(0.4 * _GIB),
            days_left=720,
            tonight=None,
            fits=True,
            critical=False,
        ),
    )


def good() -> Report:
    """Return the report of a week without trouble."""
    return Report(
        id="20261130T124000Z",
        made_at=MADE,
        zone="America/Fortaleza",
        node="backup-1",
        colour="green",
        reasons=(),
        answers=Answers(colour="green", to=_night(0), seconds=7710, measured="sum"),
        rpo_seconds=26 * _HOURS,
        rto_seconds=4 * _HOURS,
        verification=VerificationFacts(
            state="succeeded",
            job="3f0c9a2b-1111-4222-8333-444444444444",
            window=datetime(2026, 11, 30, 11, 0, tzinfo=UTC),
            ended_at=datetime(2026, 11, 30, 12, 31, tzinfo=UTC),
            examined=62,
            bytes_read=int(429.4 * _GIB),
        ),
        point=PointFacts(
            id=_id(0, 7),
            state="verified",
            moment=_night(0),
            within_rpo=True,
            faults=0,
            checks=(
                CrossCheck(reference="documentos.arquivo", rows=1_284_113, faults=0),
                CrossCheck(reference="obras.foto", rows=96_204, faults=0),
            ),
            newest=_id(0, 7),
            newest_state="verified",
        ),
        targets=(_database(), _bucket()),
        nights=_nights({71: "no backup"}),
        space=_space(),
        alarms=(),
        contacts=(
            ("Ana Ribeiro", "ana@cidade.example", "+55 85 5555-0101"),
            ("Plantão da TI", "plantao@cidade.example", "+55 85 5555-0199"),
        ),
    )


def attention() -> Report:
    """Return the report of a week in which some things need a look."""
    week: dict[int, NightState] = {2: "failed", 4: "doubtful"}
    database = _database().model_copy(
        update={
            "week": _week({2: "failed"}),
            "trend": _trend(36.2 * _GIB, 0.058 * _GIB, 640, without=(2, 38, 39, 71)),
            "client_holes": ("pg_dump 17.9: CVE-2026-18408, fixed in 17.11",),
        }
    )
    bucket = _bucket().model_copy(
        update={
            "week": _week({4: "doubtful"}),
            "last_restore_seconds": None,
            "last_restore_at": None,
            "within_rto": None,
            "acknowledged": (
                Acknowledgement(what=_id(4, 6), who="ana", at=_night(3, 14)),
                Acknowledgement(what="3", who="bruno", at=_night(20, 17)),
            ),
        }
    )
    return good().model_copy(
        update={
            "colour": "yellow",
            "reasons": (
                ReportReason(
                    colour="yellow",
                    text="the disk of 'repository' is fuller than PGBEN_DISK_CRITICAL",
                ),
                ReportReason(
                    colour="yellow",
                    text="rows of the newest verified recovery point whose objects are not as they "
                    "say: 3",
                    hint=f"`pgben points {_id(0, 7)}` shows them",
                ),
            ),
            "answers": Answers(colour="yellow", to=_night(0), seconds=None, measured="never"),
            "point": good().point.model_copy(  # type: ignore[union-attr]
                update={
                    "faults": 3,
                    "checks": (
                        CrossCheck(reference="documentos.arquivo", rows=1_284_113, faults=3),
                        CrossCheck(reference="obras.foto", rows=96_204, faults=0),
                    ),
                }
            ),
            "targets": (database, bucket),
            "nights": _nights({**week, 38: "no backup", 39: "failed", 71: "no backup"}),
            "space": (
                _space()[0],
                _space()[1].model_copy(
                    update={"used": 3310 * _GIB, "days_left": 73.4, "critical": True}
                ),
                _space()[2],
            ),
            "alarms": (
                OpenAlarm(
                    kind="faulty",
                    target="*",
                    since=_night(0, 7),
                    sentence="rows of the newest verified recovery point whose objects are not as "
                    "they say: 3",
                ),
            ),
        }
    )


def critical() -> Report:
    """Return the report of a week in which a database cannot be restored as it should be."""
    states: dict[int, NightState] = {0: "no backup", 1: "failed", 2: "failed"}
    database = _database().model_copy(
        update={
            "week": _week(states),
            "backup": _id(3),
            "state": "damaged",
            "last_good": _night(4),
            "age_seconds": 103.6 * _HOURS,
            "within_rpo": False,
            "trend": _trend(36.2 * _GIB, 0.058 * _GIB, 640, without=(0, 1, 2, 38, 39, 71)),
            "bytes_reread": 0,
            "last_full_verification": datetime(2026, 11, 2, 11, 21, tzinfo=UTC),
            "verification_overdue": True,
            "last_restore_seconds": 19_800,
            "within_rto": False,
            "failures": 3,
            "last_failure": "the PostgreSQL server 'db.cidade.example:5432' does not answer",
            "retention": (
                Pruned(
                    backup=_id(4),
                    decision="keep",
                    reasons=("would expire, but pruning is refused",),
                ),
            ),
            "retention_refused": (
                f"the newest backup '{_id(3)}' is over 3 scheduled intervals old"
            ),
            "findings": (
                ReportFinding(
                    backup=_id(3),
                    kind="missing",
                    detail="the pack is not in the repository",
                ),
            ),
        }
    )
    return attention().model_copy(
        update={
            "colour": "red",
            "reasons": (
                ReportReason(
                    colour="red",
                    text="the newest verified backup of 'postgres/pgben' is older than PGBEN_RPO",
                ),
                ReportReason(
                    colour="red",
                    text="no worker runs for verify",
                    hint="start one with `python -m workers verify`, or all with "
                    "`python -m workers all`",
                ),
                *attention().reasons,
            ),
            "answers": Answers(colour="red", to=_night(4), seconds=25_200, measured="everything"),
            "verification": VerificationFacts(
                state="missing", window=datetime(2026, 11, 30, 11, 0, tzinfo=UTC)
            ),
            "targets": (database, attention().targets[1]),
            "nights": _nights({**states, 4: "doubtful", 38: "no backup", 39: "failed"}),
            "alarms": (
                OpenAlarm(
                    kind="stale",
                    target="postgres/pgben",
                    since=_night(2, 14),
                    sentence="the newest verified backup is older than 26 h, and none is under way",
                ),
                *attention().alarms,
            ),
        }
    )


#: Each kind of report by its name.
EXAMPLES: Final[Mapping[str, Callable[[], Report]]] = {
    "good": good,
    "attention": attention,
    "critical": critical,
}
