"""What happens to the documents of the demo: people delete, and ransomware overwrites."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from pgben_tasks.embedded.bucket_client import BucketClient, StoredObject

#: Left behind by those who want money.
RANSOM_NOTE: Final = "LEIA-ME-RESGATE.txt"
#: Every so many is hit, so that all kinds of documents are.
_DELETED: Final = 13
_LOCKED: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruin:
    """How many objects were deleted, overwritten, given other tags, and left behind."""

    deleted: int
    overwritten: int
    retagged: int
    extra: int


def ruin(client: BucketClient) -> Ruin:
    """Delete some objects, overwrite others without their metadata, change the tags of one."""
    keys = sorted(client.listed())
    deleted = keys[::_DELETED]
    rest = sorted(set(keys) - set(deleted))
    locked, spared = rest[::_LOCKED], rest[1]
    for key in deleted:
        client.delete(key)
    for key in locked:
        client.put(key, _bare(secrets.token_bytes(len(client.get(key).data))))
    client.put_tags(spared, {"situação": "excluído"})
    client.put(RANSOM_NOTE, _bare(b"Seus arquivos foram criptografados.\n"))
    return Ruin(deleted=len(deleted), overwritten=len(locked), retagged=1, extra=1)


def _bare(data: bytes) -> StoredObject:
    return StoredObject(data=data, headers={}, metadata={}, tags={})
