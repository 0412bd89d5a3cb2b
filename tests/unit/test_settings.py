"""Claims about how settings are read, refused and shown."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, strategies as st

import pgben_tasks
from pgben_tasks.domain.durations import format_duration, parse_duration
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.language import Language
from pgben_tasks.settings import Settings, redis_url
from pgben_tasks.settings.model import is_secret
from pgben_tasks.settings.sources import RETIRED
from tests.support.configuration_page import PAGES, text_of

CANARY = "c4n4ry-h7Gq"
ROOT = Path(pgben_tasks.__file__).parent.parent


def faults(**environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(environ)
    return str(caught.value)


def shown(settings: Settings) -> dict[str, tuple[str, str]]:
    return {row.name: (row.value, row.origin) for row in settings.rows()}


def test_without_an_environment_every_setting_has_its_default() -> None:
    settings = Settings.load({})
    assert (settings.db_host, settings.db_port, settings.db_user) == ("localhost", 5432, "postgres")
    assert settings.db_name == ("pgben",)
    assert settings.buckets == ("pgben-documents",)
    assert settings.repository == "file:///backup/repository"
    assert settings.redis_url.get_secret_value() == "redis://localhost:6379/0"
    assert settings.catch_up == timedelta(hours=12)
    assert settings.prune_brake == Decimal("0.2")
    assert (settings.dump_pack_size, settings.object_pack_size) == (64 * 1024**2, 16 * 1024**2)
    assert settings.encryption is True
    assert settings.contacts == ()
    assert settings.admin_email == settings.age_recipients == ()
    assert {origin for _, origin in shown(settings).values()} == {"default"}


def test_the_environment_is_read_and_named_as_origin() -> None:
    settings = Settings.load(
        {
            "PGBEN_DB_NAME": "pgben, audit",
            "PGBEN_RPO": "1d12h",
            "PGBEN_SPOOL_LIMIT": "1.5GiB",
            "PGBEN_ENCRYPTION": "off",
            "PGBEN_CONTACTS": "Ana; ana@example.org; +55 85 1\n\nRui; rui@example.org; +55 85 2\n",
            "PGBEN_PACK_SIZE": "8MiB",
            "PGBEN_ADMIN_EMAIL": "ana@example.org, rui@example.org",
            "OTHER": "x",
        }
    )
    assert settings.db_name == ("pgben", "audit")
    assert settings.rpo == timedelta(hours=36)
    assert settings.spool_limit == 3 * 1024**3 // 2
    assert settings.contacts[1].name == "Rui"
    assert settings.admin_email == ("ana@example.org", "rui@example.org")
    assert settings.dump_pack_size == settings.object_pack_size == 8 * 1024**2
    rows = shown(settings)
    assert rows["PGBEN_RPO"] == ("36h", "environment")
    assert rows["PGBEN_ENCRYPTION"] == ("off", "environment")
    assert rows["PGBEN_SPOOL_LIMIT"] == ("1.5GiB", "environment")
    assert rows["PGBEN_KEEP_REPLACED"] == ("7d", "default")
    assert rows["PGBEN_NODE"][0] == "host name at first start, then kept in the spool"
    assert rows["PGBEN_CONTACTS"][0].startswith("Ana; ana@example.org; +55 85 1, Rui")
    assert len(rows) == len(Settings.model_fields)


def test_an_empty_variable_is_as_good_as_none() -> None:
    settings = Settings.load({"PGBEN_DB_PORT": "", "PGBEN_DB_PASS": "", "PGBEN_DB_PASS_FILE": ""})
    assert (settings.db_port, settings.db_pass) == (5432, None)


def test_a_command_is_split_as_a_shell_does_and_shown_without_secrets() -> None:
    text = f"/opt/pgben/pause  'a b' $HOME token={CANARY}"
    settings = Settings.load({"PGBEN_BEFORE_SWAP": text})
    assert settings.before_swap is not None
    assert settings.before_swap.words == ("/opt/pgben/pause", "a b", "$HOME", f"token={CANARY}")
    assert settings.after_swap is None
    rows = shown(settings)
    assert rows["PGBEN_AFTER_SWAP"] == ("not set", "default")
    assert rows["PGBEN_BEFORE_SWAP"][0].startswith("/opt/pgben/pause 'a b' '$HOME' ")
    assert CANARY not in rows["PGBEN_BEFORE_SWAP"][0]
    assert CANARY not in faults(PGBEN_AFTER_SWAP=f"{CANARY} 'x")


def test_the_process_environment_is_the_default() -> None:
    code = "from pgben_tasks.settings import *; print(Settings.load().db_host, redis_url())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PGBEN_DB_HOST": "db.example", "PGBEN_REDIS_URL": "redis://q/3"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["db.example", "redis://q/3"]


def test_a_quota_is_for_a_repository_on_a_server() -> None:
    quota = {"PGBEN_REPOSITORY_QUOTA": "2TiB"}
    assert "the volume of 'file:///srv/copies' says what it holds" in faults(
        **quota, PGBEN_REPOSITORY="file:///srv/copies"
    )
    loaded = Settings.load({**quota, "PGBEN_REPOSITORY": "s3://copies"})
    assert loaded.repository_quota == 2 * 1024**4


def test_all_faults_are_reported_at_once() -> None:
    text = faults(
        PGBEN_DB_PORT="high",
        PGBEN_RPO="5m",
        PGBEN_PRUNE_BRAKE="1.2",
        PGBEN_SPOOL_LIMIT="much",
        PGBEN_ENCRYPTION="perhaps",
        PGBEN_RESTORE_APPROVAL="all",
        PGBEN_TIMEZONE="America/Fortalesa",
        PGBEN_SCHEDULE_VERIFY="0 8 * *",
        PGBEN_DB_PROT="1",
        PGBEN_FOO="1",
        PGBEN_SMTP_PASS_FILE="/nonexistent/smtp",
    )
    assert text.startswith("11 settings are wrong\nHINT: ")
    assert "PGBEN_DB_PORT must be a whole number" in text
    assert "PGBEN_RPO must be a duration like '12h'" in text
    assert "PGBEN_PRUNE_BRAKE must be at most 1" in text
    assert "PGBEN_SPOOL_LIMIT must be a size like '64MiB'" in text
    assert "PGBEN_ENCRYPTION must be 'on' or 'off'" in text
    assert "PGBEN_RESTORE_APPROVAL must be 'confirm' or 'token'" in text
    assert "did you mean 'America/Fortaleza'?" in text
    assert "PGBEN_SCHEDULE_VERIFY '0 8 * *' is not a cron line: it has 4 fields, not 5" in text
    assert "PGBEN_DB_PROT is not a setting: did you mean PGBEN_DB_PORT?" in text
    assert "PGBEN_FOO is not a setting; docs/configuration.md lists them all" in text
    assert "PGBEN_SMTP_PASS_FILE names '/nonexistent/smtp', which cannot be read" in text


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("DB_PORT", "0", "must be at least 1"),
        ("DB_PORT", "65536", "must be at most 65535"),
        ("DB_HOST", "postgresql://u:p@db/x", "must be a host name"),
        ("DB_NAME", "host=db", "a target's name looks like a connection string"),
        ("DB_NAME", "a,b,a", "must not name the same thing twice"),
        ("DB_NAME", "x" * 64, "is 64 bytes long"),
        ("DB_NAME", " , ", "must not be empty"),
        ("BUCKETS", "a/b", "has characters that pgben does not take"),
        ("NODE", "a b", "has characters that pgben does not take"),
        ("MINIO_HOST", "ftp://host", "must be 'host:port'"),
        ("MINIO_HOST", "host:port", "must be 'host:port'"),
        ("MINIO_HOST", "https://user:pass@host", "must be 'host:port'"),
        ("REPOSITORY", "/backup", "must be 'file:///absolute/folder' or 's3://bucket/prefix'"),
        ("REPOSITORY", "file://backup/x", "must be 'file:///absolute/folder'"),
        ("REPOSITORY", "file:///", "must be 'file:///absolute/folder'"),
        ("REPOSITORY", "s3://key:secret@bucket", "must be 'file:///absolute/folder'"),
        ("REPOSITORY_ENDPOINT", "s3.example.org", "must be 'http://host:port' or 'https://"),
        ("REPOSITORY_ENDPOINT", "https://s3.example.org/x", "must be 'host:port', 'http://"),
        ("REDIS_URL", "http://queue/0", "must be the URL of a Redis database"),
        ("REDIS_URL", "redis://queue:port/0", "must be the URL of a Redis database"),
        ("REDIS_URL", "redis://queue/zero", "must be the URL of a Redis database"),
        ("CATALOG_URL", "mysql://db/x", "must be like 'postgresql://"),
        ("CATALOG_URL", "postgresql://db", "must be like 'postgresql://"),
        ("RPO", "0h", "must be longer than no time"),
        ("RPO", "12", "must be a duration"),
        ("RPO", "12h later", "must be a duration"),
        ("KEEP_DAILY", "0", "must be at least 1"),
        ("DISK_CRITICAL", "80%", "must be a share between 0 and 1"),
        ("DISK_CRITICAL", "NaN", "must be a finite number"),
        ("CONTACTS", "Ana; ana@example.org", "must be one 'name; mail; phone' per line"),
        ("ADMIN_EMAIL", "admin", "must be an address"),
        ("SMTP_FROM", "a b@c", "must be an address"),
        ("AGE_RECIPIENTS", "ssh-ed25519", "must be public keys of age"),
        ("SMTP_SECURITY", "ssl", "must be 'none', 'starttls' or 'tls'"),
        ("BEFORE_SWAP", "pause.sh", "must begin with the absolute path of a program"),
        ("BEFORE_SWAP", "A=1 /bin/pause", "must begin with the absolute path of a program"),
        ("AFTER_SWAP", " ", "must begin with the absolute path of a program"),
        ("AFTER_SWAP", "/bin/resume 'now", "must be a command whose quotes are closed"),
    ],
)
def test_a_bad_value_is_one_sentence_with_its_setting(name: str, text: str, fault: str) -> None:
    said = faults(**{f"PGBEN_{name}": text})
    assert said.startswith(f"PGBEN_{name} ")
    assert fault in said
    assert "HINT: docs/configuration.md" in said


def test_every_secret_may_come_from_a_file(tmp_path: Path) -> None:
    secrets = {name for name in Settings.model_fields if is_secret(name)}
    assert secrets == {
        "db_pass",
        "minio_access_key",
        "minio_secret_key",
        "repository_access_key",
        "repository_secret_key",
        "redis_url",
        "catalog_url",
        "smtp_pass",
        "alert_urls",
        "heartbeat_url",
    }
    urls = {
        "alert_urls": f"json://u:{CANARY}@chat/x",
        "heartbeat_url": f"https://hc.example.org/{CANARY}/{{kind}}",
        "redis_url": f"redis://:{CANARY}@q/0",
        "catalog_url": f"postgresql://u:{CANARY}@c/x",
    }
    environ = {}
    for name in secrets:
        file = tmp_path / name
        file.write_text(urls.get(name, CANARY) + "\n", encoding="utf-8")
        environ[f"PGBEN_{name.upper()}_FILE"] = str(file)
    settings = Settings.load(environ)
    assert settings.db_pass is not None
    assert settings.db_pass.get_secret_value() == CANARY
    assert settings.redis_url.get_secret_value() == urls["redis_url"]
    assert shown(settings)["PGBEN_DB_PASS"] == ("••••", "file")
    assert shown(settings)["PGBEN_CATALOG_URL"] == ("postgresql://u:••••@c/x", "file")
    assert CANARY not in repr(settings) + str(settings.rows()) + settings.model_dump_json()


def test_a_secret_and_its_file_together_are_a_fault(tmp_path: Path) -> None:
    said = faults(PGBEN_DB_PASS=CANARY, PGBEN_DB_PASS_FILE=str(tmp_path / "x"))
    assert said.startswith("PGBEN_DB_PASS and PGBEN_DB_PASS_FILE are both set")
    assert CANARY not in said


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "cannot be read"), (b"\n", "is empty"), (b"\xff\xfe", "is no text")],
)
def test_a_file_that_gives_no_secret_is_a_fault(
    tmp_path: Path, content: bytes | None, fault: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    said = faults(PGBEN_DB_PASS_FILE=str(file))
    assert said.startswith(f"PGBEN_DB_PASS_FILE names '{file}', which {fault}")


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("PGBEN_MINIO_REGION", "us/east", "must be a name of lower case letters"),
        ("PGBEN_MINIO_ADDRESSING", "host", "'path' or 'virtual'"),
    ],
)
def test_a_way_to_buckets_that_is_none_is_a_fault(name: str, text: str, fault: str) -> None:
    said = faults(**{name: text})
    assert said.startswith(name)
    assert fault in said


def test_an_empty_file_says_that_no_bucket_is_protected_and_a_missing_one_is_a_fault(
    tmp_path: Path,
) -> None:
    file = tmp_path / "key"
    named = {f"PGBEN_MINIO_{which}_KEY_FILE": str(file) for which in ("ACCESS", "SECRET")}
    assert "cannot be read" in faults(**named)
    file.write_bytes(b"\n")
    settings = Settings.load(named)
    assert (settings.bucket_targets(), settings.minio_secret_key) == ((), None)
    assert shown(settings)["PGBEN_MINIO_ACCESS_KEY"][1] == "default"
    file.write_bytes(b"key\n")
    assert Settings.load(named).bucket_targets() != ()


def test_only_secrets_come_from_files() -> None:
    assert "PGBEN_DB_HOST_FILE is not a setting" in faults(PGBEN_DB_HOST_FILE="/x")


def test_a_secret_key_among_the_recipients_is_refused_and_not_echoed() -> None:
    key = f"AGE-SECRET-KEY-1{CANARY.upper()}"
    for text in (key, key.lower(), f"age1qqq,{key}"):
        said = faults(PGBEN_AGE_RECIPIENTS=text)
        assert "holds a secret key" in said
        assert CANARY not in said
        assert CANARY.upper() not in said


@given(st.sampled_from(sorted(Settings.model_fields)))
def test_no_fault_ever_echoes_a_secret_value(field: str) -> None:
    if not is_secret(field):
        return
    for text in (CANARY, f"http://{CANARY}:x@{CANARY}:99999/", f"redis://:{CANARY}@:x/0"):
        try:
            rows = str(Settings.load({f"PGBEN_{field.upper()}": text}).rows())
        except ConfigurationError as exc:
            rows = f"{exc} {exc!r} {exc.__cause__}"
        assert CANARY not in rows


def test_no_fault_of_a_url_repeats_its_password() -> None:
    # Python's own message about such a host repeats everything before the path.
    for url in (f"postgresql://u:{CANARY}@h\u2100/x", f"postgresql://[{CANARY}]/x"):
        said = faults(PGBEN_CATALOG_URL=url)
        assert said.startswith("PGBEN_CATALOG_URL must be like 'postgresql://")
        assert CANARY not in said
    for name in ("PGBEN_MINIO_HOST", "PGBEN_REPOSITORY_ENDPOINT", "PGBEN_REPOSITORY"):
        for scheme in ("https", "s3"):
            said = faults(**{name: f"{scheme}://u:{CANARY}@h\u2100/x"})
            assert said.startswith(f"{name} must be ")
            assert CANARY not in said


def test_what_kubernetes_injects_is_ignored_and_named() -> None:
    settings = Settings.load(
        {
            "PGBEN_DB_SERVICE_HOST": "10.0.0.1",
            "PGBEN_DB_SERVICE_PORT": "5432",
            "PGBEN_DB_SERVICE_PORT_SQL": "5432",
            "PGBEN_DB_PORT": "tcp://10.0.0.1:5432",
            "PGBEN_DB_PORT_5432_TCP": "tcp://10.0.0.1:5432",
            "PGBEN_DB_PORT_5432_TCP_PROTO": "tcp",
            "PGBEN_DB_PORT_5432_TCP_PORT": "5432",
            "PGBEN_DB_PORT_5432_TCP_ADDR": "10.0.0.1",
            "PGBEN_DNS_PORT_53_UDP": "udp://10.0.0.2:53",
            "PGBEN_PORT": "tcp://10.0.0.3:80",
            "PGBEN_SERVICE_HOST": "10.0.0.3",
        }
    )
    assert settings.db_port == 5432
    assert len(settings.ignored) == 11
    assert Settings.load({"PGBEN_DB_PORT": "5433"}).ignored == ()


def test_what_only_looks_like_a_service_link_is_unknown() -> None:
    assert "PGBEN_DB_PORT_5432_TCP_ADDR is not a setting" in faults(
        PGBEN_DB_PORT_5432_TCP_ADDR="10.0.0.1"
    )
    assert "PGBEN_WEB_PORT is not a setting" in faults(PGBEN_WEB_PORT="80")


def test_variables_of_the_test_suite_are_not_settings() -> None:
    assert Settings.load({"PGBEN_TEST_REQUIRE": "all"}).ignored == ()


def test_retired_settings_are_left_aside_and_named_whatever_they_hold() -> None:
    old = dict.fromkeys(RETIRED - {"PGBEN_RTO"}, f"no\x00thing {CANARY}") | {"PGBEN_RTO": ""}
    settings = Settings.load({**old, "PGBEN_DB_PORT": "5433"})
    assert settings.db_port == 5433
    assert settings.retired == tuple(sorted(RETIRED - {"PGBEN_RTO"}))
    assert CANARY not in repr(settings) + str(settings.rows())
    assert Settings.load({}).retired == ()


def test_a_retired_name_is_neither_known_nor_a_fault_nor_suggested() -> None:
    names = {f"PGBEN_{field.upper()}" for field in Settings.model_fields}
    assert not RETIRED & {*names, *(f"{name}_FILE" for name in names)}
    said = faults(PGBEN_RT0="4h", PGBEN_RTO="4h", PGBEN_DRIL_URL="x")
    assert said.startswith("2 settings are wrong")
    assert not any(f"mean {name}?" in said for name in RETIRED)


def read_of_settings(source: str) -> set[str]:
    """Return the attributes that code reads of ``settings``, ``self.settings`` and the like."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value).rpartition(".")[2] in {"settings", "_settings"}
    }


def unread(fields: Iterable[str], sources: Iterable[str]) -> set[str]:
    """Return the settings that none of these sources reads, itself or through a property."""
    read = set().union(*map(read_of_settings, sources))
    for name in read & set(vars(Settings)):
        member: Any = vars(Settings)[name]
        code = inspect.getsource(getattr(member, "fget", member))
        read |= set(re.findall(r"\bself\.(\w+)", code))
    return set(fields) - read


def test_every_setting_is_read_outside_settings() -> None:
    code = [*(ROOT / "pgben_tasks").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]
    own = ROOT / "pgben_tasks" / "settings"
    sources = [path.read_text(encoding="utf-8") for path in code if own not in path.parents]
    # Without one line of code that reads a setting, the setting is found.
    assert unread({"rpo", "heartbeat"}, ["self.settings.rpo", "box.heartbeat"]) == {"heartbeat"}
    assert unread({"minio_host", "db_name"}, ["work.settings.minio_url"]) == {"db_name"}
    assert unread(Settings.model_fields, sources) == set()


def test_the_catalog_lies_beside_the_database_by_default() -> None:
    settings = Settings.load(
        {
            "PGBEN_DB_HOST": "db",
            "PGBEN_DB_PORT": "5433",
            "PGBEN_DB_USER": "a b",
            "PGBEN_DB_PASS": "p/@",
        }
    )
    url = "postgresql://a%20b:p%2F%40@db:5433/pgben_catalog"
    assert settings.catalog_url.get_secret_value() == url
    assert shown(settings)["PGBEN_CATALOG_URL"] == (
        "postgresql://a%20b:••••@db:5433/pgben_catalog",
        "default",
    )


@pytest.mark.parametrize(
    ("host", "written"),
    [("::1", "[::1]"), ("/run/postgresql", "%2Frun%2Fpostgresql"), ("db", "db")],
)
def test_the_catalog_url_can_name_any_host(host: str, written: str) -> None:
    url = Settings.load({"PGBEN_DB_HOST": host}).catalog_url.get_secret_value()
    assert url == f"postgresql://postgres@{written}:5432/pgben_catalog"


def test_a_wrong_database_setting_is_not_reported_twice() -> None:
    assert faults(PGBEN_DB_PORT="x").startswith("PGBEN_DB_PORT must be a whole number")


SERVERS = """
[reports]
host = "reports.example.org"
user = "backup"
password_file = "reports.secret"
databases = ["reports", "archive"]

[billing]
host = "billing.example.org"
port = 5433
password = "c4n4ry-h7Gq"
databases = ["billing"]
"""


def write_servers(folder: Path, text: str) -> dict[str, str]:
    (folder / "servers.toml").write_text(text, encoding="utf-8")
    return {"PGBEN_SERVERS_FILE": str(folder / "servers.toml")}


def test_further_servers_bring_their_databases(tmp_path: Path) -> None:
    (tmp_path / "reports.secret").write_text("pw\n", encoding="utf-8")
    settings = Settings.load(write_servers(tmp_path, SERVERS))
    targets = settings.postgres_targets()
    assert [str(target) for target in targets] == [
        "postgres/pgben",
        "postgres/reports",
        "postgres/archive",
        "postgres/billing",
    ]
    reports = targets[Target("postgres", "archive")]
    assert (reports.host, reports.port, reports.user) == ("reports.example.org", 5432, "backup")
    assert reports.password is not None
    assert reports.password.get_secret_value() == "pw"
    assert settings.postgres_targets()[Target("postgres", "pgben")] == settings.server
    assert shown(settings)["PGBEN_SERVERS_FILE"][0] == str(tmp_path / "servers.toml")
    assert CANARY not in repr(settings)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x", "which is not TOML"),
        ("host = 'db'", "host: "),
        ("[a]\nhost = 'db'", "a: databases is missing"),
        ("[a]\ndatabases = ['x']", "a: host is missing"),
        ("[a]\nhost = 'db'\ndatabases = ['x']\nsslmode = 'off'", "a: sslmode is not known"),
        ("[a]\nhost = 'db'\ndatabases = ['x', 'x']", "a: databases must not name the same"),
        ("[a]\nhost = 'db'\ndatabases = ['host=x']", "a: databases a target's name looks like"),
        ("[a]\nhost = 'db'\nport = 'c4n4ry-h7Gq'\ndatabases = ['x']", "a: port must be a whole"),
        ("[a]\nhost = 'db'\npassword = 1\ndatabases = ['x']", "a: password must be text"),
        ("[a]\nhost = 'db'\npassword_file = 'no'\ndatabases = ['x']", "a: password_file names"),
        (
            "[a]\nhost = 'db'\npassword = 'c4n4ry-h7Gq'\npassword_file = 'x'\ndatabases = ['x']",
            "a: password and password_file are both set",
        ),
        ("[a]\nhost = 'db'\ndatabases = ['pgben']", "name the database 'pgben' on two servers"),
        (
            "[a]\nhost = 'd'\ndatabases = ['x']\n[b]\nhost = 'e'\ndatabases = ['x']",
            "name the database 'x' on two servers",
        ),
    ],
)
def test_a_bad_file_of_servers_is_a_sentence(tmp_path: Path, text: str, fault: str) -> None:
    said = faults(**write_servers(tmp_path, text))
    assert said.startswith("PGBEN_SERVERS_FILE ")
    assert fault in said
    assert CANARY not in said


def test_faults_of_all_servers_are_reported_at_once(tmp_path: Path) -> None:
    said = faults(**write_servers(tmp_path, "[a]\nhost = 'x'\n[b]\nhost = 'y'\n"))
    assert "a: databases is missing; b: databases is missing" in said


def test_a_file_of_servers_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    assert "no such file" in faults(PGBEN_SERVERS_FILE=str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    assert "which is not UTF-8" in faults(PGBEN_SERVERS_FILE=str(tmp_path / "bad.toml"))


def test_a_bare_minio_host_gets_its_scheme_from_the_switch() -> None:
    assert Settings.load({}).minio_url == "http://localhost:9000"
    secure = {"PGBEN_MINIO_SECURE": "on", "PGBEN_MINIO_HOST": "minio:9000"}
    assert Settings.load(secure).minio_url == "https://minio:9000"
    repository = {"PGBEN_REPOSITORY_ENDPOINT": "https://s3.example.org/"}
    assert Settings.load(repository).repository_endpoint == "https://s3.example.org"
    whole = {"PGBEN_MINIO_HOST": "http://minio:9000/", "PGBEN_MINIO_SECURE": "on"}
    assert Settings.load(whole).minio_url == "http://minio:9000"


def test_schedules_are_read_in_the_configured_zone() -> None:
    settings = Settings.load(
        {"PGBEN_TIMEZONE": "Europe/Berlin", "PGBEN_SCHEDULE_BUCKETS": "5 4 * * *"}
    )
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert settings.schedule("postgres").previous(now) == datetime(2026, 11, 23, 1, tzinfo=UTC)
    assert settings.schedule("bucket").previous(now) == datetime(2026, 11, 23, 3, 5, tzinfo=UTC)
    assert settings.schedule("verify").previous(now) == datetime(2026, 11, 23, 7, tzinfo=UTC)
    assert settings.zone.key == "Europe/Berlin"


def test_buckets_are_targets() -> None:
    settings = Settings.load({"PGBEN_MINIO_ACCESS_KEY": "k"})
    assert settings.bucket_targets() == (Target("bucket", "pgben-documents"),)
    assert settings.targets() == (Target("postgres", "pgben"), *settings.bucket_targets())


def test_no_bucket_is_protected_without_a_key_for_its_server() -> None:
    assert Settings.load({}).bucket_targets() == ()


def test_the_broker_url_is_read_alone_with_its_database(tmp_path: Path) -> None:
    assert redis_url({}) == "redis://localhost:6379/0"
    assert redis_url({"PGBEN_REDIS_URL": "rediss://:pw@queue:6380"}) == "rediss://:pw@queue:6380/0"
    (tmp_path / "url").write_text("redis://queue/4\n", encoding="utf-8")
    assert redis_url({"PGBEN_REDIS_URL_FILE": str(tmp_path / "url")}) == "redis://queue/4"
    with pytest.raises(ConfigurationError, match="PGBEN_REDIS_URL is not") as caught:
        redis_url({"PGBEN_REDIS_URL": f"http://:{CANARY}@queue"})
    assert CANARY not in str(caught.value)


def test_reading_the_broker_url_loads_no_model() -> None:
    code = (
        "import sys; from pgben_tasks.settings import redis_url; redis_url({});"
        "print({'pydantic_settings', 'cronsim', 'psycopg', 'minio'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "set()\n"


def test_settings_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        pgben_tasks.settings.nothing  # noqa: B018


@given(st.integers(min_value=1, max_value=400 * 86400))
def test_durations_read_back_as_they_are_written(seconds: int) -> None:
    value = timedelta(seconds=seconds)
    assert parse_duration(format_duration(value)) == value


def test_a_limit_of_a_day_is_written_in_hours() -> None:
    assert format_duration(timedelta(hours=24)) == "24h"
    assert format_duration(timedelta(days=7, minutes=5)) == "7d5min"
    assert format_duration(timedelta()) == "0s"


@pytest.mark.parametrize("language", get_args(Language))
def test_the_page_of_settings_is_current(language: Language) -> None:
    written = PAGES[language].path.read_text(encoding="utf-8")
    assert written == text_of(language), "run `make configuration`"


def test_the_page_is_one_language_at_a_time() -> None:
    english, portuguese = text_of("en").splitlines(), text_of("pt_BR").splitlines()
    settings = [
        [line for line in page if line.startswith("| `PGBEN_")] for page in (english, portuguese)
    ]
    assert len(settings[0]) == len(settings[1]) == len(Settings.model_fields)
    assert set(settings[0]) & set(settings[1]) == set()
    assert "not set" not in text_of("pt_BR")
    assert "| `PGBEN_RPO` | `24h` | Quanto se aceita perder de dados, em tempo. |" in portuguese


def test_the_page_names_every_setting_with_its_default() -> None:
    text = text_of("en")
    for field in Settings.model_fields:
        assert f"| `PGBEN_{field.upper()}`" in text
    assert "| `PGBEN_PACK_SIZE` | 64MiB dumps, 16MiB objects |" in text
    assert "| `PGBEN_CATALOG_URL` 🔒 | database pgben_catalog on the PGBEN_DB server |" in text
    assert "| `PGBEN_RPO` | `24h` |" in text
