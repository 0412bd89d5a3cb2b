"""A repository of made-up backups of any age, cheap enough for a history of many nights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pgben_tasks.domain.documents import Manifest, Pack, Verification
from pgben_tasks.domain.retention import Policy
from pgben_tasks.domain.target import BackupId
from pgben_tasks.operations.toolbox import Toolbox
from tests.support.installation import Chain, Installation
from tests.support.samples import member, sha256

DAY = timedelta(days=1)


@dataclass
class SetClock:
    """A clock that is moved by hand, and may be wrong."""

    shown: datetime
    wrong: timedelta = timedelta(0)

    def now(self) -> datetime:
        """Return what the clock shows."""
        return self.shown + self.wrong


class Archive:
    """A repository whose backups have the ages that a test needs, at the moment ``now``."""

    def __init__(self, installation: Installation, now: datetime) -> None:
        """Remove the backups that the installation has."""
        self.installation = installation
        self.repository = installation.tools.repository
        for folder in ("backups", "packs", "verifications"):
            shutil.rmtree(installation.repository / folder)
        with installation.shop.work.database.transaction() as cursor:
            cursor.execute("DELETE FROM backup")
        self.made: list[Manifest] = []
        self.clock = SetClock(now)
        self.own_clock = SetClock(now)
        self.store_clock: SetClock | None = SetClock(now)

    @property
    def now(self) -> datetime:
        """What the catalog's clock shows."""
        return self.clock.now()

    def pass_time(self, by: timedelta) -> None:
        """Move every clock."""
        for clock in (self.clock, self.own_clock, self.store_clock):
            if clock is not None:
                clock.shown += by

    def add(self, age: timedelta, *, verified: bool = True, **fields: Any) -> Manifest:
        """Commit a backup of this age, with one small pack, and say that it was read back."""
        number = len(self.made) + 1
        started = self.now - age
        backup = BackupId.make(started, f"{number:06x}")
        packs: Sequence[Pack] = fields.pop("packs", ())
        manifest = self.installation.backups[0].model_copy(
            update={
                "backup": str(backup),
                "sequence": number,
                "started": started,
                "finished": started,
                "previous": None,
                "packs": (self._pack(backup), *packs),
                **fields,
            }
        )
        digest = self.repository.commit(manifest)
        self.installation.shop.work.index.add(manifest, digest, state="stored")
        self.made.append(manifest)
        if verified:
            self._state(manifest, digest)
        return manifest

    def add_nightly(self, count: int, *, oldest: int) -> list[Manifest]:
        """Commit a verified backup per day, the oldest first."""
        return [self.add((oldest - night) * DAY) for night in range(count)]

    def _pack(self, backup: BackupId) -> Pack:
        data = f"sealed {backup}".encode()
        path = f"packs/{self.installation.target}/{backup}/1.tar.age"
        self.installation.store.put(path, data)
        # What a pack holds is of no interest here; its names must only differ.
        name = f"toc.dat-{backup}"
        return Pack(path=path, size=len(data), sha256=sha256(data), members=(member(name, data),))

    def _state(self, manifest: Manifest, digest: str) -> None:
        self.repository.record(
            Verification(
                repository=manifest.repository,
                target=manifest.target,
                backup=manifest.backup,
                id=manifest.backup,
                kind="readback",
                job="made up",
                at=manifest.finished,
                opened=True,
                packs_checked=1,
                bytes_read=1,
                manifest=digest,
                findings=(),
                reasons=(),
            )
        )

    def tools(self, **policy: Any) -> Toolbox:
        """Return the tools of the installation with these clocks and this policy."""
        tools = self.installation.tools
        limits = replace(tools.limits, retention=Policy(**policy))
        self.installation.store.clock = self.store_clock
        return replace(tools, limits=limits, clock=self.clock, own_clock=self.own_clock)

    def prune(self, *, dry_run: bool = False, **policy: Any) -> dict[str, Any]:
        """Prune and return the result of that step."""
        chain = self.chain(dry_run=dry_run, **policy)
        return chain.rest().result["prune"]  # type: ignore[no-any-return]  # JSON

    def chain(self, *, dry_run: bool = False, **policy: Any) -> Chain:
        """Claim a job that prunes."""
        return self.installation.chain("prune", tools=self.tools(**policy), dry_run=dry_run)

    def left(self) -> list[str]:
        """Return the ids of the backups that the repository has."""
        return [str(one) for one in self.repository.backups(self.installation.target)]

    def pack_paths(self) -> set[str]:
        """Return the paths of the packs that the repository has."""
        return {one.key for one in self.installation.store.packs()}
