"""Claims about values that cannot work, which are refused, and about doubtful ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from minio.helpers import check_bucket_name as minio_check
from psycopg.conninfo import conninfo_to_dict

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.settings import Settings

# ruff: noqa: S108 - these folders are named, not written to

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


@pytest.mark.parametrize(
    "name",
    [
        *("ab", "a", "_docs", "docs-", "docs.", "a.-b", "a-.b", "10.0.0.1"),
        *("docs-s3alias", "docs--ol-s3"),
    ],
)
def test_a_name_that_no_bucket_has_is_refused(name: str) -> None:
    fault = f"has '{name}', which no bucket can be called: that takes 3 to 63 letters"
    assert faults(PGBEN_BUCKETS=f"documents,{name}").startswith(f"PGBEN_BUCKETS {fault}")
    assert faults(PGBEN_REPOSITORY=f"s3://{name}/x").startswith(f"PGBEN_REPOSITORY {fault}")


@pytest.mark.parametrize("name", ["Old_Documents", "UPPER", "a.b.c", "x" * 63, "10.0.0.1x", "0-0"])
def test_names_of_buckets_from_before_todays_rules_go_on_working(name: str) -> None:
    assert Settings.load({"PGBEN_BUCKETS": name}).buckets == (name,)
    assert Settings.load({"PGBEN_REPOSITORY": f"s3://{name}/x"}).repository == f"s3://{name}/x"


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,64}", fullmatch=True))
def test_a_bucket_is_refused_exactly_when_the_client_of_buckets_refuses_it(name: str) -> None:
    try:
        minio_check(name)
        taken = ".." not in name
    except ValueError:
        taken = False
    try:
        Settings.load({"PGBEN_BUCKETS": name})
    except ConfigurationError:
        assert not taken
    else:
        assert taken


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        (
            "s3://s3.example.org:9000/bucket",
            "must be 's3://bucket/prefix': the server belongs in PGBEN_REPOSITORY_ENDPOINT",
        ),
        ("s3://bucket/a//b", "must be 'file:///absolute/folder' or 's3://bucket/prefix'"),
        ("s3://bucket/../b", "must be 'file:///absolute/folder' or 's3://bucket/prefix'"),
        ("s3://[x/y", "must be 'file:///absolute/folder' or 's3://bucket/prefix'"),
        ("file:backup", "must be 'file:///absolute/folder' or 's3://bucket/prefix'"),
        ("file:///backup/..", "must be 'file:///absolute/folder' or 's3://bucket/prefix'"),
        ("file:///proc/self", "must be on a disk"),
        ("file:///backup/../dev", "must be on a disk"),
    ],
)
def test_a_repository_that_cannot_be_one_is_refused(url: str, fault: str) -> None:
    assert faults(PGBEN_REPOSITORY=url).startswith(f"PGBEN_REPOSITORY {fault}")


ABSOLUTE = "must be an absolute path"
OWN = "must be a folder of its own"
SYSTEM = "must not be among the system's own files"
KERNEL = "must be on a disk"


@pytest.mark.parametrize(
    ("folder", "fault"),
    [
        *((one, ABSOLUTE) for one in ("spool", "./spool", "~/spool", "../etc")),
        *((one, OWN) for one in ("/", "//", "/tmp", "/tmp/", "/var", "/var/lib", "/home", "/root")),
        *((one, OWN) for one in ("/run", "/dev/shm", "/var/lib/pgben/../..", "/usr/local")),
        *((one, SYSTEM) for one in ("/etc", "//etc", "/etc/pgben", "/usr", "/usr/lib/x", "/bin")),
        *((one, SYSTEM) for one in ("/boot", "/lib64/x", "/sbin", "/var/../etc/x")),
        *((one, KERNEL) for one in ("/proc", "/proc/self/fd", "/sys/fs", "/dev", "/dev/sda")),
    ],
)
def test_a_spool_that_is_no_folder_of_its_own_is_refused(folder: str, fault: str) -> None:
    assert faults(PGBEN_SPOOL_DIR=folder).startswith(f"PGBEN_SPOOL_DIR {fault}")


@pytest.mark.parametrize(
    "folder",
    [
        *("/tmp/x", "/var/lib/pgben/spool", "/dev/shm/spool", "/home/pgben/spool", "/spool"),
        *("/etcetera", "/mnt", "/usr/local/pgben", "/root/spool", "/data/..spool", "/run/pgben"),
    ],
)
def test_a_spool_of_its_own_goes_on_working(folder: str) -> None:
    assert Settings.load({"PGBEN_SPOOL_DIR": folder}).spool_dir == Path(folder)


@pytest.mark.parametrize("name", ["PGBEN_BACKUP_DIR", "PGBEN_MINIO_BACKUP_DIR"])
def test_a_folder_of_history_is_the_same_for_every_worker(name: str) -> None:
    assert faults(**{name: "backups"}).startswith(f"{name} {ABSOLUTE}")
    assert faults(**{name: "/proc/x"}).startswith(f"{name} {KERNEL}")
    Settings.load({name: "/etc/pgben"})
