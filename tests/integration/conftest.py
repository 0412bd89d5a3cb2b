"""Fixtures of the command line's tests, and of those of a bucket."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from tests.support.bucketshop import TARGET, BucketShop
from tests.support.cli_site import Site, clean_environment
from tests.support.troubled_bucket import TroubledBucket
from tests.support.workshop import Workshop


def command_line_settings(redis_server: EmbeddedRedis) -> dict[str, str]:
    """Return what commands need beside the settings of database, catalog and repository."""
    return {
        "PGBEN_REDIS_URL": redis_server.url.rpartition("/")[0] + "/7",
        "PGBEN_LANGUAGE": "en",
        "PGBEN_CONTACTS": "Ana; ana@example.org; +55 85 5555",
    }


@pytest.fixture
def site(postgres: EmbeddedPostgres, redis_server: EmbeddedRedis, tmp_path: Path) -> Iterator[Site]:
    """Yield the settings of an installation before `pgben init`; drop its catalog afterwards."""
    catalog = f"catalog_{secrets.token_hex(6)}"
    environment = {
        "PGBEN_DB_HOST": postgres.host,
        "PGBEN_DB_PORT": str(postgres.port),
        "PGBEN_DB_USER": postgres.user,
        "PGBEN_DB_PASS": postgres.password,
        "PGBEN_DB_NAME": "pgben",
        "PGBEN_CATALOG_URL": postgres.url(catalog),
        "PGBEN_REPOSITORY": f"file://{tmp_path / 'repository'}",
        "PGBEN_SPOOL_DIR": str(tmp_path / "spool"),
        "PGBEN_BACKUP_DIR": str(tmp_path / "history"),
        **command_line_settings(redis_server),
    }
    yield Site(tmp_path, environment, clean_environment())
    with postgres.connect() as connection:
        name = sql.Identifier(catalog)
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@pytest.fixture
def ready(
    postgres: EmbeddedPostgres, redis_server: EmbeddedRedis, tmp_path: Path
) -> Iterator[Site]:
    """Yield an installation for command lines, as `pgben init` leaves it."""
    with Workshop.open(
        tmp_path, postgres, "pgben", settings=command_line_settings(redis_server)
    ) as made:
        yield Site(tmp_path, dict(made.environment), clean_environment())


@pytest.fixture
def catalogless(tmp_path: Path) -> Site:
    """Return a site whose catalog would fail differently if it were asked."""
    environment = {
        "PGBEN_CATALOG_URL": "postgresql://postgres:x@127.0.0.1:1/none",
        "PGBEN_DB_NAME": "pgben,second",
    }
    return Site(tmp_path, environment, clean_environment())


@pytest.fixture
def bucket() -> TroubledBucket:
    return TroubledBucket(TARGET.name)


@pytest.fixture
def shop(workshop: Workshop, bucket: TroubledBucket) -> BucketShop:
    """Protect an empty bucket."""
    return BucketShop(workshop, bucket, TroubledBucket)
