"""Claims about values that cannot work, which are refused, and about doubtful ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage
import pytest
from hypothesis import given, strategies as st
from minio.helpers import check_bucket_name as minio_check
from psycopg.conninfo import conninfo_to_dict

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.settings import Settings
from tests.support.samples import RECIPIENT

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
        *("/etcetera", "/mnt", "/usr/local/pgben", "/data/..spool", "/run/pgben"),
    ],
)
def test_a_spool_of_its_own_goes_on_working(folder: str) -> None:
    assert Settings.load({"PGBEN_SPOOL_DIR": folder}).spool_dir == Path(folder)


@pytest.mark.parametrize("name", ["PGBEN_BACKUP_DIR", "PGBEN_MINIO_BACKUP_DIR"])
def test_a_folder_of_history_is_the_same_for_every_worker(name: str) -> None:
    assert faults(**{name: "backups"}).startswith(f"{name} {ABSOLUTE}")
    assert faults(**{name: "/proc/x"}).startswith(f"{name} {KERNEL}")
    Settings.load({name: "/etc/pgben"})


@pytest.mark.parametrize("text", ["1", "65535", "63KiB", "17GiB", "5TiB"])
def test_a_pack_size_that_packs_nothing_or_all_is_refused(text: str) -> None:
    assert faults(PGBEN_PACK_SIZE=text).startswith(
        "PGBEN_PACK_SIZE must be between 64KiB and 16GiB"
    )


def test_pack_sizes_up_to_their_bounds_are_taken() -> None:
    assert Settings.load({"PGBEN_PACK_SIZE": "64KiB"}).pack_size == 64 * 1024
    assert Settings.load({"PGBEN_PACK_SIZE": "16 GiB"}).pack_size == 16 * 1024**3


@pytest.mark.parametrize("text", ["1,5GiB", "64MiB of 1TiB", "64.MiB", "1.5.5GiB"])
def test_a_size_is_read_whole_or_not_at_all(text: str) -> None:
    assert "must be a size like '64MiB'" in faults(PGBEN_SPOOL_LIMIT=text)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("RPO", "999999w", "must be at most 999999d"),
        ("STEP_WAIT", "999999w" * 200, "must be at most 999999d"),
        ("RETENTION_DAYS", "1000000000", "must be at most 999999999"),
        ("VERIFY_DAYS", "9" * 30, "must be at most 999999999"),
        ("COPY_CONCURRENCY", "100000", "must be at most 1024"),
        ("DUMP_JOBS", "10000", "must be at most 1024"),
    ],
)
def test_a_number_that_nothing_can_count_with_is_refused(name: str, text: str, fault: str) -> None:
    assert faults(**{f"PGBEN_{name}": text}).startswith(f"PGBEN_{name} {fault}")


def test_the_largest_numbers_can_be_counted_with() -> None:
    days, now = str(timedelta.max.days), datetime(2026, 11, 23, tzinfo=UTC)
    settings = Settings.load(
        {"PGBEN_RETENTION_DAYS": days, "PGBEN_VERIFY_DAYS": days, "PGBEN_KEEP_REPLACED": "999999d"}
    )
    assert timedelta(days=settings.retention_days) > timedelta()
    assert (now + settings.keep_replaced).year < 10_000


@pytest.mark.parametrize(
    "recipient",
    [
        RECIPIENT[:-1] + ("q" if RECIPIENT[-1] != "q" else "p"),
        RECIPIENT[:-1],
        RECIPIENT + "q",
        RECIPIENT[:20] + RECIPIENT[21] + RECIPIENT[20] + RECIPIENT[22:],
        "age1" + "q" * 58,
        "age1",
    ],
)
def test_a_mistyped_recipient_is_found_before_a_backup_is(recipient: str) -> None:
    said = faults(PGBEN_AGE_RECIPIENTS=f"{RECIPIENT}, {recipient}")
    assert said.startswith("PGBEN_AGE_RECIPIENTS ")
    assert "public key" in said
    assert recipient not in said.split()


def test_which_recipient_is_mistyped_is_said() -> None:
    wrong = RECIPIENT.replace("w", "5", 1)
    said = faults(PGBEN_AGE_RECIPIENTS=f"{RECIPIENT},{wrong}")
    assert said.startswith("PGBEN_AGE_RECIPIENTS has a mistyped public key, number 2 of 2")


@pytest.mark.parametrize("kind", ["yubikey", "pq"])
def test_a_recipient_of_a_plugin_cannot_be_sealed_to(kind: str) -> None:
    assert "must be public keys of age" in faults(PGBEN_AGE_RECIPIENTS=f"age1{kind}1{'q' * 60}")


@given(st.data())
def test_a_recipient_is_refused_exactly_when_age_refuses_it(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(RECIPIENT) - 1))
    sign = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789"))
    for text in (RECIPIENT, RECIPIENT[:at] + sign + RECIPIENT[at + 1 :]):
        try:
            pyrage.x25519.Recipient.from_str(text)
        except pyrage.RecipientError:
            assert "PGBEN_AGE_RECIPIENTS" in faults(PGBEN_AGE_RECIPIENTS=text)
        else:
            assert Settings.load({"PGBEN_AGE_RECIPIENTS": text}).age_recipients == (text,)


def test_new_recipients_are_taken() -> None:
    for _ in range(20):
        text = str(pyrage.x25519.Identity.generate().to_public())
        assert Settings.load({"PGBEN_AGE_RECIPIENTS": text}).age_recipients == (text,)


@pytest.mark.parametrize(
    "address",
    [
        *("<ana@example.org>", "ana..x@example.org", "a;b@example.org", "ana@example..org"),
        *("ana@example.org;", "ana@example.org.", "josé@example.org", "ana@example.org\u2028X:"),
    ],
)
def test_an_address_that_mail_cannot_be_sent_to_is_refused(address: str) -> None:
    for name in ("PGBEN_ADMIN_EMAIL", "PGBEN_SMTP_FROM"):
        assert faults(**{name: address}).startswith(f"{name} must be an address like")


def test_a_database_that_takes_no_connections_is_refused(tmp_path: Path) -> None:
    fault = "must not name 'template0', a database that takes no connections"
    assert faults(PGBEN_DB_NAME="pgben,template0").startswith(f"PGBEN_DB_NAME {fault}")
    servers = write_servers(tmp_path, databases="template0")
    assert f"a: databases {fault}" in faults(**servers)


def test_faults_of_new_kinds_are_reported_together() -> None:
    said = faults(
        PGBEN_DB_HOST="db:1",
        PGBEN_BUCKETS="a,b",
        PGBEN_SPOOL_DIR="/etc",
        PGBEN_PACK_SIZE="1",
        PGBEN_AGE_RECIPIENTS="age1x",
    )
    assert said.startswith("6 settings are wrong")


def doubts(**environ: str) -> list[str]:
    return [str(one) for one in Settings.load(environ).doubtful]


def test_what_is_usual_is_not_doubtful() -> None:
    assert doubts() == []
    assert (
        doubts(
            PGBEN_DB_NAME="pgben,postgres_copy",
            PGBEN_ADMIN_EMAIL="ana@example.org,root@[127.0.0.1]",
            PGBEN_SMTP_FROM="pgben@example.org",
        )
        == []
    )


def test_a_mail_address_without_a_domain_is_doubtful() -> None:
    said = doubts(PGBEN_ADMIN_EMAIL="ana@example.org,root@localhost", PGBEN_SMTP_FROM="x@intranet")
    assert len(said) == 2
    assert said[0].startswith("PGBEN_SMTP_FROM has 'x@intranet', an address without a domain")
    assert said[1].startswith("PGBEN_ADMIN_EMAIL has 'root@localhost', an address without a domain")


@pytest.mark.parametrize("name", ["postgres", "template1"])
def test_a_database_that_every_server_has_is_doubtful(tmp_path: Path, name: str) -> None:
    (said,) = doubts(PGBEN_DB_NAME=f"pgben,{name}")
    assert said.startswith(f"the protected database '{name}' is one that every server has at first")
    servers = write_servers(tmp_path, databases=name)
    assert doubts(**servers) == [said]


# Channels of alarms, pings

HEARTBEAT = "https://hc.example.org/ping/sekret"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/sekret/{kind}", "must be a URL that begins with"),
        ("hc.example.org/sekret/{kind}", "must be a URL that begins with"),
        ("https://host/sekret {kind}", "must be a URL that begins with"),
        ("https://host:port/sekret/{kind}", "must be a URL that begins with"),
        ("https://ana:sekret@host/{kind}", "must hold no user and no password"),
        (HEARTBEAT, "must say in its path where the kind"),
        (HEARTBEAT + "?kind={kind}", "must say in its path where the kind"),
        (HEARTBEAT + "/{kind}/{job}", "must hold no braces but"),
        (HEARTBEAT + "/{kind}}", "must hold no braces but"),
    ],
)
def test_a_url_of_pings_that_cannot_be_filled_is_refused_and_not_repeated(
    url: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as raised:
        Settings.load({"PGBEN_HEARTBEAT_URL": url})
    assert "sekret" not in str(raised.value)


def test_urls_of_pings_by_kind_and_by_target_are_taken() -> None:
    for url in (HEARTBEAT + "/{kind}?create=1", HEARTBEAT + "/pgben-{kind}-{target}"):
        settings = Settings.load({"PGBEN_HEARTBEAT_URL": url})
        assert settings.heartbeat_url is not None
        assert settings.heartbeat_url.get_secret_value() == url
        assert "sekret" not in repr(settings) + repr(settings.rows())


def test_urls_of_channels_are_separated_by_white_space_and_shown_nowhere(tmp_path: Path) -> None:
    lines = "json://host/sekret?to=a,b\n\ntgram://sekret/1 ntfy://sekret\n"
    (tmp_path / "urls").write_text(lines, encoding="utf-8")
    for environment in (
        {"PGBEN_ALERT_URLS": lines},
        {"PGBEN_ALERT_URLS_FILE": str(tmp_path / "urls")},
    ):
        settings = Settings.load(environment)
        urls = [one.get_secret_value() for one in settings.alert_urls]
        assert urls == ["json://host/sekret?to=a,b", "tgram://sekret/1", "ntfy://sekret"]
        assert "sekret" not in repr(settings) + repr(settings.rows())


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        ("json://host/sekret sekret/2", "has a URL, number 2, without a scheme"),
        ("json://host/sekret,tgram://sekret/1", "must separate URLs by white space"),
    ],
)
def test_urls_of_channels_that_are_none_are_refused_by_their_place(urls: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as raised:
        Settings.load({"PGBEN_ALERT_URLS": urls})
    assert "sekret" not in str(raised.value)


def test_empty_files_of_channels_and_pings_say_that_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "none").touch()
    names = ("PGBEN_ALERT_URLS_FILE", "PGBEN_HEARTBEAT_URL_FILE")
    settings = Settings.load(dict.fromkeys(names, str(tmp_path / "none")))
    assert (settings.alert_urls, settings.heartbeat_url) == ((), None)


def test_only_contacts_with_an_address_can_be_written_to() -> None:
    lines = "Ana; ana@example.org; 1\nBia; none; 2\nRui; ; 3"
    assert Settings.load({"PGBEN_CONTACTS": lines}).contact_addresses == ("ana@example.org",)
