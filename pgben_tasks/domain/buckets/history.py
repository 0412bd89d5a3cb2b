"""What the snapshots of a bucket say one after another. Pure.

How many objects each changed beside the one before, which versions of one object there were, and
which snapshots are from before a suspicion.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from pgben_tasks.domain.buckets.diff import Totals, mass_change
from pgben_tasks.domain.buckets.inventory import Entry, Line
from pgben_tasks.domain.buckets.restore_plan import Found, PlanTotals, between, differences
from pgben_tasks.domain.states import KnownBackup


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the objects of a bucket."""

    objects: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What one snapshot has beside the one before it, which knew so many keys (``known``).

    Bytes are those of added objects, and what changed, retagged and deleted ones had before. Of
    ``not_compared`` keys one of both snapshots has no bytes.
    """

    known: int
    added: Part
    changed: Part
    retagged: Part
    deleted: Part
    not_compared: int

    def mass_change(self, share: Decimal) -> str | None:
        """Return why so much changed that a snapshot would be suspect; None when it did not."""
        totals = Totals(known=self.known, changed=self.changed.objects, gone=self.deleted.objects)
        return mass_change(totals, share)


def count_changes(before: Iterable[Line], after: Iterable[Line], *, tags: bool) -> Changes:
    """Count what differs between two snapshots, both in the order of keys; memory stays flat.

    ``tags`` is False where one of both was taken of a server that kept none. Raises
    ``ManifestInvalid`` as ``between`` does.
    """
    totals = PlanTotals()
    for verdict in between(before, after, tags=tags):
        totals.count(verdict)

    def part(found: Found) -> Part:
        return Part(objects=totals.objects_of(found), bytes=totals.size(found))

    return Changes(
        known=totals.readable + totals.objects_of("unreadable"),
        added=part("extra"),
        changed=part("differing"),
        retagged=part("tags"),
        deleted=part("missing"),
        not_compared=totals.objects_of("unreadable"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One object in one snapshot: its line, None where the snapshot lacks it."""

    backup: KnownBackup
    line: Line | None
    knows_tags: bool


@dataclass(slots=True, kw_only=True)
class Span:
    """Snapshots one after another in which an object is the same, unreadable or gone.

    ``differs`` names what is not as in the version before; it is empty for the first one, and for
    one that is as before again, after it was gone or could not be read (``again``).
    """

    what: Literal["kept", "unreadable", "gone"]
    entry: Entry | None = None
    differs: tuple[str, ...] = ()
    again: bool = False
    #: Oldest first; at least one.
    backups: list[KnownBackup] = field(default_factory=list)

    @property
    def source(self) -> KnownBackup:
        """The newest of its snapshots that a restore takes as it is, or the newest of all."""
        willing = [one for one in self.backups if not one.standing.state.needs_permission]
        return (willing or self.backups)[-1]


def spans(sightings: Iterable[Sighting]) -> list[Span]:
    """Return the history of one object, oldest first, from its first appearance on.

    ``sightings`` are of snapshots one after another, oldest first.
    """
    found: list[Span] = []
    last: Sighting | None = None
    for one in sightings:
        following = _following(one, last)
        if following.what == "gone" and not found:
            continue
        # What is not known of the tags now was known before.
        anew = last is None or following.differs or one.knows_tags
        if following.what == "kept" and anew:
            last = one
        if found and found[-1].what == following.what and not following.differs:
            found[-1].backups.append(one.backup)
        else:
            following.backups.append(one.backup)
            found.append(following)
    return found


def _following(one: Sighting, last: Sighting | None) -> Span:
    """Return the span that a sighting would begin; ``last`` is the one of the version before."""
    if one.line is None:
        return Span(what="gone")
    if one.line.pack is None:
        return Span(what="unreadable")
    differs: tuple[str, ...] = ()
    if last is not None and last.line is not None:
        differs = differences(last.line, one.line, tags=last.knows_tags and one.knows_tags)
    again = last is not None and not differs
    return Span(what="kept", entry=one.line.entry(), differs=differs, again=again)


def first_suspect(backups: Iterable[KnownBackup]) -> KnownBackup | None:
    """Return the oldest snapshot that is suspect and that nobody acknowledged.

    What came after it holds the same loss, whether or not it is suspect itself.
    """
    suspects = (one for one in backups if one.standing.open_suspicion)
    return min(suspects, key=lambda one: one.sequence, default=None)


def good_before(backups: Iterable[KnownBackup], suspect: KnownBackup) -> list[KnownBackup]:
    """Return the snapshots from before a suspect one that count as good, oldest first."""
    good = [one for one in backups if one.sequence < suspect.sequence and one.standing.counts]
    return sorted(good, key=lambda one: one.sequence)
