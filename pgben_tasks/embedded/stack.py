"""A whole stack of embedded servers: PostgreSQL, Redis and S3 under one supervisor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pgben_tasks.embedded.child import Closable, Supervisor
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.embedded.s3 import EmbeddedS3, S3Kind
from pgben_tasks.errors import ConfigurationError

REPOSITORY_BUCKET: Final = "pgben-backups"
PROTECTED_BUCKET: Final = "pgben-documents"
CATALOG: Final = "pgben_catalog"


@dataclass(frozen=True, kw_only=True)
class EmbeddedStack(Closable):
    """A PostgreSQL, a Redis and an S3 server that are started and ended together.

    ``s3`` is the repository's server; ``protected_s3`` the one with the documents, when asked for.
    More programs can be run under the same supervisor (``supervisor.spawn``) and end with it.
    """

    supervisor: Supervisor = field(repr=False)
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    s3: EmbeddedS3
    protected_s3: EmbeddedS3 | None = None

    @classmethod
    def start(
        cls,
        folder: Path | None = None,
        *,
        protected: bool = False,
    ) -> Self:
        """Start all servers at the same time, with their files in one new folder.

        ``folder`` is where that folder is made (default: temporary files), ``protected`` adds the
        S3 server with metadata and tags. Buckets exist when this returns; databases but
        ``postgres`` do not. Raises ``ConfigurationError`` when a program is missing.
        """
        supervisor = Supervisor.start(folder)
        executor = ThreadPoolExecutor(max_workers=4, thread_name_prefix="pgben-embedded")
        try:
            postgres = executor.submit(EmbeddedPostgres.start, supervisor=supervisor)
            redis = executor.submit(EmbeddedRedis.start, supervisor=supervisor)
            s3 = executor.submit(_s3, supervisor, "rclone", REPOSITORY_BUCKET)
            documents = (
                executor.submit(_s3, supervisor, "ministack", PROTECTED_BUCKET)
                if protected
                else None
            )
            stack = cls(
                supervisor=supervisor,
                postgres=postgres.result(),
                redis=redis.result(),
                s3=s3.result(),
                protected_s3=documents.result() if documents else None,
            )
        except BaseException:
            # Without their supervisor, starts that still run fail at once, but for one that copies
            # programs into the folder meanwhile: that is removed once more when none runs.
            supervisor.close()
            executor.shutdown(wait=True, cancel_futures=True)
            supervisor.close()
            raise
        executor.shutdown(wait=True)
        return stack

    @property
    def folder(self) -> Path:
        """The stack's folder, removed with it."""
        return self.supervisor.folder

    @property
    def documents(self) -> EmbeddedS3:
        """The S3 server with the documents; raises ``ConfigurationError`` when there is none."""
        if self.protected_s3 is None:
            raise ConfigurationError(
                "this stack has no protected S3 server", "start it with protected=True"
            )
        return self.protected_s3

    def environment(self, *, database: str = "pgben", node: str = "embedded") -> dict[str, str]:
        """Return the ``PGBEN_*`` settings for these servers; they hold passwords.

        The folders that they name are made here; the databases are not.
        """
        folders = {
            "PGBEN_SPOOL_DIR": self.folder / "spool",
            "PGBEN_BACKUP_DIR": self.folder / "backup" / "postgres",
            "PGBEN_MINIO_BACKUP_DIR": self.folder / "backup" / "minio",
        }
        for folder in folders.values():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = {
            "PGBEN_DB_HOST": self.postgres.host,
            "PGBEN_DB_PORT": str(self.postgres.port),
            "PGBEN_DB_USER": self.postgres.user,
            "PGBEN_DB_PASS": self.postgres.password,
            "PGBEN_DB_NAME": database,
            "PGBEN_REDIS_URL": self.redis.url,
            "PGBEN_REPOSITORY": f"s3://{REPOSITORY_BUCKET}",
            "PGBEN_REPOSITORY_ENDPOINT": self.s3.endpoint,
            "PGBEN_REPOSITORY_ACCESS_KEY": self.s3.access_key,
            "PGBEN_REPOSITORY_SECRET_KEY": self.s3.secret_key,
            "PGBEN_CATALOG_URL": self.postgres.url(CATALOG),
            "PGBEN_NODE": node,
            **{name: str(folder) for name, folder in folders.items()},
        }
        if self.protected_s3 is not None:
            settings |= {
                "PGBEN_MINIO_HOST": self.protected_s3.endpoint,
                "PGBEN_MINIO_ACCESS_KEY": self.protected_s3.access_key,
                "PGBEN_MINIO_SECRET_KEY": self.protected_s3.secret_key,
                "PGBEN_BUCKETS": PROTECTED_BUCKET,
            }
        return settings

    def close(self) -> None:
        """End all servers and remove the folder; calling it again does nothing."""
        self.supervisor.close()


def _s3(supervisor: Supervisor, kind: S3Kind, bucket: str) -> EmbeddedS3:
    server = EmbeddedS3.start(kind=kind, supervisor=supervisor)
    server.make_bucket(bucket)
    return server
