"""A catalog that is lost comes back from the repository alone, with the state of every backup."""

from __future__ import annotations

import hashlib
import secrets
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.adapters.catalog.audit import AUDIT_LOCK, AuditTrail
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.index import BackupIndex
from pgben_tasks.adapters.catalog.locks import HeldLocks, target_lock
from pgben_tasks.direct.place import DirectPlace
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.target import BackupId
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.errors import IntegrityError, PermanentError, TargetBusy
from pgben_tasks.operations.toolbox import NoProgress
from pgben_tasks.settings import Settings
from pgben_tasks.setup.catalog_rebuild import Rebuilt, rebuild
from tests.support import samples
from tests.support.fixtures_installation import drop
from tests.support.installation import Installation
from tests.support.ruin import Nobody, Ruin

#: Columns that a rebuilt row shares with the row that was lost.
FACTS = (
    "target, id, sequence, state, suspect, job, started_at, finished_at, snapshot_at,"
    " manifest_sha256, stored_bytes, plain_bytes, row_count, table_count, verified_at"
)
PROBLEM = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = 'damaged' THEN RAISE 'the connection is cut here'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON backup FOR EACH ROW EXECUTE FUNCTION refuse();
"""

WAITING = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@dataclass
class Site:
    """An installation whose catalog is lost, and a name for a new one."""

    installation: Installation
    database: CatalogDatabase
    ruin: Ruin

    @property
    def place(self) -> DirectPlace:
        return DirectPlace(Settings.load(self.ruin.site.environment | self.ruin.signing))

    def rebuild(self, *, dry_run: bool = False) -> Rebuilt:
        return rebuild(self.place, NoProgress(), who="ana@site", dry_run=dry_run)

    def sql(self, statement: str) -> list[dict[str, Any]]:
        with self.database.transaction() as cursor:
            cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def rows(self) -> list[dict[str, Any]]:
        return self.sql(f"SELECT {FACTS} FROM backup ORDER BY id")  # noqa: S608 - constant columns

    def states(self) -> dict[str, str]:
        return {row["id"]: row["state"] for row in self.rows()}

    @property
    def trail(self) -> AuditTrail:
        repository = self.installation.tools.repository
        return AuditTrail(self.database, repository.id, repository.audit)

    def audit(self, *details: str) -> None:
        """Write entries to the trail and store them."""
        for detail in details:
            self.trail.append(
                who="ana", action="backup", target="postgres/x", result="began", detail=detail
            )
        self.trail.store_missing()

    def audit_rows(self) -> list[dict[str, Any]]:
        return self.sql("SELECT * FROM audit ORDER BY sequence")

    def lose_catalog(self) -> None:
        drop(self.database.server, self.database.name)

    def store(self, sequence: int, **fields: Any) -> Manifest:
        """Commit a further backup of one small pack, without verifying it."""
        taken = samples.START + timedelta(days=sequence)
        backup = BackupId.make(taken, f"{sequence:06x}")
        target = self.installation.target
        pack = samples.pack(path=f"packs/{target}/{backup}/1.tar.age")
        self.installation.store.put(pack.path, b"sealed")
        manifest = samples.manifest(
            repository=self.installation.tools.repository.id,
            target=str(target),
            backup=str(backup),
            sequence=sequence,
            packs=(pack,),
            started=taken,
            finished=taken,
            **fields,
        )
        self.installation.tools.repository.commit(manifest)
        return manifest

    def say(self, kind: str, manifest: Manifest) -> None:
        """Sign a statement about a backup."""
        self.installation.tools.repository.record(
            samples.verification(
                repository=manifest.repository,
                target=manifest.target,
                backup=manifest.backup,
                id=f"20261201T000000Z-{secrets.token_hex(3)}",
                kind=kind,
                opened=kind == "full",
                manifest=hashlib.sha256(manifest.encode()).hexdigest(),
            )
        )


@pytest.fixture
def site(installation: Installation, tmp_path: Path) -> Iterator[Site]:
    name = f"rebuilt_{secrets.token_hex(6)}"
    redis, catalog = Nobody(), Nobody()
    with closing(redis), closing(catalog):
        ruin = Ruin(installation.shop, tmp_path, redis, catalog)
        url = installation.shop.server.url(name)
        ruin.site.environment["PGBEN_CATALOG_URL"] = url
        database = CatalogDatabase.at(url)
        yield Site(installation, database, ruin)
        drop(database.server, name)


def test_the_rows_of_the_lost_index_come_back(site: Site) -> None:
    done = site.rebuild()

    assert [one.split(" ")[0] for one in done.made] == ["catalog", "tables"]
    with site.installation.shop.work.database.transaction() as cursor:
        lost = cursor.execute(
            f"SELECT {FACTS} FROM backup WHERE target = %s ORDER BY id",  # noqa: S608 - constant columns
            (str(site.installation.target),),
        ).fetchall()
    assert site.rows() == lost
    (target,) = done.targets
    assert (target.index.states, target.added, target.changed) == ({"verified": 2}, 2, 0)
    assert target.sequence == 2


def test_every_state_comes_back(site: Site) -> None:
    damaged, verified = site.installation.backups
    pack = site.installation.pack_files(damaged)[0]
    pack.write_bytes(pack.read_bytes()[:-1])
    with pytest.raises(IntegrityError):
        site.installation.shop.verify(level="full")
    unverified = site.store(3)
    forged = site.store(4)
    path = site.installation.manifest_file(forged)
    path.write_bytes(path.read_bytes().replace(b'"rows":3', b'"rows":4'))
    suspect, acknowledged = site.store(5, suspect="40 % less"), site.store(6, suspect="50 % less")
    for one in (suspect, acknowledged):
        site.say("full", one)
    site.say("acknowledgement", acknowledged)
    lost, pruned = site.store(7), site.store(8)
    site.say("full", lost)
    site.say("prune", pruned)
    for gone in (lost, pruned):
        site.installation.tools.repository.remove_manifest(gone.target_name, gone.backup_id)

    (target,) = site.rebuild().targets

    assert site.states() == {
        damaged.backup: "damaged",
        verified.backup: "verified",
        unverified.backup: "unverified",
        forged.backup: "damaged",
        suspect.backup: "verified",
        acknowledged.backup: "verified",
        lost.backup: "missing",
        pruned.backup: "expired",
    }
    flags = {
        row["id"]: (row["suspect"], row["acknowledged"])
        for row in site.sql("SELECT id, suspect, acknowledged FROM backup")
    }
    assert flags[suspect.backup] == ("40 % less", False)
    assert flags[acknowledged.backup] == ("50 % less", True)
    assert flags[verified.backup] == (None, False)
    assert target.index.suspects == 1
    # Two numbers are unknown and may have been the highest.
    assert target.sequence == 8


def test_running_it_again_changes_nothing(site: Site) -> None:
    site.store(3)
    site.rebuild()
    before = site.rows()
    again = site.rebuild()
    assert again.made == ()
    assert [(one.added, one.changed) for one in again.targets] == [(0, 0)]
    assert site.rows() == before


def test_a_wrong_index_is_put_right_and_says_what_became_of_its_rows(site: Site) -> None:
    first, second = site.installation.backups
    third = site.store(3)
    site.rebuild()
    site.say("prune", third)
    for gone in (first, third):
        site.installation.tools.repository.remove_manifest(gone.target_name, gone.backup_id)
    site.sql(f"UPDATE backup SET state = 'damaged', row_count = 0 WHERE id = '{second.backup}'")  # noqa: S608

    (target,) = site.rebuild().targets

    assert (target.added, target.changed) == (0, 3)
    assert site.states() == {
        first.backup: "missing",
        second.backup: "verified",
        third.backup: "expired",
    }
    rows = {row["id"]: row for row in site.rows()}
    assert rows[second.backup]["row_count"] == second.database.rows
    # What was known of one that is gone is kept.
    assert rows[first.backup]["sequence"] == 1


def test_a_rebuild_that_is_cut_off_leaves_the_old_index(site: Site) -> None:
    site.rebuild()
    before, audited = site.rows(), site.audit_rows()
    forged = site.store(3)
    site.store(4)
    site.installation.manifest_file(forged).write_bytes(b"{}")
    site.sql(PROBLEM)
    with pytest.raises(PermanentError, match="cut here"):
        site.rebuild()
    assert site.rows() == before
    assert site.audit_rows() == audited


def test_ctrl_c_in_mid_write_leaves_the_old_index_and_says_what_that_means(site: Site) -> None:
    site.rebuild()
    before, audited = site.rows(), site.audit_rows()
    site.store(3)
    with site.database.transaction() as blocking, site.database.session() as watching:
        # Whoever writes the trail waits for this, with the index written and not committed.
        blocking.execute("SELECT pg_advisory_xact_lock(%s)", (AUDIT_LOCK,))
        with site.ruin.site.start("catalog", "rebuild") as process:
            assert wait_until(lambda: watching.execute(WAITING).fetchone() is not None, seconds=40)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=40)
    assert process.returncode == 130, err
    assert "written whole or not at all" in err
    assert (site.rows(), site.audit_rows()) == (before, audited)


def test_numbers_never_go_back(site: Site) -> None:
    site.rebuild()
    site.sql("UPDATE backup_sequence SET last = 50")
    (target,) = site.rebuild().targets
    assert target.sequence == 50


def test_the_next_backup_gets_the_next_number(site: Site) -> None:
    site.rebuild()
    repository = site.installation.tools.repository
    tools = replace(
        site.installation.tools,
        clock=site.database,
        index=BackupIndex(site.database, repository.id),
    )
    job = site.installation.chain("backup", tools=tools).rest()
    assert site.installation.manifest(job.backup or "").sequence == 3
    assert site.states()[job.backup or ""] == "verified"


def test_it_waits_for_nobody_and_refuses_while_a_step_reads_or_writes(site: Site) -> None:
    site.rebuild()
    site.store(3)
    before = site.rows()
    for lock in ("read", "write"):
        target = str(site.installation.target)
        held = HeldLocks(site.database, [target_lock(lock, target, shared=True)])
        with pytest.raises(TargetBusy, match="is at work"):
            site.rebuild()
        assert [one.added for one in site.rebuild(dry_run=True).targets] == [1]
        held.release()
    assert site.rows() == before
    assert [one.added for one in site.rebuild().targets] == [1]


def test_a_dry_run_makes_and_changes_nothing(site: Site) -> None:
    planned = site.rebuild(dry_run=True)
    assert planned.made
    assert [one.added for one in planned.targets] == [2]
    assert not site.database.exists()

    site.rebuild()
    site.sql("UPDATE backup SET state = 'damaged'")
    planned = site.rebuild(dry_run=True)
    assert [(one.added, one.changed) for one in planned.targets] == [(0, 2)]
    assert set(site.states().values()) == {"damaged"}
    assert len(site.audit_rows()) == 1


def test_a_manifest_that_is_brought_back_fills_its_row(site: Site) -> None:
    third = site.store(3)
    path = site.installation.manifest_file(third)
    whole = path.read_bytes()
    path.write_bytes(b"{}")
    site.rebuild()
    index = BackupIndex(site.database, site.installation.tools.repository.id)
    unknown = next(one for one in index.backups() if one.id == third.backup)
    assert (unknown.state, unknown.sequence, unknown.row_count) == ("damaged", None, None)

    path.write_bytes(whole)
    index.add(third, hashlib.sha256(whole).hexdigest(), state="unverified")
    known = next(one for one in index.backups() if one.id == third.backup)
    assert (known.sequence, known.row_count) == (3, third.database.rows)


def test_the_trail_is_taken_up_and_goes_on_with_the_next_number(site: Site) -> None:
    site.rebuild()
    site.audit("one", "two", "three")
    lost = site.audit_rows()
    site.lose_catalog()

    done = site.rebuild()

    assert (done.taken.taken, done.taken.put_behind, done.breaks) == (4, 0, ())
    rows = site.audit_rows()
    assert rows[:4] == lost
    assert (rows[4]["sequence"], rows[4]["previous"]) == (5, lost[3]["sha256"])
    assert (rows[4]["who"], rows[4]["action"]) == ("ana@site", "catalog rebuild")
    assert not rows[4]["stored"]
    site.audit("later")
    site.lose_catalog()
    assert site.rebuild().breaks == ()
    assert [row["sequence"] for row in site.audit_rows()] == [1, 2, 3, 4, 5, 6, 7]


def test_entries_that_a_new_catalog_wrote_too_early_go_behind_the_old_ones(site: Site) -> None:
    site.rebuild()
    site.audit("one", "two")
    site.lose_catalog()
    site.database.create()
    site.database.migrate()
    # Nobody can store these: their numbers are taken.
    for detail in ("early one", "early two"):
        site.trail.append(
            who="bia", action="backup", target="postgres/x", result="began", detail=detail
        )

    done = site.rebuild()

    assert (done.taken.taken, done.taken.put_behind, done.breaks) == (3, 2, ())
    site.trail.store_missing()
    details = [row["detail"] for row in site.audit_rows()]
    assert details == [*details[:1], "one", "two", "early one", "early two", *details[5:]]
    site.lose_catalog()
    assert site.rebuild().breaks == ()


def test_a_broken_trail_is_told_loudly_and_still_goes_on(site: Site) -> None:
    site.rebuild()
    site.audit("one", "two", "three", "four")
    taken_out = next(site.installation.repository.glob("audit/*/*/3.json"))
    changed = next(site.installation.repository.glob("audit/*/*/4.json"))
    taken_out.unlink()
    changed.write_bytes(changed.read_bytes().replace(b"three", b"THREE"))
    site.lose_catalog()

    done = site.rebuild()

    assert sorted((one.kind, one.path.rpartition("/")[2]) for one in done.breaks) == [
        ("forged", "4.json"),
        ("missing", "5.json"),
    ]
    last = site.audit_rows()[-1]
    assert (last["sequence"], last["result"]) == (6, "broken trail")
    assert "4.json" in last["detail"]
    assert site.trail.store_missing() == 1


def test_what_the_catalog_stored_and_the_repository_lost_is_told(site: Site) -> None:
    site.rebuild()
    site.audit("one", "two")
    before = site.audit_rows()
    next(site.installation.repository.glob("audit/*/*/3.json")).unlink()

    done = site.rebuild()

    (finding,) = done.breaks
    assert (finding.kind, finding.path.rpartition("/")[2]) == ("missing", "3.json")
    assert site.audit_rows()[:3] == before


def test_the_command_shows_what_it_did_and_its_exit_code(site: Site) -> None:
    first = site.ruin.run("catalog", "rebuild", "--json")
    assert first.code == 0, first.err
    (target,) = first.json["targets"]
    assert target["target"] == str(site.installation.target)
    assert target["states"] == {"verified": 2}
    assert first.json["audit"]["findings"] == []
    recipients = ",".join(site.installation.shop.keys.recipients.values())
    listed = site.ruin.run("list", "--json", PGBEN_AGE_RECIPIENTS=recipients)
    assert {one["state"] for one in listed.json["backups"]} == {"verified"}

    site.audit("one", "two")
    next(site.installation.repository.glob("audit/*/*/2.json")).unlink()
    site.lose_catalog()
    broken = site.ruin.run("catalog", "rebuild")
    assert broken.code == 5
    assert "error: the audit trail is broken in 1 place" in broken.err
    assert "catalog database" in broken.out
    assert "verified" in broken.out
    planned = site.ruin.run("catalog", "rebuild", "--dry-run")
    assert "would hold" in planned.out


def test_a_rebuild_without_a_server_says_so(site: Site) -> None:
    away = {"PGBEN_CATALOG_URL": "postgresql://postgres:x@127.0.0.1:1/none"}
    for line in (("catalog", "rebuild"), ("catalog", "rebuild", "--dry-run")):
        said = site.ruin.run(*line, "--json", **away)
        assert said.code == 75
        assert said.json["error"]["type"] == "DatabaseUnavailable"
