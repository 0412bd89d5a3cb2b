"""What workers that share a copy leave for each other in a repository; no manifest names it."""

from __future__ import annotations

from pathlib import Path

from pgben_tasks.adapters.repository.fetch import fetch_checked
from pgben_tasks.domain import layout
from pgben_tasks.domain.documents import StoredFile
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import PermanentError
from pgben_tasks.ports import ObjectStore, StoredObject


class StoreShardFiles:
    """The files of shards in one repository's store; see ``ports.ShardFiles``."""

    def __init__(self, store: ObjectStore) -> None:
        """Look into ``store`` when asked."""
        self._store = store

    def shard_files(self, target: Target) -> dict[str, StoredObject]:
        """Return every file of a shard of the target, by path."""
        if target.kind != "bucket":
            return {}
        found = self._store.list(layout.backups_prefix(target))
        return {one.key: one for one in found if layout.is_shard_file(one.key)}

    def store(self, key: str, file: Path) -> None:
        """Store a file under its path."""
        self._store.put_file(key, file)

    def fetch(self, stored: StoredFile, destination: Path) -> None:
        """Store the bytes as a file, checking size and digest on the way."""
        chunks = self._store.stream(stored.path)
        fetch_checked(chunks, stored, destination, advance=lambda _size: None)

    def remove(self, key: str) -> None:
        """Remove one."""
        if layout.target_of(key) is None or not layout.is_shard_file(key):
            raise PermanentError(
                f"'{key}' is no file of a shard and is not removed", "verify the target"
            )
        self._store.delete(key)
