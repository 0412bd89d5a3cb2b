"""Databases that restores and swaps left: listed, removed or kept because somebody asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from typing import Protocol

from pgben_tasks.domain.kept_databases import KeptDatabase, RestoredDatabase, list_kept, may_be_left
from pgben_tasks.domain.swap import Swap
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import PgbenError, RestoreRefused
from pgben_tasks.ports import PostgresKeptDatabases


class RestoredRows(Protocol):
    """The copies that the catalog knows."""

    def all(self) -> Sequence[RestoredDatabase]:
        """Return the copies that are not known to be gone."""

    def keep(self, one: RestoredDatabase, why: str) -> None:
        """Write why a copy is never removed by itself."""

    def gone(self, one: RestoredDatabase) -> None:
        """Write that a copy was removed, or is not there under its name any more."""


class SwapRows(Protocol):
    """The swaps that the catalog knows."""

    def done(self) -> Sequence[Swap]:
        """Return the swaps that are done and set a database aside."""

    def is_awaited(self, swap: Swap) -> bool:
        """Return whether somebody has asked to undo a swap."""

    def keep(self, swap: Swap, why: str) -> None:
        """Write why the database that ``swap`` set aside is never removed by itself."""

    def dropped(self, swap: Swap) -> None:
        """Write that the database that ``swap`` set aside is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDatabases:
    """What restores and swaps left on the servers of this installation."""

    servers: Mapping[Target, PostgresKeptDatabases]
    restored: RestoredRows
    swaps: SwapRows
    keep_restored: timedelta
    keep_replaced: timedelta
    zone: tzinfo

    def find(self) -> tuple[list[KeptDatabase], dict[Target, PgbenError]]:
        """Return what there is, and which servers could not be looked at, and why."""
        copies, swaps = self.restored.all(), self.swaps.done()
        lines: list[KeptDatabase] = []
        away: dict[Target, PgbenError] = {}
        for target, server in self.servers.items():
            try:
                lines += self._of_target(target, server, copies, swaps)
            except PgbenError as exc:
                away[target] = exc
        return lines, away

    def drop(self, line: KeptDatabase) -> None:
        """Remove a database.

        Raises ``RestoreRefused`` while sessions are connected to it or its undo is waited for.
        """
        name = line.found.name
        swap = self._swap(line)
        if swap is not None and self.swaps.is_awaited(swap):
            raise RestoreRefused(
                f"'{name}' is kept, because an undo that needs it is under way",
                "`pgben jobs` shows it",
            )
        found = self.servers[line.target].drop(name, line.found.oid, live=line.target.name)
        if found == "gone":
            raise RestoreRefused(
                f"there is no database '{name}' any more, or another one has its name",
                "somebody renamed or removed it meanwhile; `pgben databases` shows what there is",
            )
        if found == "in use":
            raise RestoreRefused(
                f"'{name}' is in use: sessions, prepared transactions or replication slots hold it",
                "end them; pg_stat_activity shows the sessions; nothing was changed",
            )
        if copy := self._copy(line):
            self.restored.gone(copy)
        if swap is not None:
            self.swaps.dropped(swap)

    def keep(self, line: KeptDatabase, why: str) -> bool:
        """Keep a database for good; return whether it would have been removed by itself."""
        if line.until is None:
            return False
        if copy := self._copy(line):
            self.restored.keep(copy, why)
            if not line.found.is_open:
                # A process that died while it looked through the copy has left it closed.
                self.servers[line.target].reopen(line.found.name, line.found.oid)
        if swap := self._swap(line):
            self.swaps.keep(swap, why)
        return True

    def _of_target(
        self,
        target: Target,
        server: PostgresKeptDatabases,
        copies: Sequence[RestoredDatabase],
        swaps: Sequence[Swap],
    ) -> list[KeptDatabase]:
        mine = [one for one in copies if one.target == str(target)]
        set_aside = [one for one in swaps if one.target == str(target)]
        known = {(one.name, one.oid) for one in mine}
        found = server.find(lambda name, oid: (name, oid) in known or may_be_left(name, target))
        return list(
            list_kept(
                target,
                found,
                restored=mine,
                swaps=set_aside,
                keep_restored=self.keep_restored,
                keep_replaced=self.keep_replaced,
                zone=self.zone,
            )
        )

    def _copy(self, line: KeptDatabase) -> RestoredDatabase | None:
        return next(
            (
                one
                for one in self.restored.all()
                if one.oid == line.found.oid and one.job == line.job
            ),
            None,
        )

    def _swap(self, line: KeptDatabase) -> Swap | None:
        return next(
            (
                one
                for one in self.swaps.done()
                if one.live_oid == line.found.oid and one.job == line.job
            ),
            None,
        )
