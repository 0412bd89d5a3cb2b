"""What the catalog says for a monitoring system. Nothing is changed; a login that reads is enough.

The repository is not opened: its id is that of the newest backup.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row, require
from pgben_tasks.adapters.catalog.records import ATTEMPTED, NEW_WORK, TOOK
from pgben_tasks.domain.documents import RecoveryPoint
from pgben_tasks.domain.metrics import LastBackup, NewestGood, PointMeasures, state_label
from pgben_tasks.domain.points import MemberFacts, known_point, member_state, newest_good
from pgben_tasks.domain.states import GOOD_LABELS

_REPOSITORY: Final = "(SELECT repository FROM backup ORDER BY started_at DESC LIMIT 1)"
#: How many of the newest recovery points are looked at for one that is verified.
_MOST_POINTS: Final = 60


class Indexed:
    """The backups of the index, by target, the newest first."""

    def __init__(self, rows: list[Row]) -> None:
        """Take the rows of ``backup``."""
        self._rows = rows

    def state(self, target: str) -> str:
        """Return the state of the newest backup of a target as a label; ``none`` without one."""
        return next((_state(row) for row in self._of(target)), "none")

    def counts(self, target: str) -> Counter[str]:
        """Return how many backups of a target are in each state."""
        return Counter(_state(row) for row in self._of(target))

    def newest_good(self, target: str) -> NewestGood | None:
        """Return the backup that a restore of a target would take."""
        for row in self._of(target):
            if row["state"] in GOOD_LABELS and not row["suspect"] and row["snapshot_at"]:
                return NewestGood(taken=row["snapshot_at"], stored_bytes=row["stored_bytes"] or 0)
        return None

    def facts(self) -> dict[tuple[str, str], MemberFacts]:
        """Return what recovery points need to know of their members."""
        return {
            (row["target"], row["id"]): MemberFacts(
                state=member_state(row["state"], suspect=row["suspect"]),
                manifest=row["manifest_sha256"],
            )
            for row in self._rows
        }

    def _of(self, target: str) -> list[Row]:
        return [row for row in self._rows if row["target"] == target]


class Measurements:
    """Questions of a monitoring system to the catalog."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def indexed(self) -> Indexed:
        """Return the backups of the index that have not expired."""
        return Indexed(
            self._database.fetch_all(
                "SELECT target, id, state, manifest_sha256, snapshot_at, stored_bytes,"  # noqa: S608 - constant
                " suspect IS NOT NULL AND NOT acknowledged AS suspect FROM backup"
                f" WHERE repository = {_REPOSITORY} AND state <> 'expired'"
                " ORDER BY target, sequence DESC NULLS LAST, id DESC"
            )
        )

    def point(self, indexed: Indexed) -> PointMeasures | None:
        """Return the newest recovery point whose members are all verified."""
        rows = self._database.fetch_all(
            "SELECT document::text AS text FROM recovery_point"  # noqa: S608 - constant
            f" WHERE repository = {_REPOSITORY} ORDER BY id DESC LIMIT %s",
            (_MOST_POINTS,),
        )
        facts = indexed.facts()
        read = (RecoveryPoint.model_validate_json(row["text"]) for row in rows)
        good = newest_good(known_point(one, facts) for one in read)
        if good is None:
            return None
        return PointMeasures(moment=good.moment, faults=good.faults if good.check else None)

    def last_backups(self) -> dict[str, LastBackup]:
        """Return the backup of each target that ended well last."""
        rows = self._database.fetch_all(
            f"SELECT DISTINCT ON (target) target, job.ended_at AS ended, {TOOK} AS took,"  # noqa: S608 - constant texts
            f" (result ->> 'stored_bytes')::bigint AS stored_bytes FROM {ATTEMPTED}"
            f" WHERE kind = 'backup' AND job.state = 'succeeded' AND {NEW_WORK}"
            " ORDER BY target, job.ended_at DESC"
        )
        return {row.pop("target"): LastBackup(**row) for row in rows}

    def jobs(self) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
        """Return how many jobs are open, and how many ended, by kind and state.

        One that failed and is tried again has not ended.
        """
        rows = self._database.fetch_all(
            "SELECT kind, CASE WHEN state = 'failed' AND retry_at IS NOT NULL THEN 'retrying'"
            " ELSE state END AS what, state IN ('queued', 'running', 'waiting')"
            " OR retry_at IS NOT NULL AS open, count(*) AS n FROM job GROUP BY 1, 2, 3"
        )
        counted: tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]] = (Counter(), Counter())
        for row in rows:
            counted[0 if row["open"] else 1][row["kind"], row["what"]] += row["n"]
        return counted

    def open_alarms(self) -> Counter[str]:
        """Return how many alarms of each kind are not over."""
        rows = self._database.fetch_all(
            "SELECT kind, count(*) AS n FROM alarm WHERE cleared_at IS NULL GROUP BY kind"
        )
        return Counter({row["kind"]: row["n"] for row in rows})

    def unsent_alarms(self) -> int:
        """Return how many alarms nobody was told of yet, and somebody is to be.

        Of a channel that does not work nobody is told where there is no other one.
        """
        row = self._database.fetch_one(
            "SELECT count(*) AS n FROM alarm a WHERE sent_at IS NULL AND (kind <> 'channel'"
            " OR EXISTS (SELECT FROM alarm_delivery d WHERE d.alarm = a.id))"
        )
        return int(require(row)["n"])


def _state(row: Row) -> str:
    return state_label(member_state(row["state"], suspect=row["suspect"]))
