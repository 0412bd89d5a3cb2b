"""Embedded PostgreSQL, Redis and S3 servers answer, keep strangers out and survive being killed."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import redis
from minio import Minio
from minio.error import MinioException
from redis.backoff import NoBackoff
from redis.retry import Retry

import pgben_tasks
from pgben_tasks.embedded.accounts import server_account
from pgben_tasks.embedded.binaries import postgres_install
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import ConfigurationError
from tests.support.deployment import command_lines


def test_postgres_speaks_utf8_over_tcp_with_the_generated_password(
    postgres: EmbeddedPostgres,
) -> None:
    with postgres.connect() as connection:
        row = connection.execute(
            "SELECT current_setting('server_encoding'), current_setting('unix_socket_directories'),"
            " current_setting('password_encryption'), rolsuper FROM pg_roles"
            " WHERE rolname = current_user"
        ).fetchone()
    assert row == ("UTF8", "", "scram-sha-256", True)
    assert postgres.version.startswith(str(postgres.major))


def test_postgres_refuses_a_wrong_and_a_missing_password(postgres: EmbeddedPostgres) -> None:
    for password in ("wrong", ""):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(**{**postgres.dsn(), "password": password}, passfile="/dev/null")


def test_postgres_removes_its_password_file(postgres: EmbeddedPostgres) -> None:
    kept = [path for path in postgres.folder.iterdir() if path.is_file()]
    assert kept == []


def test_redis_refuses_a_wrong_and_a_missing_password(redis_server: EmbeddedRedis) -> None:
    for password in ("wrong", None):
        stranger = redis.Redis(
            host=redis_server.host,
            port=redis_server.port,
            password=password,
            retry=Retry(NoBackoff(), 0),
        )
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_redis_is_set_as_production_must_be(redis_server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.config_get("appendfsync")["appendfsync"] == "everysec"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def test_the_repository_server_refuses_a_wrong_secret_key(repository_s3: EmbeddedS3) -> None:
    stranger = Minio(
        repository_s3.endpoint.removeprefix("http://"),
        access_key=repository_s3.access_key,
        secret_key="wrong",
        secure=False,
    )
    with pytest.raises(MinioException):
        stranger.list_buckets()


def test_the_protected_server_keeps_user_metadata(protected_s3: EmbeddedS3) -> None:
    protected_s3.make_bucket("metadata")
    client = protected_s3.client()
    client.put_object("metadata", "a/b", io.BytesIO(b"x"), 1, metadata={"hash": "0f"})
    metadata = client.stat_object("metadata", "a/b").metadata
    assert metadata is not None
    assert metadata["x-amz-meta-hash"] == "0f"


def test_no_password_stands_in_any_process_argument(
    postgres: EmbeddedPostgres, redis_server: EmbeddedRedis, repository_s3: EmbeddedS3
) -> None:
    arguments = "\n".join(command_lines().values())
    assert f"port={postgres.port}" in arguments
    assert f":{repository_s3.port}" in arguments
    secrets = (postgres.password, redis_server.password, repository_s3.secret_key)
    assert not any(secret in arguments for secret in secrets)


def test_no_password_stands_in_the_servers_representation(
    postgres: EmbeddedPostgres, redis_server: EmbeddedRedis, repository_s3: EmbeddedS3
) -> None:
    shown = repr((postgres, redis_server, repository_s3))
    secrets = (postgres.password, redis_server.password, repository_s3.secret_key)
    assert not any(secret in shown for secret in secrets)


def test_a_killed_postgres_comes_back_on_its_port_with_what_was_committed() -> None:
    with EmbeddedPostgres.start() as server:
        port = server.port
        with server.connect() as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
            server.kill()
            assert not server.running
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        server.restart()
        assert server.port == port
        with server.connect() as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_killing_postgres_takes_every_backend_along() -> None:
    with EmbeddedPostgres.start() as server:
        with server.connect() as connection:
            backend = connection.info.backend_pid
            assert Path(f"/proc/{backend}").exists()
            server.kill()
        assert wait_until(lambda: not Path(f"/proc/{backend}").exists(), seconds=10)


def test_an_immediate_stop_cuts_sessions_off() -> None:
    with EmbeddedPostgres.start() as server, server.connect() as connection:
        server.stop(immediate=True)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        server.stop()


def test_the_second_major_runs_beside_the_first(postgres: EmbeddedPostgres) -> None:
    with EmbeddedPostgres.start(major=18, fsync=True) as second:
        assert second.version.startswith("18")
        with second.connect() as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
        with postgres.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_killed_redis_comes_back_with_what_it_had_written() -> None:
    with EmbeddedRedis.start() as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", "yes")
        server.kill()
        server.restart()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"yes"


def test_a_killed_repository_server_comes_back_with_its_objects() -> None:
    with EmbeddedS3.start() as server:
        server.make_bucket("kept")
        server.client().put_object("kept", "a/b", io.BytesIO(b"bytes"), 5)
        server.kill()
        server.restart()
        response = server.client().get_object("kept", "a/b")
        try:
            assert response.read() == b"bytes"
        finally:
            response.close()
            response.release_conn()


def test_making_a_bucket_twice_is_no_error(repository_s3: EmbeddedS3) -> None:
    repository_s3.make_bucket("twice")
    repository_s3.make_bucket("twice")
    assert repository_s3.client().bucket_exists("twice")


@pytest.fixture
def private_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pgben-test-private-"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run under another account")
def test_programs_below_a_private_folder_are_copied_to_where_the_server_can_run_them(
    private_folder: Path,
) -> None:
    install = postgres_install(17)
    shutil.copytree(install.site / install.module, private_folder / install.module)
    account = server_account()
    assert account is not None
    assert not replace(install, site=private_folder).usable_by(account)
    program = (
        "from pgben_tasks.embedded.postgres import EmbeddedPostgres\n"
        "with EmbeddedPostgres.start() as server:\n"
        "    print(server.bin_dir)\n"
        "    with server.connect() as connection:\n"
        "        print(connection.execute('SELECT 6 * 7').fetchone()[0])\n"
    )
    paths = (private_folder, Path(pgben_tasks.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        str(private_folder / install.module / "pginstall" / "bin"),
        "42",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run under another account")
def test_a_folder_that_the_servers_account_cannot_reach_is_refused(private_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot keep their files"):
        EmbeddedPostgres.start(private_folder)
    assert list(private_folder.iterdir()) == []
