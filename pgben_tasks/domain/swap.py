"""A swap as a value: one database of a server takes the name of another.

Databases are told apart by oid, never by name: names are what a swap changes. Pure; what is true
of a server at a moment comes in, what became of the swap comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from pgben_tasks.domain.target import MAX_NAME_BYTES
from pgben_tasks.errors import RestoreRefused

#: ``intended``: written down before anything is touched, and open until its end is known;
#: ``done``: the names were exchanged; ``abandoned``: they were not, and will not be;
#: ``undone``: a later swap turned it back; ``dropped``: the database set aside was removed.
SwapState = Literal["intended", "done", "abandoned", "undone", "dropped"]

#: What a look at the server says: the names were exchanged, they were not, or somebody renamed
#: or removed one of the databases, and nothing may be guessed.
Standing = Literal["done", "not done", "unclear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """``incoming`` takes the name ``live``, and the database that has it becomes ``aside``.

    Where no database has that name, ``aside`` and ``live_oid`` are None: nothing is replaced.
    ``was_open`` says whether connections to ``live`` were allowed before; a swap that is given up
    leaves that as it was. ``undoes`` is the job whose swap this one turns back.
    """

    job: UUID
    target: str
    live: str
    incoming: str
    aside: str | None
    live_oid: int | None
    incoming_oid: int
    was_open: bool = True
    undoes: UUID | None = None
    state: SwapState = "intended"
    settled_at: datetime | None = None
    #: Why the database set aside is never removed by itself, where somebody decided that.
    kept_because: str | None = None

    def standing(self, oids: Mapping[str, int]) -> Standing:
        """Return what became of the swap on a server whose databases are ``oids`` by name."""
        if self.aside is None:
            # Nothing was set aside, so nothing can be lost by what somebody renamed since.
            return "done" if oids.get(self.live) == self.incoming_oid else "not done"
        if (oids.get(self.live), oids.get(self.aside)) == (self.incoming_oid, self.live_oid):
            return "done"
        if oids.get(self.live) == self.live_oid:
            return "not done"
        return "unclear"


def way_back(swap: Swap) -> str:
    """Return, for a hint, what turns ``swap`` back."""
    if swap.aside is None:
        return (
            f"it replaced nothing; `pgben restore {swap.live}` with `backup`, `in_place` and "
            f"`confirm={swap.live}` takes another backup"
        )
    return f"`pgben undo {swap.job} --confirm {swap.live}` turns it back"


def way_back_of(whole: UUID, swaps: Iterable[Swap]) -> str:
    """Return, for a hint, what turns the ``swaps`` of a restore of everything back."""
    confirms = " ".join(f"--confirm {one.live}" for one in swaps)
    return f"`pgben undo {whole} {confirms}` turns it back"


def check_confirmation(name: str, confirm: str | None) -> None:
    """Raise ``RestoreRefused`` unless ``confirm`` is the name of what would be replaced."""
    if confirm != name:
        given = _given(confirm)
        raise RestoreRefused(
            f"'{name}' would be replaced, and {given} was given to confirm that",
            f"give its name once more: `confirm={name}`",
        )


def check_confirmations(names: AbstractSet[str], confirm: Iterable[str]) -> None:
    """Raise ``RestoreRefused`` unless ``confirm`` are the names of all that would be replaced."""
    given = set(confirm)
    missing, strange = sorted(names - given), sorted(given - names)
    wanted = ", ".join(f"`confirm={one}`" for one in sorted(names))
    if missing:
        raise RestoreRefused(
            f"not confirmed, and would be replaced: {', '.join(missing)}",
            f"nothing was changed; give the name of each once more: {wanted}",
        )
    if strange:
        raise RestoreRefused(
            f"'{strange[0]}' was confirmed, and nothing of that name would be replaced",
            f"nothing was changed; give the name of each once more: {wanted}",
        )


def check_removal(name: str, confirm: str | None) -> None:
    """Raise ``RestoreRefused`` unless ``confirm`` is the name of what would be removed."""
    if confirm != name:
        given = _given(confirm)
        raise RestoreRefused(
            f"'{name}' would be removed, and {given} was given to confirm that",
            f"give its name once more: `confirm={name}`",
        )


def _given(confirm: str | None) -> str:
    return "nothing" if confirm is None else f"'{confirm}'"


def marker(job: UUID) -> str:
    """Return the comment that an unfinished copy carries from its creation to its last step."""
    return f"pgben: unfinished restore of job {job}; removed when the job ends"


def replaced_name(database: str, now: datetime) -> str:
    """Return the name of the database that a restore replaces, ``<name>_replaced_<date_time>``.

    The time is ``yyyymmdd_hhmmss``, local to the reader. The name is cut so that 63 bytes suffice.
    """
    return _suffixed(database, "replaced", now)


def undone_name(database: str, now: datetime) -> str:
    """Return the name of what an undo sets aside, ``<name>_undone_<date_time>``."""
    return _suffixed(database, "undone", now)


def restored_name(database: str, now: datetime) -> str:
    """Return the name of the copy beside the original, ``<name>_restored_<date_time>``."""
    return _suffixed(database, "restored", now)


def _suffixed(database: str, what: str, now: datetime) -> str:
    suffix = f"_{what}_{now:%Y%m%d_%H%M%S}"
    return database[: MAX_NAME_BYTES - len(suffix)] + suffix
