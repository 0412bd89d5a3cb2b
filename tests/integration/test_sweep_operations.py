"""What dead runs left behind leaves when it is old, and nothing else ever does."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import FenceLost, PruneRefused, SweepRefused
from tests.support.installation import Chain, Crash, Installation

DAY = timedelta(days=1)
OLD = 8 * DAY
UNKNOWN = "20261101T050000Z-abcdef"


def age(installation: Installation, by: timedelta, *, below: str = "") -> None:
    """Let every file of the repository grow older."""
    for path in (installation.repository / below).rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - by.total_seconds()
            os.utime(path, (moment, moment))


def sweep(installation: Installation, **request: Any) -> dict[str, Any]:
    chain = installation.chain("sweep", **request)
    return chain.rest().result["sweep"]  # type: ignore[no-any-return]  # JSON


def kill_in_mid_upload(installation: Installation, ending: str) -> Chain:
    """Let a backup's process die right after it stored the first file that ends so."""
    chain = installation.chain("backup").until("upload")

    def die(key: str) -> None:
        if key.endswith(ending):
            raise Crash

    installation.store.after = die
    with pytest.raises(Crash):
        chain.step()
    installation.store.after = lambda _key: None
    return chain


def give_up(installation: Installation, chain: Chain) -> None:
    installation.ledger.fail(chain.ref, state="failed", error={"sentence": "its worker died"})


def put(installation: Installation, key: str, data: bytes = b"left") -> Path:
    installation.store.put(key, data)
    return installation.repository / key


def test_packs_and_signature_of_a_dead_commit_leave_after_seven_days(
    installation: Installation,
) -> None:
    whole = installation.files()
    chain = kill_in_mid_upload(installation, "manifest.json.sig")
    give_up(installation, chain)
    left = set(installation.files()) - set(whole)
    assert len(left) > 3
    young = sweep(installation)
    assert (young["removed"], young["kept"]) == (0, len(left))
    assert {row["reasons"] for row in young["decisions"]} == {"younger than 7 days"}
    age(installation, OLD)
    result = sweep(installation)
    assert (result["removed"], result["kept"], result["skipped"]) == (len(left), 0, None)
    assert {row["path"] for row in result["decisions"]} == left
    assert {row["kind"] for row in result["decisions"]} == {"pack", "signature"}
    assert result["bytes"] > 1000
    assert set(installation.files()) == set(whole)
    assert installation.chain("verify", level="full").rest().result["findings_total"] == 0


def test_what_a_job_still_needs_stays_however_old(installation: Installation) -> None:
    chain = kill_in_mid_upload(installation, "2.tar.age")
    age(installation, 90 * DAY)
    before = installation.files()
    result = sweep(installation)
    assert result["removed"] == 0
    assert {row["reasons"] for row in result["decisions"]} == {"its job has not ended"}
    assert installation.files() == before
    assert chain.rest().result["state"] == "verified"
    assert sweep(installation)["decisions"] == []


def test_packs_of_a_job_that_nobody_knows_leave_too(installation: Installation) -> None:
    path = put(installation, f"packs/{installation.target}/{UNKNOWN}/1.tar.age")
    age(installation, OLD)
    assert sweep(installation)["removed"] == 1
    assert not path.exists()


def test_half_an_upload_leaves(installation: Installation) -> None:
    target = str(installation.target).replace("/", "=")
    workspace = installation.repository / ".unfinished"
    name = f".packs={target}={UNKNOWN}=1.tar.age.0123456789ab.tmp"
    other = f".packs=postgres=other={UNKNOWN}=1.tar.age.0123456789ab.tmp"
    for file in (name, other):
        (workspace / file).write_bytes(b"half")
    assert sweep(installation)["kept"] == 1
    age(installation, OLD, below=".unfinished")
    result = sweep(installation)
    assert [(row["kind"], row["path"]) for row in result["decisions"]] == [
        ("upload", f"packs/{installation.target}/{UNKNOWN}/1.tar.age")
    ]
    assert [path.name for path in workspace.iterdir()] == [other]


def test_a_signature_without_its_statement_leaves(installation: Installation) -> None:
    first = installation.backups[0]
    folder = f"verifications/{first.target}/{first.backup}"
    path = put(installation, f"{folder}/20261123T051000Z-abcdef.json.sig")
    age(installation, OLD)
    before = set(installation.files())
    assert sweep(installation)["removed"] == 1
    assert before - set(installation.files()) == {str(path.relative_to(installation.repository))}


def test_a_document_that_came_meanwhile_keeps_its_signature(installation: Installation) -> None:
    first = installation.backups[0]
    path = installation.manifest_file(first).with_name("manifest.json.sig")
    key = str(path.relative_to(installation.repository))
    installation.tools.repository.remove_signature(key)
    assert path.exists()


def test_a_pack_that_its_own_manifest_does_not_name_leaves(installation: Installation) -> None:
    first = installation.backups[0]
    path = put(installation, f"packs/{first.target}/{first.backup}/99.tar.age")
    age(installation, OLD)
    assert sweep(installation)["removed"] == 1
    assert not path.exists()


def test_packs_of_a_lost_manifest_stay_for_its_return(installation: Installation) -> None:
    first = installation.backups[0]
    manifest = installation.manifest_file(first)
    kept = manifest.read_bytes()
    manifest.unlink()
    age(installation, OLD)
    before = installation.files()
    result = sweep(installation)
    assert result["removed"] == 0
    assert {row["reasons"] for row in result["decisions"]} == {
        "the manifest of its backup was lost"
    }
    assert installation.files() == before
    manifest.write_bytes(kept)
    assert installation.chain("verify", level="full").rest().result["findings_total"] == 0


def test_the_catalog_alone_is_enough_to_know_that_a_backup_was_lost(
    installation: Installation,
) -> None:
    first = installation.backups[0]
    installation.manifest_file(first).unlink()
    for path in (installation.repository / "verifications").rglob(f"{first.backup}/*"):
        path.unlink()
    age(installation, OLD)
    result = sweep(installation)
    assert result["removed"] == 0
    assert result["kept"] > 0


def test_what_a_dead_prune_left_is_finished(installation: Installation) -> None:
    first = installation.backups[0]
    repository = installation.tools.repository
    backup = BackupId.parse(first.backup)
    repository.record(
        repository.verifications(installation.target, backup)[0].model_copy(
            update={
                "kind": "prune",
                "id": "20261123T051000Z-abcdef",
                "packs_checked": 0,
                "bytes_read": 0,
                "opened": False,
                "reasons": ("old",),
            }
        )
    )
    installation.manifest_file(first).unlink()
    age(installation, OLD)
    result = sweep(installation)
    # Its packs, and the signature of the manifest.
    assert result["removed"] == len(first.packs) + 1
    assert not installation.manifest_file(first).with_name("manifest.json.sig").exists()


def test_a_dry_run_says_what_would_leave_and_touches_nothing(installation: Installation) -> None:
    put(installation, f"packs/{installation.target}/{UNKNOWN}/1.tar.age")
    age(installation, OLD)
    before = installation.files()
    result = sweep(installation, dry_run=True)
    assert (result["removed"], result["would_remove"], result["bytes"]) == (0, 1, 4)
    (row,) = result["decisions"]
    assert (row["decision"], row["path"].rpartition("/")[2]) == ("remove", "1.tar.age")
    assert "no manifest names it" in row["reasons"]
    assert installation.files() == before


def test_files_that_pgben_never_makes_are_not_touched(installation: Installation) -> None:
    folder = installation.repository / "packs" / str(installation.target)
    strange = folder / UNKNOWN / "notes.txt"
    strange.parent.mkdir()
    strange.write_bytes(b"somebody's")
    age(installation, 90 * DAY)
    assert sweep(installation)["decisions"] == []
    assert strange.exists()


@pytest.mark.parametrize("damage", ["manifest", "signature", "statement"])
def test_one_document_in_doubt_stops_the_sweep(installation: Installation, damage: str) -> None:
    put(installation, f"packs/{installation.target}/{UNKNOWN}/1.tar.age")
    newest = installation.backups[1]
    manifest = installation.manifest_file(newest)
    statements = installation.repository / f"verifications/{newest.target}/{newest.backup}"
    path = {
        "manifest": manifest,
        "signature": manifest.with_name("manifest.json.sig"),
        "statement": next(statements.glob("*.json")),
    }[damage]
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    age(installation, OLD)
    before = installation.files()
    with pytest.raises(SweepRefused, match=f"'{newest.backup}'.*cannot be believed") as caught:
        sweep(installation)
    assert "pgben verify" in caught.value.hint
    assert not isinstance(caught.value, PruneRefused)
    assert installation.files() == before


def test_a_bad_statement_about_a_capture_without_manifest_stops_the_sweep(
    installation: Installation,
) -> None:
    first = installation.backups[0]
    installation.manifest_file(first).unlink()
    statements = installation.repository / f"verifications/{first.target}/{first.backup}"
    path = next(statements.glob("*.json"))
    path.write_bytes(path.read_bytes().replace(b"readback", b"prune"))
    age(installation, OLD)
    before = installation.files()
    with pytest.raises(SweepRefused, match="cannot be believed"):
        sweep(installation)
    assert installation.files() == before


def test_a_reader_puts_the_sweep_off(installation: Installation) -> None:
    put(installation, f"packs/{installation.target}/{UNKNOWN}/1.tar.age")
    age(installation, OLD)
    before = installation.files()
    chain = installation.chain("sweep")
    chain.row.free = False
    result = chain.rest().result["sweep"]
    assert (result["removed"], result["kept"]) == (0, 1)
    assert "is reading the repository" in result["skipped"]
    assert installation.files() == before


def test_a_lost_fence_stops_before_the_next_removal(installation: Installation) -> None:
    for number in (1, 2):
        put(installation, f"packs/{installation.target}/{UNKNOWN}/{number}.tar.age")
    age(installation, OLD)
    chain = installation.chain("sweep")
    calls: list[int] = []

    def lost() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise FenceLost("another has the job")

    chain.row.before_hold = lost
    with pytest.raises(FenceLost):
        chain.step(keep_on=FenceLost)
    assert [path.name for path in (packs(installation) / UNKNOWN).iterdir()] == ["2.tar.age"]


def packs(installation: Installation) -> Path:
    return installation.repository / "packs" / str(installation.target)


def test_the_stores_own_clock_decides(installation: Installation) -> None:
    put(installation, f"packs/{installation.target}/{UNKNOWN}/1.tar.age")
    real = installation.store.now()

    class Ahead:
        def now(self) -> Any:
            return real + OLD

    installation.store.clock = Ahead()
    assert sweep(installation)["removed"] == 1


def test_the_ledger_knows_which_captures_still_run(
    installation: Installation, running: Callable[[], frozenset[str]]
) -> None:
    assert running() == frozenset()
    chain = installation.chain("backup")
    chain.step()
    assert running() == frozenset({chain.job.backup})
    give_up(installation, chain)
    assert running() == frozenset()


@pytest.fixture
def running(installation: Installation) -> Callable[[], frozenset[str]]:
    return lambda: installation.ledger.running(installation.target)
