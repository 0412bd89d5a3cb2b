"""A restore beside: every row comes back, and whatever fails, nothing else was touched."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pgben_tasks.domain.alarm import NO_ALARM
from pgben_tasks.domain.swap import marker, restored_name
from pgben_tasks.errors import (
    BackupNotFound,
    ConfigurationError,
    DigestMismatch,
    FenceLost,
    IntegrityError,
    ObjectMissing,
    PermanentError,
    RestoreRefused,
    RowCountMismatch,
    SpoolFull,
)
from pgben_tasks.operations.toolbox import Toolbox
from tests.support.archive import SetClock
from tests.support.installation import Chain, Crash, Installation
from tests.support.samples import START


def marked(installation: Installation, name: str) -> str | None:
    """Return the comment of a database."""
    ((comment,),) = installation.run_sql(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", name
    )
    return comment  # type: ignore[no-any-return]  # a row of a test's query


def connections(installation: Installation, name: str) -> int:
    """Return the connection limit of a database."""
    ((limit,),) = installation.run_sql(
        "SELECT datconnlimit FROM pg_database WHERE datname = %s", name
    )
    return int(limit)


def into(chain: Chain) -> str:
    return str(chain.job.context["into"])


class Otherwise:
    """A destination that is the real one but for one method."""

    def __init__(self, real: Any, **methods: Any) -> None:
        self._real = real
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        return self._methods.get(name) or getattr(self._real, name)


def real(installation: Installation) -> Any:
    return installation.tools.destinations[installation.target]


def otherwise(installation: Installation, **methods: Any) -> Toolbox:
    destination = Otherwise(real(installation), **methods)
    return replace(
        installation.tools,
        destinations={installation.target: destination},
    )


# What comes back


def test_every_row_comes_back_beside_the_original(installation: Installation) -> None:
    before = installation.databases()
    chain = installation.restore()
    job = chain.rest()
    name = into(chain)
    assert (job.state, job.result["state"], job.result["database"]) == (
        "succeeded",
        "restored",
        name,
    )
    assert (job.result["tables_compared"], job.result["rows_compared"]) == (4, 850)
    assert job.result["backup"] == installation.backups[1].backup
    assert installation.databases() == before | {name}
    for table in ("cidadao", "pedido", "pagamento", "vazia"):
        query = f"SELECT * FROM {table} ORDER BY id"  # noqa: S608 - names of this test
        assert installation.run_sql(query, database=name) == installation.run_sql(query)
    assert marked(installation, name) is None
    assert not chain.folder.exists()


def test_an_older_backup_is_restored_by_its_id_and_by_its_moment(
    installation: Installation,
) -> None:
    first, second = installation.backups
    by_id = installation.restore(backup=first.backup)
    by_id.step()
    assert by_id.job.backup == first.backup
    between = second.database.snapshot_time - timedelta(microseconds=1)
    for at, expected in ((between, first), (second.database.snapshot_time, second)):
        chain = installation.restore(at=at)
        assert chain.step().result["backup"] == expected.backup


def test_a_moment_in_the_future_or_before_the_first_backup_is_refused(
    installation: Installation,
) -> None:
    soon = installation.tools.clock.now() + timedelta(minutes=1)
    local = soon.astimezone(ZoneInfo("America/Fortaleza"))
    with pytest.raises(RestoreRefused, match=f"{local:%Y-%m-%dT%H:%M:%S}-03:00 has not come yet"):
        installation.restore(at=local).step()
    with pytest.raises(RestoreRefused, match=f"{soon:%Y-%m-%dT%H:%M:%S}Z has not come yet"):
        installation.restore(at=soon).step()
    # By the clock of the catalog, whatever that of this machine shows.
    behind = replace(installation.tools, clock=SetClock(soon - timedelta(hours=1)))
    with pytest.raises(RestoreRefused, match="has not come yet"):
        installation.restore(at=soon - timedelta(minutes=2), tools=behind).step()
    first = installation.backups[0].database.snapshot_time
    with pytest.raises(RestoreRefused, match="the first backup of .* is from") as caught:
        installation.restore(at=first - timedelta(days=1)).step()
    assert "pgben list" in caught.value.hint


def test_the_new_database_is_closed_until_it_is_proven(installation: Installation) -> None:
    chain = installation.restore().until("check")
    name = into(chain)
    assert marked(installation, name) == marker(chain.ref.job)
    assert connections(installation, name) == 0
    chain.rest()
    assert connections(installation, name) == -1


def test_the_default_name_fits_and_says_what_it_is() -> None:
    assert restored_name("pgben", START) == "pgben_restored_20261123_050000"
    long = restored_name("x" * 63, START)
    assert len(long) == 63
    assert long.endswith("_restored_20261123_050000")


# What is refused before anything is made


def test_a_name_that_is_taken_is_refused(installation: Installation) -> None:
    for taken in (installation.target.name, "postgres"):
        before = installation.databases()
        chain = installation.chain("restore", into=taken)
        with pytest.raises(RestoreRefused, match=f"already a database '{taken}'"):
            chain.step()
        assert installation.databases() == before
    ((rows,),) = installation.run_sql("SELECT count(*) FROM pedido")
    assert rows == 400


def test_a_name_that_was_taken_meanwhile_is_left_alone(installation: Installation) -> None:
    chain = installation.restore().until("load")
    name = into(chain)
    installation.run_sql(f"CREATE DATABASE {name}", database="postgres")
    installation.run_sql("CREATE TABLE minha AS SELECT 1 AS id", database=name)
    with pytest.raises(RestoreRefused, match="already a database") as caught:
        chain.step()
    # The request was right when it was made, so this is no typing error, and worth an alarm.
    assert type(caught.value).__name__ not in NO_ALARM
    assert installation.run_sql("SELECT id FROM minha", database=name) == [(1,)]


def test_an_unverified_backup_is_restored_only_when_that_is_said(
    installation: Installation,
) -> None:
    chain = installation.chain("backup").until("record")
    backup = chain.job.backup or ""
    with pytest.raises(RestoreRefused, match="never verified"):
        installation.restore(backup=backup).step()
    latest = installation.restore()
    assert latest.step().result["backup"] == installation.backups[1].backup
    said = installation.restore(backup=backup, allow_unverified=True)
    assert said.step().result["note"] == "it was never verified"
    assert said.rest().state == "succeeded"


def test_a_backup_that_cannot_be_believed_is_refused_and_passed_over(
    installation: Installation,
) -> None:
    second = installation.backups[1]
    path = installation.manifest_file(second)
    path.write_bytes(second.model_copy(update={"job": "other"}).encode())
    with pytest.raises(RestoreRefused, match="cannot be believed") as caught:
        installation.restore(backup=second.backup).step()
    assert "pgben verify" in caught.value.hint
    latest = installation.restore().step().result
    assert latest["backup"] == installation.backups[0].backup
    assert f"cannot be believed: {second.backup}" in latest["note"]


def test_a_backup_of_another_target_is_named_as_one(installation: Installation) -> None:
    """Its id is looked for in all targets; a folder that was moved is not believed."""
    other = "postgres/outra"
    first, second = (installation.manifest_file(one).parent for one in installation.backups)
    elsewhere = installation.repository / "backups" / other / second.name
    shutil.copytree(second, elsewhere)
    shutil.rmtree(second)
    with pytest.raises(BackupNotFound) as caught:
        installation.restore(backup=second.name).step()
    assert caught.value.sentence == (
        f"backup '{second.name}' is one of '{other}', not of '{installation.target}'"
    )
    assert other in caught.value.hint
    shutil.move(first, elsewhere.with_name(first.name))
    shutil.copytree(elsewhere.with_name(first.name), second)
    with pytest.raises(RestoreRefused, match="cannot be believed.*was moved here"):
        installation.restore(backup=second.name).step()
    with pytest.raises(BackupNotFound, match="no verified backup; 1 cannot be believed, .*moved"):
        installation.restore().step()


def test_a_worker_without_the_identity_says_so_before_anything_is_made(
    installation: Installation,
) -> None:
    class Blind(Otherwise):
        def can_open(self, _: object) -> bool:
            return False

    def refuse(*_: Any, **__: Any) -> None:
        raise ConfigurationError("no identity is at hand", "set PGBEN_AGE_IDENTITY_FILE")

    codec = Blind(installation.tools.codec, open=refuse)
    tools = replace(installation.tools, codec=codec)
    before = installation.databases()
    chain = installation.restore(tools=tools)
    with pytest.raises(ConfigurationError, match="no identity"):
        chain.rest()
    assert installation.databases() == before
    assert not chain.folder.exists()


def test_a_spool_without_room_is_a_sentence(installation: Installation) -> None:
    limits = replace(installation.tools.limits, spool_limit=1000)
    chain = installation.restore(tools=replace(installation.tools, limits=limits))
    chain.step()
    with pytest.raises(SpoolFull, match="the restore needs about"):
        chain.step()
    assert not chain.folder.exists()


# What fails on the way


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_pack_that_went_bad_after_the_selection_stops_the_restore(
    installation: Installation, damage: str
) -> None:
    chain = installation.restore().until("fetch")
    path = installation.pack_files(installation.backups[1])[1]
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.unlink()
    if damage == "flipped":
        path.write_bytes(data)
    before = installation.databases()
    with pytest.raises(PermanentError) as caught:
        chain.step()
    assert damage == "missing" or isinstance(caught.value, IntegrityError)
    assert path.name in caught.value.sentence
    assert installation.databases() == before
    assert not chain.folder.exists()


def test_a_load_that_fails_removes_the_new_database_and_only_it(
    installation: Installation,
) -> None:
    other = installation.free_name()
    installation.run_sql(f"CREATE DATABASE {other}", database="postgres")
    chain = installation.restore().until("load")
    before = installation.databases()
    (chain.folder / "dump" / "toc.dat").write_bytes(b"no table of contents")
    with pytest.raises(PermanentError):
        chain.step()
    assert installation.databases() == before
    assert chain.job.state == "failed"
    assert not chain.folder.exists()


def test_a_copy_that_differs_is_removed_and_only_it(installation: Installation) -> None:
    def one_row_short(name: str, **_: Any) -> Any:
        counted = real(installation).count(name)
        return (counted[0].model_copy(update={"rows": counted[0].rows - 1}), *counted[1:])

    before = installation.databases()
    chain = installation.restore(tools=otherwise(installation, count=one_row_short)).until("check")
    assert installation.databases() == before | {into(chain)}
    with pytest.raises(RowCountMismatch, match="'public.cidadao': 399 instead of 400 rows"):
        chain.step()
    assert installation.databases() == before


@pytest.mark.parametrize("step", ["load", "check", "finish"])
def test_rows_that_vanish_from_the_copy_are_noticed(installation: Installation, step: str) -> None:
    # Truly deleted, in the new database, before the rows are compared.
    chain = installation.restore().until("check")
    name = into(chain)
    if step == "load":
        installation.run_sql("DROP TABLE pagamento", database=name)
        expected = "'public.pagamento': no such table instead of 50 rows"
    elif step == "check":
        installation.run_sql("DELETE FROM pagamento WHERE id = 7", database=name)
        expected = "'public.pagamento': 49 instead of 50 rows"
    else:
        installation.run_sql("CREATE TABLE mais AS SELECT 1 AS id", database=name)
        expected = "'public.mais': 1 instead of no such table rows"
    with pytest.raises(RowCountMismatch, match=expected):
        chain.step()
    assert name not in installation.databases()


def test_a_finish_that_fails_removes_the_new_database(installation: Installation) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise PermanentError("a setting was refused")

    chain = installation.restore(tools=otherwise(installation, finish=fail)).until("finish")
    with pytest.raises(PermanentError, match="setting was refused"):
        chain.step()
    assert into(chain) not in installation.databases()


def test_a_lost_fence_makes_no_database(installation: Installation) -> None:
    chain = installation.restore().until("load")

    def lost() -> None:
        with installation.shop.work.database.transaction() as cursor:
            cursor.execute("UPDATE job SET fence = fence + 1 WHERE id = %s", (chain.ref.job,))

    chain.row.before_hold = lost
    before = installation.databases()
    with pytest.raises(FenceLost):
        chain.step(keep_on=FenceLost)
    assert installation.databases() == before


# Crashes


def test_a_load_that_crashed_begins_again_in_the_same_name(installation: Installation) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise Crash

    tools = otherwise(installation, load=die)
    chain = installation.restore(tools=tools).until("load")
    with pytest.raises(Crash):
        chain.step()
    name = into(chain)
    assert marked(installation, name) == marker(chain.ref.job)
    chain.tools = installation.tools
    assert chain.rest().state == "succeeded"
    assert installation.run_sql("SELECT count(*) FROM pedido", database=name) == [(400,)]


def test_a_finish_that_crashed_after_its_work_is_finished_again(
    installation: Installation,
) -> None:
    def finish_and_die(*arguments: Any, **named: Any) -> None:
        real(installation).finish(*arguments, **named)
        raise Crash

    chain = installation.restore(tools=otherwise(installation, finish=finish_and_die))
    chain.until("finish")
    with pytest.raises(Crash):
        chain.step()
    chain.tools = installation.tools
    assert chain.rest().result["state"] == "restored"
    assert into(chain) in installation.databases()


def test_a_new_attempt_removes_what_the_dead_one_left(installation: Installation) -> None:
    chain = installation.restore().until("check")
    name = into(chain)
    # The node died; the job begins again on another, from its first step.
    with installation.shop.work.database.transaction() as cursor:
        cursor.execute(
            "UPDATE job SET fence = fence + 1, step = 'pgben.restore.postgres.select'"
            " WHERE id = %s",
            (chain.ref.job,),
        )
    chain.ref = chain.ref.model_copy(update={"fence": chain.ref.fence + 1})
    assert name in installation.databases()
    assert chain.step().state == "waiting"
    assert name not in installation.databases()
    assert chain.rest().state == "succeeded"


def test_what_the_dump_folder_held_is_gone_after_every_end(
    installation: Installation, tmp_path: Path
) -> None:
    installation.restore().rest()
    left = [path for path in (installation.tools.spool / "jobs").iterdir() if path.is_dir()]
    assert left == []


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_damage_that_a_restore_meets_is_recorded_and_not_chosen_again(
    installation: Installation, damage: str
) -> None:
    first, second = installation.backups
    pack = installation.pack_files(second)[0]
    if damage == "flip":
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.write_bytes(data)
    else:
        pack.unlink()
    assert installation.state(second.backup) == "verified"
    with pytest.raises((DigestMismatch, ObjectMissing)):
        installation.restore().rest()
    assert installation.state(second.backup) == "damaged"
    assert installation.restore().step().result["backup"] == first.backup
