"""Documents of invented people in a bucket, kept the way PGBen keeps them.

Each is encrypted with AES-256-GCM. What opens it (initialisation vector, authentication tag), the
digest of the plain document and its original name exist nowhere but in the object's metadata; the
database knows key, size and digest. Without the metadata the document is lost.

The bucket's client shares nothing with pgben's own adapters, so that what it finds proves something
about them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

import psycopg
import urllib3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from minio import Minio
from minio.commonconfig import Tags

from pgben_tasks.embedded.data.text import TODAY, Inventor
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import CommandFailed

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
METADATA: Final = "x-amz-meta-"
_HTTP_TIMEOUT: Final = 10.0
_URL_VALID: Final = timedelta(hours=1)
#: The headers that an application sends with an object beside its metadata, and gets back.
_HEADERS: Final = ("content-type", "content-disposition", "cache-control")
#: The object that the ransomware leaves behind.
RANSOM_NOTE: Final = "LEIA-ME-RESGATE.txt"
#: Which of the sorted keys are hit, so that all kinds of documents are.
_OVERWRITTEN_EVERY: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object with everything it carries; values of headers are their bytes as latin-1."""

    data: bytes = field(repr=False)
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: Mapping[str, str]


class BucketClient:
    """A client that stores and fetches whole objects of one bucket, as the platform does."""

    def __init__(self, server: EmbeddedS3, bucket: str) -> None:
        """Name the bucket; it must exist."""
        self.bucket = bucket
        self._client: Minio = server.client()
        self._http = urllib3.PoolManager(timeout=_HTTP_TIMEOUT, retries=False)

    def listed(self) -> Iterator[str]:
        """Yield every key."""
        for listed in self._client.list_objects(self.bucket, recursive=True):
            if listed.object_name is not None:
                yield listed.object_name

    def get(self, key: str) -> StoredObject:
        """Return an object with all that it carries."""
        answer = self._client.get_object(self.bucket, key)
        try:
            data = answer.read()
            headers = {name.lower(): value for name, value in answer.headers.items()}
        finally:
            answer.close()
            answer.release_conn()
        return StoredObject(
            data=data,
            headers={name: headers[name] for name in _HEADERS if name in headers},
            metadata={
                name.removeprefix(METADATA): value
                for name, value in headers.items()
                if name.startswith(METADATA)
            },
            tags=dict(self._client.get_object_tags(self.bucket, key) or {}),
        )

    def put(self, key: str, stored: StoredObject) -> None:
        """Store an object.

        Not by minio-py, which takes no metadata beyond ASCII: browsers and servers send UTF-8.
        """
        headers = {
            **stored.headers,
            **{f"{METADATA}{name}": value for name, value in stored.metadata.items()},
        }
        if stored.tags:
            headers["x-amz-tagging"] = urlencode(stored.tags, quote_via=quote, safe="")
        url = self._client.presigned_put_object(self.bucket, key, expires=_URL_VALID)
        answer = self._http.request("PUT", url, body=stored.data, headers=headers)
        if answer.status != HTTPStatus.OK:
            raise CommandFailed(
                f"the embedded S3 server did not store an object: status {answer.status}",
                "its log is in the stack's folder",
            )

    def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object."""
        wanted = Tags.new_object_tags()
        wanted.update(tags)
        self._client.set_object_tags(self.bucket, key, wanted)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._client.remove_object(self.bucket, key)


class Cipher:
    """The platform's key; pgben never sees it."""

    def __init__(self) -> None:
        """Make a new key."""
        self._gcm = AESGCM(AESGCM.generate_key(bit_length=256))

    def seal(self, plain: bytes) -> tuple[bytes, dict[str, str]]:
        """Encrypt a document; return its bytes and the metadata that opens them."""
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


def references(*, database: str, bucket: str) -> str:
    """Return the file of PGBEN_REFERENCES for the rows whose documents ``store`` stores by default.

    Rows beyond them keep their keys, without an object.
    """
    newest = f"SELECT * FROM public.documento ORDER BY criado_em DESC, id LIMIT {DOCUMENTS}"  # noqa: S608 - our own number
    return f"""
[documento]
database = "{database}"
bucket = "{bucket}"
query = "{newest}"
row = "id"
key = "caminho"
size = "tamanho"
hash = "hash_arquivo"
hash_in = "hash"
needs = ["iv", "auth-tag", "hash"]

[documento-thumbnail]
database = "{database}"
bucket = "{bucket}"
query = "{newest}"
row = "id"
key = "thumbnail"
needs = ["iv", "auth-tag"]
"""


def known(server: Mapping[str, Any], database: str, keys: list[str]) -> dict[str, Known]:
    """Return what a database knows of the documents under these keys."""
    with psycopg.connect(**{**server, "dbname": database}) as connection:
        rows = connection.execute(_KNOWN, [keys]).fetchall()
    return {key: Known(digest, size) for key, digest, size in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """How many objects were deleted, overwritten, given other tags, and left behind."""

    deleted: int
    overwritten: int
    retagged: int
    extra: int


def damage(client: BucketClient) -> Damage:
    """Overwrite some objects without their metadata, change the tags of one, delete all others."""
    keys = sorted(client.listed())
    overwritten, spared = keys[::_OVERWRITTEN_EVERY], keys[1]
    deleted = sorted({*keys} - {*overwritten, spared})
    for key in deleted:
        client.delete(key)
    for key in overwritten:
        client.put(key, _bare(secrets.token_bytes(len(client.get(key).data))))
    client.put_tags(spared, {"situação": "excluído"})
    client.put(RANSOM_NOTE, _bare(b"Seus arquivos foram criptografados.\n"))
    return Damage(deleted=len(deleted), overwritten=len(overwritten), retagged=1, extra=1)


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


def _bare(data: bytes) -> StoredObject:
    return StoredObject(data=data, headers={}, metadata={}, tags={})
