"""`pgben check` on a real repository: each planted fault is told, and nothing else is asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.domain.documents import Finding, Manifest
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import IntegrityError
from pgben_tasks.operations.repository.check import read_signs
from pgben_tasks.runtime import open_store
from pgben_tasks.settings import Settings
from tests.support.archive import Archive
from tests.support.commands import Ran
from tests.support.installation import Installation
from tests.support.ruin import Nobody, Ruin

Plant = Callable[[Installation, Manifest, Manifest], Any]


@pytest.fixture
def nobodies() -> Iterator[tuple[Nobody, Nobody, Nobody]]:
    found = (Nobody(), Nobody(), Nobody())
    yield found
    for one in found:
        one.close()


@pytest.fixture
def ruin(
    installation: Installation, nobodies: tuple[Nobody, Nobody, Nobody], tmp_path: Path
) -> Ruin:
    """Return the command line beside a repository: neither Redis nor the catalog answers."""
    made = Ruin(installation.shop, tmp_path, *nobodies[:2])
    # It opens nothing and reaches no database.
    for name in ("PGBEN_AGE_IDENTITY_FILE", "PGBEN_DB_PASS", "PGBEN_DB_HOST", "PGBEN_DB_PORT"):
        made.site.environment.pop(name)
    return made


def findings(installation: Installation) -> tuple[Finding, ...]:
    """Return what is wrong with the installation's target, whatever the age of its backups."""
    (target,) = read_signs(
        installation.tools.repository,
        [installation.target],
        others=(),
        since=datetime.now(UTC) - timedelta(days=8),
        points_wanted=False,
        points_checked=False,
    ).targets
    return target.findings


def statements_of(installation: Installation, manifest: Manifest) -> list[Path]:
    folder = installation.repository / "verifications" / manifest.target / manifest.backup
    return sorted(folder.glob("*.json"))


def remove(path: Path) -> None:
    path.unlink()
    path.with_name(f"{path.name}.sig").unlink()


def flip_a_bit(installation: Installation, newer: Manifest, _older: Manifest) -> None:
    """Flip one, and let a full verification find it, as it is run every week."""
    path = installation.pack_files(newer)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        installation.chain("verify", level="full").rest()


def truncate(installation: Installation, _newer: Manifest, older: Manifest) -> None:
    path = installation.pack_files(older)[0]
    path.write_bytes(path.read_bytes()[:-1])


def remove_pack(installation: Installation, newer: Manifest, _older: Manifest) -> None:
    installation.pack_files(newer)[-1].unlink()


def forge_manifest(installation: Installation, newer: Manifest, _older: Manifest) -> None:
    forged = newer.model_copy(update={"job": "another"})
    installation.manifest_file(newer).write_bytes(forged.encode())


def remove_manifest(installation: Installation, _newer: Manifest, older: Manifest) -> None:
    remove(installation.manifest_file(older))


def remove_statement(installation: Installation, newer: Manifest, _older: Manifest) -> None:
    """Remove the first of two: the second names it."""
    installation.chain("verify", level="full").rest()
    remove(statements_of(installation, newer)[0])


def remove_last_statement(installation: Installation, newer: Manifest, _older: Manifest) -> None:
    """Remove the second of two: only the audit trail names it."""
    installation.chain("verify", level="full").rest()
    installation.shop.work.trail.store_missing()
    remove(statements_of(installation, newer)[-1])


def remove_backup(installation: Installation, newer: Manifest, _older: Manifest) -> None:
    """Remove the newest backup and every word about it."""
    installation.chain("verify", level="full").rest()
    installation.shop.work.trail.store_missing()
    for path in statements_of(installation, newer):
        remove(path)
    remove(installation.manifest_file(newer))


FAULTS: dict[str, tuple[Plant, str]] = {
    "a flipped bit": (flip_a_bit, "damaged backups of"),
    "a truncated pack": (truncate, "truncated files of"),
    "a missing pack": (remove_pack, "missing files or documents of"),
    "a forged manifest": (forge_manifest, "forged documents of"),
    "a removed manifest": (remove_manifest, "missing files or documents of"),
    "a removed statement": (remove_statement, "missing files or documents of"),
    "the last statement removed": (remove_last_statement, "missing files or documents of"),
    "the newest backup removed": (remove_backup, "missing files or documents of"),
}


def test_a_whole_repository_is_ok_and_nothing_but_it_is_asked(
    installation: Installation, ruin: Ruin
) -> None:
    before = installation.files()
    said = ruin.run("check")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("PGBEN OK - every target can be restored (1), to ")
    assert f"{installation.target}_backups=2;;;0;" in said.out
    assert installation.files() == before
    assert ruin.left_in_spool() == []


@pytest.mark.parametrize(("plant", "text"), FAULTS.values(), ids=FAULTS)
def test_every_planted_fault_is_critical(
    installation: Installation, ruin: Ruin, plant: Plant, text: str
) -> None:
    older, newer = installation.backups
    plant(installation, newer, older)
    said = ruin.run("check")
    assert said.code == 2, said.all
    assert said.out.startswith(f"PGBEN CRITICAL - {text}")
    assert said.err == ""


def test_what_retention_removed_is_no_fault(installation: Installation) -> None:
    archive = Archive(installation, datetime(2024, 11, 25, 12, 0, tzinfo=UTC))
    old = archive.add_nightly(2, oldest=40)
    archive.add_nightly(4, oldest=3)
    assert findings(installation) == ()
    assert archive.prune()["expired"] == [one.backup for one in old]
    assert findings(installation) == ()
    # Gone without the signed decision is one.
    remove(statements_of(installation, old[1])[-1])
    assert [one.kind for one in findings(installation)] == ["missing"]


def test_stale_backups_warn_and_then_are_critical(installation: Installation, ruin: Ruin) -> None:
    old_enough = installation.backups[1].snapshot_time + timedelta(seconds=2)
    assert wait_until(lambda: datetime.now(UTC) > old_enough, seconds=10)
    assert ruin.run("check", "--warn-age", "1s", "--crit-age", "1d").code == 1
    stale = ruin.run("check", "--rpo", "1s", "--json")
    assert (stale.code, stale.json["status"], stale.json["code"]) == (2, "critical", 2)
    assert stale.json["problems"][0]["target"] == str(ruin.shop.target)
    assert ruin.run("check", PGBEN_RPO="1s").code == 2


def test_a_target_without_a_backup_is_critical_and_others_may_be_asked_alone(ruin: Ruin) -> None:
    known = ruin.shop.target.name
    both = {"PGBEN_DB_NAME": f"{known},forgotten"}
    said = ruin.run("check", **both)
    assert said.code == 2
    assert said.out.startswith("PGBEN CRITICAL - there is no backup of 'postgres/forgotten'|")
    assert ruin.run("check", "--target", known, **both).code == 0
    assert ruin.run("check", "--target", known, "--target", "forgotten", **both).code == 2


def test_what_is_protected_no_more_is_looked_at_when_asked(
    installation: Installation, ruin: Ruin
) -> None:
    known = str(installation.target)
    other = {"PGBEN_DB_NAME": "another"}
    # By its name it is judged like any other.
    assert ruin.run("check", "--target", known, **other).code == 0
    truncate(installation, *reversed(installation.backups))
    said = ruin.run("check", "--json", "--all-present", **other)
    assert {(one["target"], one["text"]) for one in said.json["problems"]} == {
        ("postgres/another", "there is no backup of 'postgres/another'"),
        (known, f"truncated files of '{known}': 1"),
    }


UNKNOWN: dict[str, tuple[list[str], dict[str, str]]] = {
    "an option that nobody knows": (["--bogus"], {}),
    "an argument": (["pgben"], {}),
    "no number": (["--timeout", "soon"], {}),
    "no time": (["--rpo", "soon"], {}),
    "ages that contradict": (["--warn-age", "2d", "--crit-age", "1d"], {}),
    "a target that nobody has": (["--target", "pgbne"], {}),
    "a target that is none": (["--target", "host=x password=y"], {}),
    "the help": (["--help"], {}),
    "a setting that is none": ([], {"PGBEN_RPO": "often"}),
    "a setting that nobody knows": ([], {"PGBEN_RPOO": "1d"}),
    "no trusted keys": ([], {"PGBEN_TRUSTED_KEYS_FILE": ""}),
    "a repository that is not there": ([], {"PGBEN_REPOSITORY": "file:///mnt/repository/gone"}),
    "a file of settings that is not there": (["--env-file", "/mnt/repository/x.env"], {}),
}


@pytest.mark.parametrize(("typed", "changed"), UNKNOWN.values(), ids=UNKNOWN)
def test_everything_that_is_no_judgement_is_unknown(
    ruin: Ruin, typed: list[str], changed: dict[str, str]
) -> None:
    said = ruin.run("check", *typed, **changed)
    assert said.code == 3, said.all
    if "--help" not in typed:
        assert said.out.startswith("PGBEN UNKNOWN - ")
        assert said.err == ""
        as_json = ruin.run("check", *typed, "--json", **changed)
        assert (as_json.code, as_json.json["status"]) == (3, "unknown")
    assert "password=y" not in said.all


def test_without_any_setting_or_target_it_is_unknown(ruin: Ruin) -> None:
    ruin.site.environment.clear()
    assert unknown(ruin.run("check")).startswith("no settings are loaded")


def unknown(said: Ran) -> str:
    assert said.code == 3, said.all
    return said.out.splitlines()[0].removeprefix("PGBEN UNKNOWN - ")


@pytest.fixture
def hanging(ruin: Ruin, nobodies: tuple[Nobody, Nobody, Nobody]) -> dict[str, str]:
    """Return settings of a repository that takes connections and says nothing."""
    return {
        "PGBEN_REPOSITORY": "s3://backups",
        "PGBEN_REPOSITORY_ENDPOINT": f"http://127.0.0.1:{nobodies[2].port}",
        "PGBEN_REPOSITORY_ACCESS_KEY": "key",
        "PGBEN_REPOSITORY_SECRET_KEY": "secret-canary",
    }


def test_a_repository_that_hangs_is_unknown_in_time(ruin: Ruin, hanging: dict[str, str]) -> None:
    begun = datetime.now(UTC)
    said = ruin.run("check", "--timeout", "1", **hanging)
    assert unknown(said) == "'s3://backups' did not answer within 1 s"
    assert datetime.now(UTC) - begun < timedelta(seconds=20)
    assert "canary" not in said.all


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal_it_is_unknown(
    ruin: Ruin,
    hanging: dict[str, str],
    nobodies: tuple[Nobody, Nobody, Nobody],
    number: signal.Signals,
) -> None:
    site = ruin.site
    process = subprocess.Popen(
        [sys.executable, "-m", "pgben_tasks", "check", "--timeout", "600"],
        env=site.others | site.environment | hanging,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: nobodies[2].was_asked, seconds=60)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, out) == (3, "PGBEN UNKNOWN - it was ended\n")


def test_a_repository_on_s3_is_judged_like_a_folder(
    installation: Installation, ruin: Ruin, repository_s3: EmbeddedS3
) -> None:
    bucket = "checked"
    repository_s3.client().make_bucket(bucket)
    place = {
        "PGBEN_REPOSITORY": f"s3://{bucket}",
        "PGBEN_REPOSITORY_ENDPOINT": repository_s3.endpoint,
        "PGBEN_REPOSITORY_ACCESS_KEY": repository_s3.access_key,
        "PGBEN_REPOSITORY_SECRET_KEY": repository_s3.secret_key,
    }
    store = open_store(Settings.load(ruin.site.environment | place))
    for name in installation.files():
        store.put_file(name, installation.repository / name)
    assert ruin.run("check", **place).code == 0
    store.delete(installation.backups[0].packs[0].path)
    said = ruin.run("check", **place)
    assert (said.code, said.out.startswith("PGBEN CRITICAL - missing files")) == (2, True)


def test_a_damaged_repository_card_is_critical(installation: Installation, ruin: Ruin) -> None:
    (installation.repository / "repository.json").write_text("{", encoding="utf-8")
    said = ruin.run("check")
    assert said.code == 2
    assert said.out.startswith("PGBEN CRITICAL - ")
