"""How full the places were that pgben writes to: one row for each place and day."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from pgben_tasks.adapters.catalog.database import CatalogDatabase, Row
from pgben_tasks.domain.space import Place, Sample, Usage

#: Samples older than this are removed.
KEPT_FOR: Final = timedelta(days=120)


class SpaceSamples:
    """The rows of ``space_sample``."""

    def __init__(self, database: CatalogDatabase) -> None:
        """Use the catalog at ``database``."""
        self._database = database

    def add(self, samples: Iterable[Sample]) -> None:
        """Write what was just measured; the last measurement of a day stays."""
        with self._database.transaction() as cursor:
            for one in samples:
                cursor.execute(
                    "INSERT INTO space_sample (place, location, day, node, used, passing,"
                    " capacity, limited, measured_at) VALUES (%(place)s, %(location)s,"
                    " (%(at)s AT TIME ZONE 'UTC')::date, %(node)s, %(used)s, %(passing)s,"
                    " %(capacity)s, %(limited)s, %(at)s) ON CONFLICT (place, location, day)"
                    " DO UPDATE SET node = excluded.node, used = excluded.used,"
                    " passing = excluded.passing, capacity = excluded.capacity,"
                    " limited = excluded.limited, measured_at = excluded.measured_at"
                    " WHERE space_sample.measured_at <= excluded.measured_at",
                    {
                        "place": one.place,
                        "location": one.where,
                        "at": one.measured_at,
                        "node": one.node,
                        "used": one.usage.used,
                        "passing": one.usage.passing,
                        "capacity": one.usage.capacity,
                        "limited": one.usage.limited,
                    },
                )
            cursor.execute(
                "DELETE FROM space_sample WHERE measured_at < clock_timestamp() - %s", (KEPT_FOR,)
            )

    def samples(self, *, since: datetime) -> list[Sample]:
        """Return what was measured since then, the oldest first."""
        rows = self._database.fetch_all(
            "SELECT * FROM space_sample WHERE measured_at >= %s ORDER BY measured_at", (since,)
        )
        return [_sample(row) for row in rows]

    def newest(self, place: Place, where: str) -> Sample | None:
        """Return the last measurement of a place; None when there is none."""
        row = self._database.fetch_one(
            "SELECT * FROM space_sample WHERE place = %s AND location = %s"
            " ORDER BY day DESC LIMIT 1",
            (place, where),
        )
        return None if row is None else _sample(row)


def _sample(row: Row) -> Sample:
    return Sample(
        place=row["place"],
        where=row["location"],
        measured_at=row["measured_at"],
        node=row["node"],
        usage=Usage(
            used=row["used"],
            capacity=row["capacity"],
            passing=row["passing"],
            limited=row["limited"],
        ),
    )
