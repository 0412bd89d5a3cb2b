"""Documents of invented people in a bucket, kept the way PGBen keeps them.

Each is encrypted with AES-256-GCM. What opens it (initialisation vector, authentication tag), the
digest of the plain document and its original name exist nowhere but in the object's metadata; the
database knows key, size and digest. Whoever loses the metadata has lost the document.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pgben_tasks.embedded.bucket_client import BucketClient, StoredObject
from pgben_tasks.embedded.data.text import TODAY, Inventor

#: Documents that are stored; rows beyond them keep their keys, without an object.
DOCUMENTS: Final = 240
_SEED: Final = 2026
_IV_SIZE: Final = 12
_TAG_SIZE: Final = 16
_BEGINNINGS: Final = {
    "application/pdf": b"%PDF-1.7\n",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/png": b"\x89PNG\r\n\x1a\n",
}
_NEWEST: Final = """
SELECT id::text, tipo::text, caminho, thumbnail, nome_original, mimetype
FROM documento ORDER BY criado_em DESC, id LIMIT %s
"""
_KNOWN: Final = "SELECT caminho, hash_arquivo, tamanho FROM documento WHERE caminho = ANY (%s)"


class Cipher:
    """The platform's key; pgben never sees it."""

    def __init__(self) -> None:
        """Make a new key."""
        self._gcm = AESGCM(AESGCM.generate_key(bit_length=256))

    def seal(self, plain: bytes) -> tuple[bytes, dict[str, str]]:
        """Encrypt a document; gives its bytes and the metadata that opens them."""
        vector = secrets.token_bytes(_IV_SIZE)
        sealed = self._gcm.encrypt(vector, plain, None)
        return sealed[:-_TAG_SIZE], {
            "encrypted": "true",
            "iv": vector.hex(),
            "auth-tag": sealed[-_TAG_SIZE:].hex(),
            "hash": hashlib.sha256(plain).hexdigest(),
        }

    def opens(self, stored: StoredObject) -> str | None:
        """Return the digest of the plain document; None when it does not open."""
        try:
            vector = bytes.fromhex(stored.metadata["iv"])
            tag = bytes.fromhex(stored.metadata["auth-tag"])
            plain = self._gcm.decrypt(vector, stored.data + tag, None)
        except (KeyError, ValueError, InvalidTag):
            return None
        digest = hashlib.sha256(plain).hexdigest()
        return digest if digest == stored.metadata.get("hash") else None


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows of a document: the digest of its plain bytes, and its size."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class DocumentSummary:
    """What was stored: objects, how many of them are documents, and bytes."""

    objects: int
    documents: int
    bytes: int


def store(
    server: Mapping[str, Any],
    *,
    database: str,
    client: BucketClient,
    cipher: Cipher,
    most: int = DOCUMENTS,
    on_progress: Callable[[str, float], None] | None = None,
) -> DocumentSummary:
    """Store the newest documents of the demonstration database, and the thumbnails of pictures.

    ``server`` is what psycopg connects with. The rows get the sizes and digests of what is stored.
    """
    report = on_progress or (lambda _phase, _share: None)
    invent = Inventor(_SEED)
    objects = size = 0
    with psycopg.connect(**{**server, "dbname": database}) as connection:
        rows = connection.execute(_NEWEST, [most]).fetchall()
        facts = []
        for number, row in enumerate(rows):
            report("documents", number / len(rows))
            plain = _plain(invent, row[-1])
            for key, stored in _objects(invent, cipher, row, plain):
                client.put(key, stored)
                objects += 1
                size += len(stored.data)
            facts.append((len(plain), hashlib.sha256(plain).hexdigest(), row[0]))
        with connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE documento SET tamanho = %s, hash_arquivo = %s WHERE id = %s", facts
            )
    report("documents", 1.0)
    return DocumentSummary(objects=objects, documents=len(rows), bytes=size)


def known(server: Mapping[str, Any], database: str, keys: list[str]) -> dict[str, Known]:
    """Return what a database knows of the documents under these keys."""
    with psycopg.connect(**{**server, "dbname": database}) as connection:
        rows = connection.execute(_KNOWN, [keys]).fetchall()
    return {key: Known(digest, size) for key, digest, size in rows}


def _objects(
    invent: Inventor, cipher: Cipher, row: tuple[Any, ...], plain: bytes
) -> Iterator[tuple[str, StoredObject]]:
    """Yield what one row has in the bucket: the document, and the thumbnail of a picture."""
    _, kind, key, thumbnail, name, mimetype = row
    tags = {"tipo": kind, "setor": "assistência social"} if invent.chance(0.3) else {}
    yield key, _sealed(cipher, plain, name=name, mimetype=mimetype, tags=tags)
    if thumbnail is not None:
        small = _plain(invent, "image/jpeg", longest=3_000)
        yield thumbnail, _sealed(cipher, small, name=name, mimetype="image/jpeg", tags={})


def _sealed(
    cipher: Cipher, plain: bytes, *, name: str, mimetype: str, tags: Mapping[str, str]
) -> StoredObject:
    data, metadata = cipher.seal(plain)
    # Applications send names as UTF-8; a header's value is its bytes, one character for each.
    metadata["original-name"] = name.encode().decode("latin-1")
    return StoredObject(
        data=data,
        headers={"content-type": mimetype, "cache-control": "private, no-store"},
        metadata=metadata,
        tags=tags,
    )


def _plain(invent: Inventor, mimetype: str, *, longest: int = 12_000) -> bytes:
    text = f"{invent.person()}: {invent.account_of_need(TODAY)}".encode()
    return _BEGINNINGS[mimetype] + text + invent.random.randbytes(invent.number(900, longest))
