"""The nightly chain, step by step: what it leaves, and what a crash at any point leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pgben_tasks import runtime
from pgben_tasks.adapters.history import HistoryFolder
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import (
    BackupNotFound,
    ConfigurationError,
    FenceLost,
    IntegrityError,
    PermanentError,
    SpoolFull,
    StoreUnavailable,
)
from pgben_tasks.operations.history import write_history
from tests.support.installation import FILL_PEDIDO, Crash, Installation, only
from tests.support.samples import sha256

# What a good night leaves


def test_every_step_leaves_its_numbers(installation: Installation) -> None:
    chain = installation.chain("backup")
    dumped = chain.step()
    assert dumped.result["rows"] == 850
    assert dumped.result["tables"] == 4
    assert dumped.result["dump_bytes"] > 20_000
    assert str(BackupId.parse(dumped.backup or "")) == dumped.backup
    checked = chain.step()
    assert checked.result["files"] == len(list((chain.folder / "dump").iterdir()))
    assert checked.result["suspect"] is None
    stored = chain.step()
    assert stored.result["sequence"] == 3
    assert stored.result["packs"] >= 3
    assert installation.state(stored.backup or "") == "stored"
    pruned = chain.step()
    assert pruned.result["prune"]["expired"] == []
    assert pruned.result["prune"]["refused"] is None
    ended = chain.step()
    assert (ended.state, ended.result["state"]) == ("succeeded", "verified")
    assert ended.result["bytes_read_back"] == ended.result["stored_bytes"]
    assert not chain.folder.exists()
    assert installation.state(ended.backup or "") == "verified"


def test_the_manifest_describes_what_is_stored(installation: Installation) -> None:
    first, second = installation.backups
    third = installation.backup()
    assert [one.sequence for one in (first, second, third)] == [1, 2, 3]
    assert third.previous == sha256(installation.manifest_file(second).read_bytes())
    assert first.previous is None
    assert third.repository == installation.tools.repository.id
    assert third.started <= third.database.snapshot_time <= third.finished
    counts = {table.table: table.rows for table in third.database.tables}
    assert counts == {"cidadao": 400, "pedido": 400, "pagamento": 50, "vazia": 0}
    assert third.database.database == installation.target.name
    assert third.tools["pg_dump"]
    assert set(third.recipients) == set(installation.tools.codec.recipients)
    assert len(third.recipients) == 2
    assert {"toc.dat", "globals.sql"} < {member.name for member in third.members}
    for pack in third.packs:
        stored = (installation.repository / pack.path).read_bytes()
        assert (len(stored), sha256(stored)) == (pack.size, pack.sha256)
    assert b"Concei" not in b"".join(installation.files(below="packs").values())


def test_the_history_shows_the_backup(installation: Installation, tmp_path: Path) -> None:
    ended = installation.chain("backup").rest()
    stored = installation.manifest(ended.backup or "").stored_bytes
    work = installation.shop.work
    write_history(
        work.history, [("postgres", HistoryFolder(tmp_path))], zone=work.zone, node="workshop"
    )
    line = (tmp_path / "backup-log.txt").read_text(encoding="utf-8").splitlines()[-1]
    assert f"backup of '{installation.target}' verified: 850 rows, {stored} bytes in" in line
    row = (tmp_path / "backup-history.csv").read_text(encoding="utf-8").splitlines()[-1]
    assert row.split(",")[1:4] == [
        "verified",
        f"{installation.target}/{ended.backup}",
        str(stored),
    ]


# Suspicion


def test_an_emptied_table_makes_the_next_backup_suspect(installation: Installation) -> None:
    installation.run_sql("DELETE FROM pedido")
    try:
        chain = installation.chain("backup")
        ended = chain.rest()
        manifest = installation.manifest(ended.backup or "")
        assert manifest.suspect is not None
        assert "rows shrank from 850 to 450" in manifest.suspect
        assert ended.result["state"] == "verified"
        # Its bytes are good, and still it is never the one that a restore takes by itself …
        latest = installation.restore()
        latest.step()
        assert latest.job.result["backup"] == installation.backups[1].backup
        # … and nothing is pruned beside it until somebody has looked.
        pruned = installation.chain("prune", dry_run=True).rest()
        assert "suspect" in pruned.result["prune"]["refused"]
        # Asked for by its id it is restored, with a word of warning.
        by_id = installation.restore(backup=manifest.backup)
        by_id.step()
        assert "it is suspect" in by_id.job.result["note"]
        # The next one is compared with the last good backup, not with the suspect one.
        again = installation.chain("backup").until("upload").job
        assert "rows shrank from 850 to 450" in again.result["suspect"]
    finally:
        installation.run_sql(FILL_PEDIDO)


def test_a_grown_database_is_not_suspect(installation: Installation) -> None:
    installation.run_sql("CREATE TABLE nova AS SELECT generate_series(1, 3000) AS id")
    try:
        assert installation.backup().suspect is None
    finally:
        installation.run_sql("DROP TABLE nova")


# Crashes of the upload


def crash_before(number: int, prefix: str) -> Callable[[str], None]:
    """Crash before the ``number``-th write below ``prefix``."""
    seen: list[str] = []

    def check(key: str) -> None:
        if key.startswith(prefix):
            seen.append(key)
            if len(seen) == number:
                raise Crash(key)

    return check


CRASHES: dict[str, Callable[[Installation], None]] = {
    "before the first pack": lambda one: setattr(one.store, "before", crash_before(1, "packs/")),
    "between the packs": lambda one: setattr(one.store, "after", crash_before(2, "packs/")),
    "before the signature": lambda one: setattr(one.store, "before", crash_before(1, "backups/")),
    "before the manifest": lambda one: setattr(one.store, "before", crash_before(2, "backups/")),
    "after the manifest": lambda one: setattr(one.store, "after", crash_before(2, "backups/")),
}


def sealed(folder: Path) -> dict[str, str]:
    """Return the digests of the packs that lie ready in the spool."""
    return {
        path.name: sha256(path.read_bytes())
        for path in folder.glob("packs/*.age")
        if path.with_name(path.name + ".json").exists()
    }


@pytest.mark.parametrize("point", CRASHES)
def test_an_upload_that_crashed_goes_on_with_the_same_bytes(
    installation: Installation, point: str
) -> None:
    chain = installation.chain("backup").until("upload")
    CRASHES[point](installation)
    with pytest.raises(Crash):
        chain.step()
    installation.store.before = installation.store.after = lambda _key: None
    was_there = installation.files(below="packs")
    ready = sealed(chain.folder)
    committed = len(installation.tools.repository.backups(installation.target)) == 3
    assert committed == (point == "after the manifest")
    ended = chain.rest()
    manifest = installation.manifest(ended.backup or "")
    assert ended.result["state"] == "verified"
    assert manifest.sequence == 3
    now = installation.files(below="packs")
    assert {path: now[path] for path in was_there} == was_there
    by_name = {pack.path.rpartition("/")[2]: pack.sha256 for pack in manifest.packs}
    assert ready.items() <= by_name.items()
    ours = [key for key in now if manifest.backup in key]
    assert sorted(ours) == sorted(pack.path for pack in manifest.packs)
    assert len(installation.tools.repository.backups(installation.target)) == 3
    assert installation.shop.work.index.backups(installation.target)[0].id == manifest.backup


def test_a_crash_after_the_commit_commits_once(installation: Installation) -> None:
    chain = installation.chain("backup").until("upload")
    before = installation.files()
    manifest_written: list[bytes] = []

    def die_in_the_ledger() -> None:
        manifest_written.append((chain.folder / "manifest.json").read_bytes())

    chain.row.before_hold = die_in_the_ledger
    job = chain.step()
    backups = installation.files(below="backups")
    # The step's end was lost: the ledger is put back, the message comes again.
    with installation.shop.work.database.transaction() as cursor:
        cursor.execute(
            "UPDATE job SET state = 'running', step = 'pgben.backup.postgres.upload' WHERE id = %s",
            (job.id,),
        )
    chain.step()
    assert installation.files(below="backups") == backups
    assert len(set(manifest_written)) == 1
    assert len(manifest_written) == 2
    assert len(installation.files()) > len(before)
    assert chain.rest().result["state"] == "verified"


def test_what_fails_in_the_middle_of_an_upload_leaves_no_backup(installation: Installation) -> None:
    chain = installation.chain("backup").until("upload")

    def fail(key: str) -> None:
        raise PermanentError(f"'{key}' is not taken: the volume is full")

    installation.store.before = fail
    with pytest.raises(PermanentError, match="volume is full"):
        chain.step()
    assert chain.job.state == "failed"
    assert not chain.folder.exists()
    assert len(installation.tools.repository.backups(installation.target)) == 2


def test_a_store_that_is_away_for_a_moment_costs_no_second_dump(installation: Installation) -> None:
    chain = installation.chain("backup").until("upload")
    failures: list[str] = []

    def flicker(key: str) -> None:
        if not failures:
            failures.append(key)
            raise StoreUnavailable("the store does not answer")

    installation.store.before = flicker
    with pytest.raises(StoreUnavailable):
        chain.step(keep_on=StoreUnavailable)
    assert (chain.folder / "dump" / "toc.dat").exists()
    assert chain.rest().result["state"] == "verified"
    assert chain.job.attempt == 1


def test_a_lost_fence_before_the_commit_leaves_no_manifest(installation: Installation) -> None:
    chain = installation.chain("backup").until("upload")

    def another_takes_over() -> None:
        with installation.shop.work.database.transaction() as cursor:
            cursor.execute("UPDATE job SET fence = fence + 1 WHERE id = %s", (chain.ref.job,))

    chain.row.before_hold = another_takes_over
    with pytest.raises(FenceLost):
        chain.step(keep_on=FenceLost)
    assert len(installation.tools.repository.backups(installation.target)) == 2
    assert not [key for key in installation.store.written if key.startswith("backups/")]


def test_a_pack_that_vanished_before_the_commit_stops_it(installation: Installation) -> None:
    chain = installation.chain("backup").until("upload")

    def remove_one() -> None:
        path = installation.repository / only(
            key for key in installation.store.written if "/1.tar." in key
        )
        path.unlink()

    chain.row.before_hold = remove_one
    with pytest.raises(IntegrityError, match="is not in the repository"):
        chain.step()
    assert len(installation.tools.repository.backups(installation.target)) == 2


def test_a_pack_that_was_damaged_on_its_way_is_found_by_the_read_back(
    installation: Installation,
) -> None:
    chain = installation.chain("backup").until("record")
    backup = installation.manifest(chain.job.backup or "")
    path = installation.pack_files(backup)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="is damaged in the repository"):
        chain.step()
    assert chain.job.state == "failed"
    assert installation.state(backup.backup) == "damaged"
    latest = installation.restore()
    latest.step()
    assert latest.job.result["backup"] == installation.backups[1].backup


# What stops a dump before it begins


@pytest.mark.parametrize("step", ["dump", "checksum", "upload"])
def test_a_spool_that_was_lost_between_two_steps_is_a_sentence(
    installation: Installation, step: str
) -> None:
    chain = installation.chain("backup").until(step)
    for path in sorted(chain.folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    if step == "dump":
        assert chain.rest().state == "succeeded"
        return
    with pytest.raises(PermanentError, match="the spool no longer holds") as caught:
        chain.step()
    assert caught.value.hint


def test_a_spool_limit_is_kept_before_anything_is_dumped(installation: Installation) -> None:
    tools = replace(installation.tools, limits=replace(installation.tools.limits, spool_limit=1000))
    chain = installation.chain("backup", tools=tools)
    with pytest.raises(SpoolFull, match="PGBEN_SPOOL_LIMIT allows 1,000") as caught:
        chain.step()
    assert "PGBEN_SPOOL_LIMIT" in caught.value.hint
    assert chain.job.state == "failed"
    assert not chain.folder.exists()


def test_a_spool_that_is_a_file_is_a_sentence(installation: Installation, tmp_path: Path) -> None:
    place = tmp_path / "spool"
    place.write_text("not a folder")
    for spool in (place, place / "below"):
        tools = replace(installation.tools, spool=spool)
        chain = installation.chain("backup", tools=tools)
        with pytest.raises(ConfigurationError, match="is not a folder") as caught:
            chain.step()
        assert "PGBEN_SPOOL_DIR" in caught.value.hint
    assert place.read_text() == "not a folder"


def test_a_spool_that_may_not_be_written_is_a_sentence(
    installation: Installation, tmp_path: Path
) -> None:
    place = tmp_path / "spool"
    place.mkdir(mode=0o500)
    if _may_write(place):
        pytest.skip("root may write everywhere")
    chain = installation.chain("backup", tools=replace(installation.tools, spool=place))
    with pytest.raises(ConfigurationError, match="cannot be written"):
        chain.step()


def _may_write(folder: Path) -> bool:
    try:
        (folder / "probe").touch()
    except PermissionError:
        return False
    return True


def test_a_database_that_is_gone_is_recorded_as_failed(installation: Installation) -> None:
    other = replace(
        installation.tools,
        sources={installation.target: _source_of(installation, "no_such_database")},
    )
    chain = installation.chain("backup", tools=other)
    with pytest.raises(ConfigurationError, match="no_such_database"):
        chain.step()
    job = chain.job
    assert (job.state, (job.error or {})["type"]) == ("failed", "ConfigurationError")
    assert not chain.folder.exists()


def _source_of(installation: Installation, database: str) -> PostgresSource:
    servers = runtime.postgres_servers(installation.shop.work.settings)
    return PostgresSource(servers[installation.target], database)


def test_results_are_small_json_and_hold_no_secret(installation: Installation) -> None:
    job = installation.chain("backup").rest()
    text = json.dumps([job.result, job.context, job.request])
    assert len(text) < 4000
    assert installation.shop.server.password not in text
    with pytest.raises(BackupNotFound):
        installation.restore(backup="20000101T000000Z-000000").step()


@pytest.mark.parametrize("instead", ["nothing", "another"])
def test_a_repository_that_is_no_longer_there_gets_no_backup(
    installation: Installation, instead: str
) -> None:
    """An unmounted volume looks like an empty folder."""
    before = installation.tools.repository.backups(installation.target)
    chain = installation.chain("backup").until("upload")
    card = installation.repository / "repository.json"
    kept = card.read_bytes()
    card.unlink()
    if instead == "another":
        card.write_bytes(kept.replace(installation.tools.repository.id.encode(), b"another-one"))
    try:
        with pytest.raises(ConfigurationError, match="no repository|is 'another-one' now"):
            chain.step()
        with pytest.raises(ConfigurationError, match="no repository|is 'another-one' now"):
            installation.chain("backup").step()
        with pytest.raises(ConfigurationError, match="no repository|is 'another-one' now"):
            installation.chain("verify").step()
    finally:
        card.write_bytes(kept)
    assert installation.tools.repository.backups(installation.target) == before
