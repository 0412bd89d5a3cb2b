"""Fixtures: real servers for a whole test session, and an empty database for one test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from psycopg import sql

from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.embedded.s3 import EmbeddedS3


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """Yield a PostgreSQL 17 with a superuser's password; kill and stop only servers of your own."""
    with EmbeddedPostgres.start() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """Yield a Redis with a password; use database numbers or key prefixes of your own."""
    with EmbeddedRedis.start() as server:
        yield server


@pytest.fixture(scope="session")
def repository_s3() -> Iterator[EmbeddedS3]:
    """Yield an S3 server for repositories (bytes only); make buckets of your own."""
    with EmbeddedS3.start(kind="rclone") as server:
        yield server


@pytest.fixture(scope="session")
def protected_s3() -> Iterator[EmbeddedS3]:
    """Yield an S3 server with metadata, tags and versions; make buckets of your own."""
    with EmbeddedS3.start(kind="ministack") as server:
        yield server


@pytest.fixture
def fresh_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """Yield the name of a new, empty database, dropped afterwards even with sessions in it."""
    name = f"test_{secrets.token_hex(6)}"
    with postgres.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield name
    with postgres.connect() as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )
