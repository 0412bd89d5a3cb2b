"""The commands that only look, and the command itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pgben_tasks import runtime
from pgben_tasks.domain.restorability import Client
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.settings import Settings
from tests.support import samples
from tests.support.cli_site import CANARY, UNKNOWN, Site, a_backup

#: Commands whose help ends with examples.
HELPFUL = (
    *("init", "demo", "up", "backup", "list", "show", "verify", "restore", "prune", "jobs"),
    *("cancel", "status", "doctor", "config", "acknowledge", "sweep", "undo"),
)


def test_an_empty_repository_lists_nothing_and_says_what_to_do(ready: Site) -> None:
    said = ready.run("list")
    assert (said.code, said.out) == (0, "")
    assert "pgben backup --all" in said.err
    assert ready.run("list", "pgben", "--json").json["backups"] == []


def test_a_target_that_is_not_protected_is_listed_only_when_it_has_backups(ready: Site) -> None:
    backup = a_backup(ready)
    for line in (["list", "nope"], ["list", "nope", "--direct"]):
        said = ready.run(*line)
        assert (said.code, said.out) == (2, "")
        assert "'postgres/nope' is not protected by this installation, and the repo" in said.err
        assert said.err.endswith("HINT: known targets: postgres/pgben\n")
    assert ready.run("list", "nope", "--json").json["error"]["type"] == "ConfigurationError"
    # It has a backup, and the settings do not name it any more.
    other = {"PGBEN_DB_NAME": "another"}
    left = ready.run("list", "pgben", **other)
    assert left.code == 0
    assert backup in left.out
    assert "'postgres/pgben' is not protected by this installation any more" in left.err
    none = ready.run("list", "another", **other)
    assert (none.code, "`pgben backup postgres/another` makes one" in none.err) == (0, True)


def test_the_repository_is_listed_and_shown_without_a_catalog(ready: Site) -> None:
    backup = a_backup(ready, suspect="40 % fewer rows")
    away = {"PGBEN_CATALOG_URL": "postgresql://postgres:x@127.0.0.1:1/none"}
    direct = ready.run("list", "--direct", "--json", **away)
    assert direct.code == 0, direct.err
    assert [one["backup"] for one in direct.json["backups"]] == [backup]
    assert direct.json["backups"][0]["state"] == "verified"
    fallen_back = ready.run("list", **away)
    assert fallen_back.code == 0
    assert backup in fallen_back.out
    assert "reading the repository instead" in fallen_back.err
    shown = ready.run("show", backup, **away)
    assert shown.code == 0, shown.err
    assert "40 % fewer rows" in shown.out
    assert "public.cidadão" in shown.out
    document = ready.run("show", f"postgres/pgben/{backup}", "--json", **away).json
    assert document["manifest"]["backup"] == backup
    assert len(document["verifications"]) == 1


def test_what_is_looked_at_fits_a_terminal_and_wide_shows_all(ready: Site) -> None:
    backup = a_backup(ready, suspect="40 % fewer rows than in the backup before, which is a lot")
    manifest = runtime.open_repository(Settings.load(ready.environment)).manifest(
        Target("postgres", "pgben"), BackupId.parse(backup)
    )
    runtime.Workplace(Settings.load(ready.environment)).index.add(
        manifest, "0" * 64, state="verified"
    )
    job = ready.job()
    ready.play(job, {"state": "verified"})
    for line in (["list"], ["show", backup], ["jobs"], ["jobs", str(job.id)], ["config"]):
        shown = ready.on_a_terminal(*line)
        assert max(map(len, shown)) <= 80, line
    shown = ready.on_a_terminal("list")
    assert shown[0] == "postgres/pgben"
    assert shown[1].split() == ["backup", "data", "as", "of", "state", "stored"]
    assert shown[3].startswith(f"{backup}  2026-11-23 02:00-03:00  verified")
    assert shown[4] == "    suspect: 40 % fewer rows than in the backup before, which is a lot"
    assert f"{str(job.id)[:8]}  succeeded" in "\n".join(ready.on_a_terminal("jobs"))
    wide = ready.on_a_terminal("list", "--wide")
    assert wide == ready.run("list").out.splitlines()
    assert len(wide) == 3
    assert "2026-11-23 02:00:00-03:00" in wide[2]
    assert wide[2].endswith("which is a lot")


def test_a_suspect_backup_is_noted_until_and_after_it_is_acknowledged(ready: Site) -> None:
    backup = a_backup(ready, suspect="rows shrank from 9 to 1")
    assert "suspect: rows shrank from 9 to 1" in ready.run("list", "--direct").out
    repository = runtime.open_repository(Settings.load(ready.environment))
    index = runtime.Workplace(Settings.load(ready.environment)).index
    target = Target("postgres", "pgben")
    manifest = repository.manifest(target, BackupId.parse(backup))
    index.add(manifest, "0" * 64, state="verified")
    assert not ready.run("list", "--json").json["backups"][0]["acknowledged"]
    repository.record(
        samples.verification(
            repository=repository.id,
            id="20261123T051100Z-bbbbbb",
            kind="acknowledgement",
            reasons=("acknowledged by ana@host", "arquivado"),
        )
    )
    index.acknowledge(target, backup)
    for line in (["list"], ["list", "--direct"]):
        assert "suspect (acknowledged): rows shrank from 9 to 1" in ready.run(*line).out
        listed = ready.run(*line, "--json").json["backups"][0]
        assert (listed["suspect"], listed["acknowledged"]) == ("rows shrank from 9 to 1", True)
    assert "acknowledged by ana@host, arquivado" in ready.run("show", backup).out


def test_what_a_backup_needs_is_listed_and_shown(ready: Site) -> None:
    backup = a_backup(ready)
    work = runtime.Workplace(Settings.load(ready.environment))
    manifest = work.repository.manifest(Target("postgres", "pgben"), BackupId.parse(backup))
    work.index.add(manifest, "0" * 64, state="verified")
    old = Client(version="15.18", major=15, compression="zstd:3")
    work.workers.register(["restore.one"])
    work.workers.publish(["restore.one"], [old])
    needed = "a PostgreSQL client of version 17 or newer built with zstd"
    listed = ready.run("list", "--json").json["backups"][0]
    assert (listed["state"], listed["needs"]) == ("not restorable here", needed)
    assert f"needs {needed}" in ready.run("list").out
    shown = ready.run("show", backup, "--json").json
    assert (shown["state"], shown["needs"]) == ("not restorable here", needed)
    assert needed in ready.run("show", backup).out
    assert "pg_dump 17.10" in ready.run("show", backup).out
    status = ready.run("status", "--json")
    assert status.code != 0
    assert any("not restorable here" in one["text"] for one in status.json["reasons"])
    # Direct mode restores on this machine, whose clients can.
    direct = ready.run("list", "--direct", "--json").json["backups"][0]
    assert (direct["state"], direct["needs"]) == ("verified", None)
    # Without the catalog nobody knows the workers' clients, and nothing is claimed of them.
    away = {"PGBEN_CATALOG_URL": "postgresql://postgres:x@127.0.0.1:1/none"}
    assert ready.run("show", backup, "--json", **away).json["state"] == "verified"


def test_a_forged_manifest_is_listed_as_unreadable_and_not_shown(ready: Site) -> None:
    backup = a_backup(ready)
    path = ready.repository / "backups/postgres/pgben" / backup / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"rows":3', b'"rows":4'))
    listed = ready.run("list", "--direct", "--json")
    assert listed.json["backups"][0]["state"] == "unreadable"
    shown = ready.run("show", backup, "--json")
    assert shown.code == 5
    assert shown.json["error"]["type"] == "SignatureInvalid"


def test_an_unknown_backup_is_one_sentence_and_a_hint(ready: Site) -> None:
    said = ready.run("show", UNKNOWN)
    assert said.code == 1
    assert said.out == ""
    error, hint = said.err.splitlines()
    assert error.startswith(f"error: there is no backup '{UNKNOWN}'")
    assert hint.startswith("HINT: ")
    assert ready.run("show", "not-an-id").code == 2


def test_a_wrong_password_is_told_and_never_shown(ready: Site) -> None:
    url = ready.environment["PGBEN_CATALOG_URL"].replace("@", f"{CANARY}@")
    for command in ("list", "jobs"):
        said = ready.run(command, "--json", PGBEN_CATALOG_URL=url)
        assert said.code == 2
        assert said.json["error"]["type"] == "ConfigurationError"
        assert CANARY not in said.all


def test_a_damaged_repository_card_is_damage(ready: Site) -> None:
    (ready.repository / "repository.json").write_bytes(b'{"format":1')
    said = ready.run("list", "--json")
    assert said.code == 5
    assert said.json["error"]["type"] == "ManifestInvalid"
    assert "repository.json" in said.json["error"]["sentence"]


def test_a_repository_that_is_gone_is_a_fault_of_the_settings(ready: Site) -> None:
    said = ready.run("list", PGBEN_REPOSITORY=f"file://{ready.folder / 'nowhere'}")
    assert said.code == 2
    assert not (ready.folder / "nowhere").exists()


@pytest.mark.parametrize("name", ["PGBEN_TRUSTED_KEYS_FILE", "PGBEN_SIGNING_KEY_FILE"])
def test_a_missing_key_is_named(ready: Site, name: str) -> None:
    said = ready.run("list", **{name: "/nowhere/key"})
    assert said.code == 2
    assert "'/nowhere/key'" in said.err


def test_config_shows_origins_and_hides_every_secret(ready: Site) -> None:
    secret = {
        "PGBEN_DB_PASS": CANARY,
        "PGBEN_MINIO_ACCESS_KEY": CANARY,
        "PGBEN_MINIO_SECRET_KEY": CANARY,
        "PGBEN_REPOSITORY_ACCESS_KEY": CANARY,
        "PGBEN_REPOSITORY_SECRET_KEY": CANARY,
        "PGBEN_SMTP_PASS": CANARY,
        "PGBEN_REDIS_URL": f"redis://:{CANARY}@localhost:6379/0",
        "PGBEN_CATALOG_URL": f"postgresql://ana:{CANARY}@localhost/catalog",
        "PGBEN_ALERT_URLS": f"json://example.org/{CANARY}",
        "PGBEN_HEARTBEAT_URL": f"https://example.org/{CANARY}/{{kind}}",
        "PGBEN_DRILL_URL": f"postgresql://ana:{CANARY}@localhost/drill",
        "PGBEN_ADMIN_EMAIL": "root@localhost",
    }
    table, document = ready.run("config", **secret), ready.run("config", "--json", **secret)
    assert (table.code, document.code) == (0, 0)
    assert "left aside: PGBEN_DRILL_URL" in table.err
    assert "PGBEN_ADMIN_EMAIL has 'root@localhost', an address without a domain" in table.err
    assert CANARY not in table.all + document.all
    rows = {row["name"]: row for row in document.json["settings"]}
    assert rows["PGBEN_DB_NAME"]["origin"] == "environment"
    assert rows["PGBEN_RETENTION_DAYS"] == {
        "name": "PGBEN_RETENTION_DAYS",
        "value": "30",
        "origin": "default",
    }
    assert "PGBEN_DB_PASS" in table.out


def test_wrong_settings_are_told_all_at_once(ready: Site) -> None:
    said = ready.run("config", PGBEN_TIMEZONE="Mars/Base", PGBEN_RETENTION_DAYS="0")
    assert said.code == 2
    assert "PGBEN_TIMEZONE" in said.err
    assert "PGBEN_RETENTION_DAYS" in said.err


def test_help_has_examples_and_loads_nothing_heavy(catalogless: Site) -> None:
    for command in HELPFUL:
        said = catalogless.run(command, "--help", COLUMNS="200")
        assert said.code == 0
        assert f"pgben {command}" in said.out.partition("Examples")[2]
    probe = (
        "import sys; from pgben_tasks.cli import main; main.main(['--help']);"
        " print([n for n in ('psycopg', 'minio', 'obstore', 'celery', 'cryptography', 'pyrage')"
        " if n in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", probe],
        env=catalogless.others,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert loaded.stdout.splitlines()[-1] == "[]"


def test_the_version_is_printed_alone(catalogless: Site) -> None:
    said = catalogless.run("--version")
    assert said.code == 0
    assert said.out.startswith("pgben ")


def test_a_reader_that_has_seen_enough_gets_no_traceback(catalogless: Site) -> None:
    with catalogless.start("config") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait(timeout=30)
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 1
