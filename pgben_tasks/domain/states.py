"""What the signed statements say of one backup: its state, flags and dates.

Pure: the statements come in, a standing comes out. No clock, no repository, and no wording for
screens beyond the state's own label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Self

from pgben_tasks.domain.documents import Manifest, Verification
from pgben_tasks.domain.holds import Hold, current_hold, in_force
from pgben_tasks.domain.statements import in_order
from pgben_tasks.domain.target import BackupId

#: Statements that looked at stored bytes or at their presence.
_EXAMINING: Final = frozenset({"readback", "quick", "full", "drill"})

#: Statements that read every byte of every pack. Only these make a backup verified: a quick look
#: sees names and sizes, not content.
_READING: Final = frozenset({"readback", "full", "drill"})

#: The only statement that clears an earlier finding, as after a repair from a copy.
_CLEARING: Final = "full"


class State(StrEnum):
    """What is known of a backup's bytes."""

    UNVERIFIED = "unverified"
    VERIFIED = "verified"
    VERIFIED_UNOPENED = "verified_unopened"
    #: Every kept byte is good, and somebody acknowledged that some objects could not be kept.
    VERIFIED_EXCEPTIONS = "verified_exceptions"
    #: … and nobody acknowledged it.
    INCOMPLETE = "incomplete"
    #: Every byte is good, and no client of this site can load it into the server.
    NOT_RESTORABLE = "not_restorable"
    DAMAGED = "damaged"

    @property
    def label(self) -> str:
        """Name the state as lists and reports show it."""
        return _LABELS.get(self, self.value)

    @property
    def needs_permission(self) -> bool:
        """Whether a restore takes such a backup by its id only when it is told to."""
        return self in {State.DAMAGED, State.UNVERIFIED}


_LABELS: Final = {
    State.VERIFIED_UNOPENED: "verified (unopened)",
    State.VERIFIED_EXCEPTIONS: "verified with exceptions",
    State.NOT_RESTORABLE: "not restorable here",
}
_GOOD: Final = frozenset({State.VERIFIED, State.VERIFIED_UNOPENED, State.VERIFIED_EXCEPTIONS})

#: The labels of states that count as good.
GOOD_LABELS: Final = frozenset(state.label for state in _GOOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupStanding:
    """The state of a backup with its flags.

    ``suspect`` is the reason why the backup is implausible, None when it is not; ``needs`` is what
    this site lacked to restore it when that was last looked at; ``last_verified``
    and ``last_read`` are the latest statements without findings, the second one of a full read;
    ``drilled`` is the latest drill without findings; ``hold`` is what the last decision about
    holding it says, whether or not that has ended. All moments are UTC.
    """

    state: State
    suspect: str | None = None
    needs: str | None = None
    acknowledged: bool = False
    hold: Hold | None = None
    last_verified: datetime | None = None
    last_read: datetime | None = None
    drilled: datetime | None = None

    @property
    def verified(self) -> bool:
        """Whether the backup is known to be good, opened or not: nothing is missing for it."""
        return self.state in _GOOD

    @property
    def open_suspicion(self) -> bool:
        """Whether the backup is suspect and nobody has acknowledged that."""
        return self.suspect is not None and not self.acknowledged

    def hold_at(self, now: datetime) -> Hold | None:
        """Return what keeps the backup from being pruned at a moment; None when nothing does."""
        return in_force(self.hold, now)

    @property
    def counts(self) -> bool:
        """Whether retention and ``latest`` may rely on this backup."""
        return self.verified and not self.open_suspicion


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBackup:
    """What retention and selection need of one backup.

    ``sequence`` says which backup is newer, never a clock; ``bytes`` are stored bytes;
    ``snapshot_time`` is the moment whose data the backup holds.
    """

    id: BackupId
    sequence: int
    started: datetime
    snapshot_time: datetime
    standing: BackupStanding
    bytes: int

    @classmethod
    def from_manifest(cls, manifest: Manifest, verifications: Iterable[Verification]) -> Self:
        """Return a backup as its manifest and the statements about it describe it."""
        return cls(
            id=manifest.backup_id,
            sequence=manifest.sequence,
            started=manifest.started,
            snapshot_time=manifest.snapshot_time,
            standing=state_of(manifest, verifications),
            bytes=manifest.stored_bytes,
        )


def state_of(manifest: Manifest, verifications: Iterable[Verification]) -> BackupStanding:
    """Return the standing of a backup from the signed statements about it, in any order.

    A statement without findings counts when it examined at least one pack and does not speak of
    another manifest. Any finding damages the backup until a later full verification is clean.
    """
    statements = in_order(verifications)
    return _standing(manifest, statements, _proof(manifest, statements))


def state_at(
    manifest: Manifest, verifications: Iterable[Verification], *, needs: str | None
) -> BackupStanding:
    """Return ``state_of`` as a place judges that lacks ``needs``, whatever its site lacked."""
    statements = in_order(verifications)
    proof = _proof(manifest, statements)
    proof.needs = needs
    standing = _standing(manifest, statements, proof)
    return standing if standing.state is State.NOT_RESTORABLE else replace(standing, needs=None)


def _standing(
    manifest: Manifest, statements: Sequence[Verification], proof: _Proof
) -> BackupStanding:
    kinds = {one.kind for one in statements}
    acknowledged = "acknowledgement" in kinds
    return BackupStanding(
        state=_state(manifest, proof, acknowledged=acknowledged),
        suspect=manifest.suspect,
        needs=proof.needs,
        acknowledged=acknowledged,
        hold=current_hold(statements),
        last_verified=proof.last_verified,
        last_read=proof.last_read,
        drilled=proof.drilled,
    )


@dataclass(slots=True)
class _Proof:
    """What statements that looked at bytes prove, one after the other."""

    damaged: bool = False
    proved: bool = False
    opened: bool = False
    needs: str | None = None
    last_verified: datetime | None = None
    last_read: datetime | None = None
    drilled: datetime | None = None

    def add(self, one: Verification) -> None:
        if one.findings:
            self.damaged, self.proved, self.opened = True, False, False
            return
        if one.packs_checked == 0 or (self.damaged and one.kind != _CLEARING):
            return
        self.damaged = False
        self.needs = one.needs
        self.opened = self.opened or one.opened
        if one.kind in _READING:
            self.proved, self.last_read = True, one.at
        if self.proved:
            self.last_verified = one.at
        if one.kind == "drill":
            self.drilled = one.at


def _proof(manifest: Manifest, statements: Iterable[Verification]) -> _Proof:
    digest = manifest.digest
    proof = _Proof()
    for one in statements:
        if one.kind in _EXAMINING and (one.findings or one.manifest in {None, digest}):
            proof.add(one)
    return proof


def _state(manifest: Manifest, proof: _Proof, *, acknowledged: bool) -> State:
    if proof.damaged:
        return State.DAMAGED
    if not proof.proved:
        return State.UNVERIFIED
    if proof.needs is not None:
        return State.NOT_RESTORABLE
    if manifest.unreadable:
        return State.VERIFIED_EXCEPTIONS if acknowledged else State.INCOMPLETE
    return State.VERIFIED if proof.opened else State.VERIFIED_UNOPENED
