"""A copy that several workers share: who owns which shard, and which parts of it are stored."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pgben_tasks.domain.buckets.shard import Counts, Part, Shard
from pgben_tasks.ports.work import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A shard that we own, as the ledger has it, and where to report while it is copied."""

    shard: Shard
    progress: Progress


class Sharing(Protocol):
    """The shards of one copy in the ledger. Everything raises ``FenceLost`` for a lost job."""

    def offer(self, shards: Sequence[Shard]) -> None:
        """Write the shards down; those that are there already stay as they are."""

    def ask_for_helpers(self, helpers: int) -> None:
        """Ask for so many helpers; that none comes is no error."""

    def all(self) -> Sequence[Shard]:
        """Return every shard that was offered in this attempt."""

    def open(self) -> Sequence[Shard]:
        """Return the shards that are not stored whole."""

    def take(self, n: int) -> AbstractContextManager[Taken | None]:
        """Own a shard for a block, unless somebody else does or it is stored whole."""

    def note(self, n: int, part: Part) -> None:
        """Write down that a part of a shard is stored. Safe from any thread."""

    def end(self, n: int, counts: Counts) -> None:
        """Write down that a shard is stored whole."""

    def counts(self) -> Counts:
        """Return what the shards came to that are stored whole."""

    def pause(self) -> None:
        """Wait a moment, in which others may end their shards."""
