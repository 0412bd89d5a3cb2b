"""What dead runs may have left in an object store, beside packs, and how it is removed."""

from __future__ import annotations

from pgben_tasks.domain import layout
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import ObjectMissing, PermanentError
from pgben_tasks.ports import ObjectStore, StoredObject, Unfinished


class StoreRemains:
    """The remains in one repository's store; see ``ports.Remains``."""

    def __init__(self, store: ObjectStore) -> None:
        """Look into ``store`` when asked."""
        self._store = store

    def signatures(self, target: Target) -> list[StoredObject]:
        """Signatures below the target's folders whose document does not exist, sorted by key."""
        found = {
            stored.key: stored
            for prefix in (layout.backups_prefix(target), layout.verifications_prefix(target))
            for stored in self._store.list(prefix)
        }
        return [
            stored
            for key, stored in sorted(found.items())
            if layout.is_known(key, target)
            and (document := layout.signed_document(key)) is not None
            and document not in found
        ]

    def uploads(self, target: Target) -> list[Unfinished]:
        """Unfinished uploads below the target's folders, sorted by key."""
        return [
            upload
            for prefix in (
                layout.backups_prefix(target),
                layout.packs_prefix(target),
                layout.verifications_prefix(target),
            )
            for upload in self._store.unfinished(prefix)
            if layout.is_known(upload.key, target)
        ]

    def remove_signature(self, key: str) -> None:
        """Remove a signature, unless its document came to exist meanwhile."""
        document = layout.signed_document(key)
        if document is None:
            raise PermanentError(f"'{key}' is not a signature and is not removed", "verify all")
        try:
            self._store.head(document)
        except ObjectMissing:
            self._store.delete(key)

    def abort(self, upload: Unfinished) -> None:
        """Give an unfinished upload up."""
        self._store.abort(upload)
