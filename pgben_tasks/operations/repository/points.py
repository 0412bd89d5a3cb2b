"""Read the recovery points of a repository, with the state that statements give their members."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pgben_tasks.domain.documents import Finding, RecoveryPoint
from pgben_tasks.domain.layout import point_path
from pgben_tasks.domain.points import (
    MISSING,
    UNREADABLE,
    KnownPoint,
    MemberFacts,
    known_point,
    standing_state,
)
from pgben_tasks.domain.states import state_of
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import BackupNotFound, IntegrityError, PermanentError
from pgben_tasks.operations.repository.survey import Survey, finding_of
from pgben_tasks.ports import Repository

#: Each document is small and the way to the store may be long.
_READERS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """The documents of recovery points by their ids, and those that cannot be believed."""

    documents: tuple[RecoveryPoint, ...]
    unreadable: tuple[tuple[BackupId, Finding], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedPoints:
    """The recovery points of a repository with their states, and those that cannot be believed."""

    points: tuple[KnownPoint, ...]
    unreadable: tuple[tuple[BackupId, Finding], ...]

    def require_readable(self, refusal: type[PermanentError]) -> None:
        """Raise ``refusal`` when a recovery point, or a member of one, cannot be believed."""
        for one in self.points:
            if UNREADABLE in one.states:
                member = one.members[one.states.index(UNREADABLE)]
                raise refusal(
                    f"backup '{member.backup}' of '{member.target}', of recovery point '{one.id}', "
                    "cannot be believed",
                    f"run `pgben verify {member.target}`; nothing is removed while it is in doubt",
                )
        if self.unreadable:
            point, finding = self.unreadable[0]
            raise refusal(
                f"recovery point '{point}' cannot be believed: {finding.detail}",
                "run `pgben verify`, and find out who can write to the repository",
            )

    @property
    def findings(self) -> list[Finding]:
        """Return what is wrong with points: unreadable ones, and members that are gone."""
        gone = [
            Finding(
                kind="missing",
                path=point_path(one.id),
                detail=f"its member '{member.backup}' of '{member.target}' is gone or another one",
            )
            for one in self.points
            for member, state in zip(one.members, one.states, strict=True)
            if state == MISSING
        ]
        return [*(finding for _, finding in self.unreadable), *gone]


def read_points(repository: Repository, *, only: BackupId | None = None) -> Points:
    """Read every recovery point, or ``only`` one."""
    documents: list[RecoveryPoint] = []
    unreadable: list[tuple[BackupId, Finding]] = []
    for point in repository.points() if only is None else [only]:
        try:
            documents.append(repository.point(point))
        except BackupNotFound:
            # Another target's prune removed it since it was listed.
            if only is not None:
                raise
        except IntegrityError as exc:
            unreadable.append((point, finding_of(exc, point_path(point))))
    return Points(documents=tuple(documents), unreadable=tuple(unreadable))


def lost_faults(repository: Repository, folder: Path) -> Iterator[Finding]:
    """Yield the lists of faults that are gone, or are not what their point describes."""
    for point in read_points(repository).documents:
        file = folder / f"{point.id}.faults"
        try:
            repository.fetch_faults(point, file)
        except IntegrityError as exc:
            yield finding_of(exc, point_path(point.id))
        finally:
            file.unlink(missing_ok=True)


def surveyed_points(
    repository: Repository, *, only: BackupId | None = None, surveys: Sequence[Survey] = ()
) -> SurveyedPoints:
    """Read every recovery point, or ``only`` one, and the statements about its members.

    ``surveys`` are of targets that were read already.
    """
    read = read_points(repository, only=only)
    facts = _facts(surveys)
    # Also of targets that were surveyed: a backup may be newer than the survey.
    unknown = {(one.target, one.backup) for point in read.documents for one in point.members}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="points") as readers:
        for found in readers.map(partial(_facts_of, repository), sorted(unknown - facts.keys())):
            facts |= found
    return SurveyedPoints(
        points=tuple(known_point(one, facts) for one in read.documents), unreadable=read.unreadable
    )


def _facts(surveys: Sequence[Survey]) -> dict[tuple[str, str], MemberFacts]:
    return {
        (str(one.target), str(backup.known.id)): MemberFacts(
            state=standing_state(backup.known.standing),
            manifest=backup.manifest.digest,
            hold=backup.known.standing.hold,
        )
        for one in surveys
        for backup in one.backups
    }


def _facts_of(repository: Repository, key: tuple[str, str]) -> dict[tuple[str, str], MemberFacts]:
    """Return what is known of one backup; nothing when it is gone or cannot be believed."""
    target, backup = Target.parse(key[0]), BackupId.parse(key[1])
    try:
        manifest = repository.manifest(target, backup)
        standing = state_of(manifest, repository.verifications(target, backup))
    except BackupNotFound:
        return {}
    except IntegrityError:
        return {key: MemberFacts(state=UNREADABLE, manifest=None)}
    return {
        key: MemberFacts(
            state=standing_state(standing), manifest=manifest.digest, hold=standing.hold
        )
    }
