"""A protected bucket full of documents, on a server of its own, and what a night changes of it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.s3.errors import BUCKET_HINTS
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.domain.buckets.diff import settled_before
from pgben_tasks.embedded.child import Supervisor
from pgben_tasks.embedded.s3 import EmbeddedS3

BUCKET: Final = "pgben-documents"
#: A handful of objects, for what runs once before anything is measured.
WARM_UP: Final = "pgben-warm-up"
_WARM_UP_OBJECTS: Final = 200
_SMALLEST: Final = 1000
_LARGEST: Final = 60_000
#: Small ones are the most: 20,000 come to about 380 MB.
_SKEW: Final = 2.26
_WRITERS: Final = 16
_WORDS: Final = (
    "benefício eventual concedido conforme parecer social do município ".encode().split()
)


@dataclass
class Documents:
    """Objects of 1 to 60 KB, half of them compressible, with metadata as PGBen's encryption."""

    server: EmbeddedS3
    number: int
    #: Whether every third has a tag.
    tagged: bool = False
    size: int = 0
    _chance: random.Random = field(default_factory=lambda: random.Random(4))  # noqa: S311
    _next: int = 0

    @classmethod
    def make(cls, number: int, supervisor: Supervisor, *, tagged: bool = False) -> Documents:
        """Start the server, one that keeps tags where some are to be set, and fill both buckets."""
        server = (
            EmbeddedS3.start(supervisor=supervisor, kind="ministack")
            if tagged
            else EmbeddedS3.start(supervisor=supervisor, etags=True)
        )
        made = cls(server=server, number=number, tagged=tagged)
        for name in (BUCKET, WARM_UP):
            server.make_bucket(name)
        made._put(BUCKET, (made._key(at) for at in range(number)))
        made._put(WARM_UP, (made._key(at) for at in range(_WARM_UP_OBJECTS)))
        made._next = number
        made.warm()
        return made

    def settings(self) -> dict[str, str]:
        """Return the settings of an installation that protects both buckets."""
        return {
            "PGBEN_MINIO_HOST": self.server.endpoint,
            "PGBEN_MINIO_ACCESS_KEY": self.server.access_key,
            "PGBEN_MINIO_SECRET_KEY": self.server.secret_key,
            "PGBEN_BUCKETS": f"{BUCKET},{WARM_UP}",
        }

    def change(self, share: float) -> None:
        """Change a share of the documents.

        Eight tenths of it are overwritten, one tenth is deleted, and as many are added.
        """
        bucket = self._bucket(BUCKET)
        keys = [listed.key for listed in bucket.list()]
        changed = self._chance.sample(keys, max(1, round(share * len(keys))))
        tenth = len(changed) // 10
        for key in changed[:tenth]:
            bucket.delete(key)
        new = [self._key(self._next + at) for at in range(tenth)]
        self._next += tenth
        self._put(BUCKET, [*changed[tenth : len(changed) - tenth], *new])
        self.warm()

    def warm(self) -> None:
        """List everything once: the server digests then what it has not digested before."""
        self.size = sum(listed.size for listed in self._bucket(BUCKET).list())
        for _ in self._bucket(WARM_UP).list():
            pass

    def settle(self) -> None:
        """Wait until the next snapshot is one whose successor believes the dates of all documents.

        A night later it would; here everything was stored minutes ago, and is fetched once more.
        """
        newest = max(
            listed.modified for name in (BUCKET, WARM_UP) for listed in self._bucket(name).list()
        )
        while f"{newest:%Y-%m-%dT%H:%M:%SZ}" >= settled_before(datetime.now(UTC)):
            time.sleep(1)

    def _key(self, number: int) -> str:
        return f"beneficiarios/{number % 97:02}/documento-{number:07}.pdf"

    def _put(self, name: str, keys: Iterable[str]) -> None:
        bucket = self._bucket(name)

        def put(key: str, data: bytes, metadata: dict[str, str]) -> None:
            headers = {"content-type": "application/pdf"}
            tags = {"setor": "habitação"} if self.tagged and len(data) % 3 == 0 else {}
            bucket.put(
                key, iter([data]), size=len(data), headers=headers, metadata=metadata, tags=tags
            )

        with ThreadPoolExecutor(_WRITERS) as pool:
            for one in [pool.submit(put, key, *self._document()) for key in keys]:
                one.result()

    def _document(self) -> tuple[bytes, dict[str, str]]:
        chance = self._chance
        size = _SMALLEST + int((_LARGEST - _SMALLEST) * chance.random() ** _SKEW)
        if chance.random() < 0.5:  # noqa: PLR2004 - a half
            data = chance.randbytes(size)
        else:
            data = b" ".join(chance.choices(_WORDS, k=size // 5))[:size]
        return data, {
            "encrypted": "true",
            "encryption-iv": chance.randbytes(12).hex(),
            "encryption-auth-tag": chance.randbytes(16).hex(),
            "original-hash": chance.randbytes(32).hex(),
        }

    def _bucket(self, name: str) -> S3Bucket:
        server = self.server
        return S3Bucket(
            S3Location(
                hints=BUCKET_HINTS,
                endpoint=server.endpoint,
                bucket=name,
                access_key=server.access_key,
                secret_key=server.secret_key,
            )
        )
