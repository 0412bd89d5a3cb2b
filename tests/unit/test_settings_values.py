"""Claims about values that cannot work, which are refused, and about doubtful ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.settings import Settings

CANARY = "c4n4ry-h7Gq"


def faults(**environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(environ)
    return str(caught.value)


def write_servers(folder: Path, *, host: str = "db", databases: str = "billing") -> dict[str, str]:
    file = folder / "servers.toml"
    file.write_text(f"[a]\nhost = '{host}'\ndatabases = ['{databases}']\n", encoding="utf-8")
    return {"PGBEN_SERVERS_FILE": str(file)}


HOST = "must be a host name, an address or the folder of a socket"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("DB_HOST", "db:5433", "must be a host alone: its port belongs in PGBEN_DB_PORT"),
        ("DB_HOST", "[::1]:5433", "must be a host alone: its port belongs in PGBEN_DB_PORT"),
        ("DB_HOST", "db:", "must be a host alone: its port belongs in PGBEN_DB_PORT"),
        ("DB_HOST", "[::1]", "must be an IPv6 address without brackets"),
        ("DB_HOST", "c4n4ry-h7Gq@db", HOST),
        ("DB_HOST", "run/postgresql", HOST),
        ("DB_HOST", "db/", HOST),
        ("DB_HOST", "db..example", HOST),
        ("DB_HOST", ".example", HOST),
        ("DB_HOST", ".", HOST),
        ("DB_HOST", "x" * 64, HOST),
        ("DB_HOST", "db:a", HOST),
        ("DB_HOST", "${DB_HOST}", HOST),
        ("DB_HOST", "one,two", HOST),
        ("DB_HOST", "/run/a,/run/b", HOST),
        ("DB_HOST", "/run/pg/.s.PGSQL.5432", "must be the folder of the socket, not the socket"),
        ("SMTP_HOST", "mail:25", "must be a host alone: its port belongs in PGBEN_SMTP_PORT"),
        ("SMTP_HOST", "/run/mail", "must be a host name or an address"),
        ("SMTP_HOST", "smtp://mail", "must be a host name or an address"),
        ("SMTP_HOST", "mail..example.org", "must be a host name or an address"),
        ("MINIO_HOST", "a b:9000", "must be 'host:port'"),
        ("MINIO_HOST", "minio..example:9000", "must be 'host:port'"),
        ("MINIO_HOST", "[x", "must be 'host:port'"),
        ("REPOSITORY_ENDPOINT", "https://s3,example.org", "must be 'host:port'"),
    ],
)
def test_a_host_is_a_host_and_nothing_beside_it(name: str, text: str, fault: str) -> None:
    said = faults(**{f"PGBEN_{name}": text})
    assert said.startswith(f"PGBEN_{name} {fault}")
    assert CANARY not in said


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "my_db", "db.example.", "127.0.0.1", "bücher.example", "x" * 63),
        *("::1", "fe80::1%eth0", "::ffff:10.0.0.1"),
    ],
)
def test_every_way_to_name_a_host_goes_on_working(host: str) -> None:
    settings = Settings.load({"PGBEN_DB_HOST": host, "PGBEN_SMTP_HOST": host})
    assert (settings.db_host, settings.smtp_host) == (host, host)


@pytest.mark.parametrize(
    ("host", "fault"),
    [
        ("db:5433", "must be a host alone: its port belongs in 'port'"),
        (f"{CANARY}@db", HOST),
        ("", HOST),
    ],
)
def test_a_host_in_the_file_of_servers_is_a_host(tmp_path: Path, host: str, fault: str) -> None:
    said = faults(**write_servers(tmp_path, host=host))
    assert f"a: host {fault}" in said
    assert CANARY not in said


@pytest.mark.parametrize("host", ["::1", "fe80::1%eth0", "/run/postgresql", "/run/pg:5", "db"])
def test_the_catalogs_url_names_the_same_host(host: str) -> None:
    url = Settings.load({"PGBEN_DB_HOST": host}).catalog_url.get_secret_value()
    assert conninfo_to_dict(url)["host"] == host


@pytest.mark.parametrize("folder", ["/run/postgresql", "/run/pg:5", "/var/run/pg/"])
def test_the_folder_of_a_socket_is_a_database_host(folder: str) -> None:
    assert Settings.load({"PGBEN_DB_HOST": folder}).db_host == folder


@pytest.mark.parametrize(
    "endpoint", ["minio", "my_minio:9000", "[::1]:9000", "https://10.0.0.1", "http://[fe80::1]:9"]
)
def test_every_way_to_name_a_server_of_buckets_goes_on_working(endpoint: str) -> None:
    assert Settings.load({"PGBEN_MINIO_HOST": endpoint}).minio_host == endpoint
