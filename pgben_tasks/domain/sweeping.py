"""What of a repository's unnamed files is left over, and why the rest stays. Pure.

A file is left over only if nothing that exists names it, the job that wrote it has ended or is
unknown, and it is old by the clock of the store itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from pgben_tasks.domain.target import BackupId, require_utc

#: Longer than any job runs, and long enough for somebody to notice that a manifest was lost.
SWEEP_AGE: Final = timedelta(days=7)

RemnantKind = Literal["pack", "inventory", "shard", "upload", "signature"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remnant:
    """A stored thing that no manifest names.

    ``key`` is where it lies or was to lie; ``touched`` is by the store's clock; ``size`` is in
    bytes, 0 where the store does not say it; ``upload`` is the store's name of an upload.
    """

    kind: RemnantKind
    key: str
    capture: BackupId
    touched: datetime
    size: int = 0
    upload: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemnantDecision:
    """What becomes of one remnant; without ``reasons`` to stay it is removed."""

    remnant: Remnant
    reasons: tuple[str, ...]


def decide_remnants(
    remnants: Sequence[Remnant],
    *,
    now: datetime,
    running: Collection[str],
    lost: Collection[BackupId],
) -> tuple[RemnantDecision, ...]:
    """Return what is removed and what stays, in the order given.

    ``now`` is the store's own clock; ``running`` are the backup ids of jobs that have not ended;
    ``lost`` are backups that did exist and whose manifest is gone without a prune decision: their
    packs are what a manifest brought back from a copy would need.
    """
    now = require_utc(now)
    return tuple(
        RemnantDecision(
            remnant=remnant,
            reasons=tuple(
                reason
                for reason, holds in (
                    ("its job has not ended", str(remnant.capture) in running),
                    ("the manifest of its backup was lost", remnant.capture in lost),
                    (f"younger than {SWEEP_AGE.days} days", now - remnant.touched <= SWEEP_AGE),
                )
                if holds
            ),
        )
        for remnant in remnants
    )
