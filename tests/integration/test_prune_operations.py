"""Retention carried out: what the plan names leaves, with a signed reason, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pgben_tasks.adapters.catalog.locks import HeldLocks, target_lock
from pgben_tasks.adapters.clock import SystemClock
from pgben_tasks.domain.retention import Policy
from pgben_tasks.errors import FenceLost, PruneRefused, StoreUnavailable, TargetBusy
from tests.support.archive import DAY, Archive, SetClock
from tests.support.installation import Crash, Installation

#: Long past for every disk's own clock.
NOW = datetime(2024, 11, 25, 12, 0, tzinfo=UTC)


@pytest.fixture
def archive(installation: Installation) -> Archive:
    return Archive(installation, NOW)


# What leaves


def test_what_is_past_its_age_leaves_with_its_packs(archive: Archive) -> None:
    old = archive.add_nightly(2, oldest=40)
    young = archive.add_nightly(5, oldest=4)
    result = archive.prune()
    assert result["expired"] == [one.backup for one in old]
    assert result["refused"] is None
    assert archive.left() == [one.backup for one in young]
    assert archive.pack_paths() == {one.packs[0].path for one in young}
    folder = archive.installation.repository / "backups" / str(archive.installation.target)
    assert not [path for one in old for path in (folder / one.backup).glob("*")]
    assert {archive.installation.state(one.backup) for one in old} == {"expired"}
    assert {archive.installation.state(one.backup) for one in young} == {"stored"}


def test_a_signed_decision_stays_and_explains_the_gap(archive: Archive) -> None:
    (old, *_) = archive.add_nightly(1, oldest=40) + archive.add_nightly(4, oldest=3)
    digest = archive.repository.manifest_digest(old.target_name, old.backup_id)
    chain = archive.chain()
    chain.rest()
    *_, decision = archive.repository.verifications(old.target_name, old.backup_id)
    assert (decision.kind, decision.manifest, decision.job) == (
        "prune",
        digest,
        str(chain.ref.job),
    )
    assert decision.reasons == ("older than 30 days and kept by no rule",)
    assert decision.at == NOW


def test_the_floor_stays_however_old_it_is(archive: Archive) -> None:
    made = archive.add_nightly(5, oldest=400)
    archive.add(timedelta(hours=1), verified=False)
    result = archive.prune(floor=3)
    assert result["expired"] == [one.backup for one in made[:2]]


def test_what_was_never_verified_leaves_only_when_a_newer_one_was(archive: Archive) -> None:
    bad = archive.add(50 * DAY, verified=False)
    archive.add_nightly(4, oldest=4)
    newest = archive.add(timedelta(hours=1), verified=False)
    assert archive.prune()["expired"] == [bad.backup]
    assert newest.backup in archive.left()


def test_a_pack_that_another_backup_refers_to_stays(archive: Archive) -> None:
    old = archive.add(40 * DAY)
    archive.add(3 * DAY, packs=old.packs)
    archive.add_nightly(3, oldest=2)
    assert archive.prune()["expired"] == [old.backup]
    assert old.packs[0].path in archive.pack_paths()


def test_packs_of_a_running_capture_are_left_alone(archive: Archive) -> None:
    archive.add_nightly(1, oldest=40)
    archive.add_nightly(4, oldest=3)
    path = f"packs/{archive.installation.target}/20241125T115900Z-abcdef/1.tar.age"
    archive.installation.store.put(path, b"being uploaded")
    archive.prune()
    assert path in archive.pack_paths()


def test_a_second_run_has_nothing_left_to_do(archive: Archive) -> None:
    archive.add_nightly(2, oldest=40)
    archive.add_nightly(4, oldest=3)
    assert len(archive.prune()["expired"]) == 2
    before = archive.installation.files()
    assert archive.prune()["expired"] == []
    assert archive.installation.files() == before


@pytest.mark.parametrize(("number", "manifests"), [(1, 6), (2, 5), (3, 4), (4, 4)])
def test_after_a_crash_the_next_run_finishes_the_removal(
    archive: Archive, number: int, manifests: int
) -> None:
    old = archive.add_nightly(2, oldest=40)
    archive.add_nightly(4, oldest=3)
    chain = archive.chain()
    calls: list[int] = []

    def die_in_time() -> None:
        calls.append(1)
        if len(calls) == number:
            raise Crash

    chain.row.before_hold = die_in_time
    with pytest.raises(Crash):
        chain.step()
    assert len(archive.left()) == manifests
    chain.row.before_hold = lambda: None
    chain.step()
    assert len(archive.left()) == 4
    assert not {pack.path for one in old for pack in one.packs} & archive.pack_paths()
    # Nothing of it is a finding afterwards, nor was it in between.
    verify = archive.installation.chain("verify", tools=archive.tools())
    assert verify.rest().result["findings_total"] == 0


class DyingIndex:
    """An index whose process dies when it is told what expired."""

    def __init__(self, index: Any) -> None:
        self.index = index

    def __getattr__(self, name: str) -> Any:
        return getattr(self.index, name)

    def set_state(self, *_: Any, **__: Any) -> None:
        raise Crash


@pytest.mark.parametrize("finisher", ["prune", "verify"])
def test_a_run_that_died_before_it_told_the_index_is_no_loss(
    archive: Archive, finisher: str
) -> None:
    (old, *_) = archive.add_nightly(1, oldest=40) + archive.add_nightly(4, oldest=3)
    chain = archive.chain()
    chain.tools = replace(chain.tools, index=DyingIndex(chain.tools.index))
    with pytest.raises(Crash):
        chain.step()
    assert old.backup not in archive.left()
    assert archive.installation.state(old.backup) == "stored"
    if finisher == "prune":
        assert archive.prune()["expired"] == []
    else:
        verify = archive.installation.chain("verify", tools=archive.tools())
        assert verify.rest().result["findings_total"] == 0
    assert archive.installation.state(old.backup) == "expired"


# What changes nothing


def test_a_dry_run_says_what_would_leave_and_removes_nothing(archive: Archive) -> None:
    old = archive.add_nightly(2, oldest=40)
    archive.add_nightly(4, oldest=3)
    before = archive.installation.files()
    result = archive.prune(dry_run=True)
    assert result["would_expire"] == [one.backup for one in old]
    assert result["expired"] == []
    decisions = {row["backup"]: row["decision"] for row in result["decisions"]}
    assert [decisions[one.backup] for one in old] == ["expire", "expire"]
    assert archive.installation.files() == before


def test_a_dry_run_of_a_refused_plan_shows_the_refusal(archive: Archive) -> None:
    archive.add_nightly(10, oldest=50)
    archive.add(timedelta(hours=1))
    result = archive.prune(dry_run=True)
    assert "verified backups at once" in result["refused"]
    assert result["would_expire"] == []


@pytest.mark.parametrize("damage", ["manifest", "signature", "statement"])
def test_one_document_in_doubt_stops_all_pruning(archive: Archive, damage: str) -> None:
    archive.add_nightly(2, oldest=40)
    newest = archive.add_nightly(4, oldest=3)[-1]
    root = archive.installation.repository
    path = {
        "manifest": archive.installation.manifest_file(newest),
        "signature": archive.installation.manifest_file(newest).with_name("manifest.json.sig"),
        "statement": root / f"verifications/{newest.target}/{newest.backup}/{newest.backup}.json",
    }[damage]
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    before = archive.installation.files()
    for dry_run in (True, False):
        with pytest.raises(PruneRefused, match=f"'{newest.backup}'.*cannot be believed") as caught:
            archive.prune(dry_run=dry_run)
        assert "pgben verify" in caught.value.hint
    assert archive.installation.files() == before


def test_too_many_at_once_pull_the_brake(archive: Archive) -> None:
    archive.add_nightly(10, oldest=50)
    archive.add_nightly(2, oldest=1)
    before = archive.installation.files()
    with pytest.raises(PruneRefused, match="10 of 12 verified backups at once|9 of 12"):
        archive.prune()
    assert archive.installation.files() == before
    assert len(archive.prune(brake=Decimal(1))["expired"]) >= 9


def test_an_unacknowledged_suspect_stops_pruning(archive: Archive) -> None:
    archive.add_nightly(2, oldest=40)
    archive.add_nightly(4, oldest=4)
    archive.add(timedelta(hours=1), suspect="rows shrank from 850 to 1: more than 30%")
    with pytest.raises(PruneRefused, match="rows shrank from 850 to 1"):
        archive.prune()
    assert len(archive.left()) == 7


def test_a_silence_of_backups_stops_pruning(archive: Archive) -> None:
    archive.add_nightly(6, oldest=40)
    with pytest.raises(PruneRefused, match="over 3 scheduled intervals old"):
        archive.prune()


@pytest.mark.parametrize("clock", ["catalog", "worker", "store"])
@pytest.mark.parametrize("minutes", [6, -6])
def test_a_clock_that_differs_from_the_others_stops_pruning(
    archive: Archive, clock: str, minutes: int
) -> None:
    old = archive.add_nightly(2, oldest=40)
    archive.add_nightly(4, oldest=4)
    wrong = SetClock(NOW, timedelta(minutes=minutes))
    if clock == "worker":
        archive.own_clock = wrong
    elif clock == "store":
        archive.store_clock = wrong
    else:
        # What the catalog shows is NOW: the two others are wrong, or it is.
        archive.own_clock = archive.store_clock = wrong
    before = archive.installation.files()
    with pytest.raises(PruneRefused, match="the clock of the .* is 0:06:00 ahead of"):
        archive.prune()
    result = archive.prune(dry_run=True)
    assert "0:06:00" in result["refused"]
    assert result["would_expire"] == []
    # The plan is shown all the same.
    blocked = [row["backup"] for row in result["decisions"] if "refused" in row["reasons"]]
    assert blocked == [one.backup for one in reversed(old)]
    assert archive.installation.files() == before


def test_clocks_that_differ_by_minutes_are_no_reason(archive: Archive) -> None:
    archive.add_nightly(2, oldest=40)
    archive.add_nightly(4, oldest=4)
    archive.own_clock = SetClock(NOW, timedelta(minutes=4))
    archive.store_clock = SetClock(NOW, timedelta(minutes=5))
    assert len(archive.prune()["expired"]) == 2


def test_the_disks_own_clock_is_the_stores(archive: Archive) -> None:
    archive.add_nightly(2, oldest=40)
    archive.add_nightly(4, oldest=4)
    # NOW is long past for the disk.
    archive.store_clock = None
    with pytest.raises(PruneRefused, match="the clock of the store is .* ahead of the catalog's"):
        archive.prune()


def test_the_night_after_a_silence_prunes_nothing_the_next_one_does(archive: Archive) -> None:
    old = archive.add_nightly(4, oldest=40)
    installation = archive.installation
    tools = replace(archive.tools(), clock=installation.tools.clock, own_clock=SystemClock())
    installation.store.clock = None
    first = installation.chain("backup", tools=tools).rest().result["prune"]
    assert "over 3 scheduled intervals old" in first["refused"]
    assert first["expired"] == []
    second = installation.chain("backup", tools=tools).rest().result["prune"]
    assert second["refused"] is None
    assert second["expired"] == [one.backup for one in old[:2]]


def test_a_reader_of_the_repository_stops_pruning(archive: Archive) -> None:
    archive.add_nightly(1, oldest=40)
    archive.add_nightly(4, oldest=3)
    chain = archive.chain()
    chain.row.free = False
    with pytest.raises(PruneRefused, match="is reading the repository"):
        chain.step()
    assert len(archive.left()) == 5


@pytest.mark.parametrize("how", ["selected", "asked for", "selected in an attempt before"])
def test_what_a_restore_that_has_not_ended_names_stays(archive: Archive, how: str) -> None:
    old, other, *_ = archive.add_nightly(2, oldest=40) + archive.add_nightly(4, oldest=3)
    installation = archive.installation
    chain = installation.restore(**({"backup": old.backup} if how == "asked for" else {}))
    installation.ledger.begin_step(chain.ref, chain.job.step or "", node="workshop")
    if how == "selected":
        installation.ledger.keep(chain.ref, context={}, backup=old.backup)
    if how == "selected in an attempt before":
        installation.ledger.keep(chain.ref, context={"snapshot": old.backup})
    result = archive.prune()
    assert result["expired"] == [other.backup]
    reasons = {row["backup"]: row["reasons"] for row in result["decisions"]}
    assert reasons[old.backup] == "in use by a job"
    installation.ledger.cancel(chain.ref.job, error={})
    assert archive.prune()["expired"] == [old.backup]


def test_a_backup_that_is_chosen_while_the_plan_is_made_is_not_removed(archive: Archive) -> None:
    old, *_ = archive.add_nightly(2, oldest=40) + archive.add_nightly(4, oldest=3)
    chain = archive.chain()
    taken = chain.tools.repository.packs

    class Chosen:
        """A repository in which somebody else selects between the plan and the lock."""

        def __getattr__(self, name: str) -> Any:
            return getattr(archive.repository, name)

        def packs(self, target: Any) -> Any:
            archive.installation.restore(backup=old.backup).step()
            return taken(target)

    chain.tools = replace(chain.tools, repository=Chosen())
    before = archive.left()
    with pytest.raises(PruneRefused, match="has just asked for a backup that would be removed"):
        chain.step()
    assert archive.left() == before


def test_its_own_chain_is_no_reason_to_keep_a_backup(installation: Installation) -> None:
    job = installation.chain("backup").until("prune").step()
    own = next(r for r in job.result["prune"]["decisions"] if r["backup"] == job.backup)
    assert "in use" not in own["reasons"]


def test_the_lock_of_a_reader_is_what_stops_it(installation: Installation) -> None:
    database, target = installation.shop.work.database, str(installation.target)
    reading = HeldLocks(database, [target_lock("read", target, shared=True)])
    with pytest.raises(TargetBusy):
        HeldLocks(database, [target_lock("read", target, shared=False)])
    reading.release()


def test_a_lost_fence_stops_before_the_next_removal(archive: Archive) -> None:
    archive.add_nightly(2, oldest=40)
    archive.add_nightly(4, oldest=3)
    chain = archive.chain()

    def lost() -> None:
        raise FenceLost("another has the job")

    chain.row.before_hold = lost
    before = archive.installation.files()
    with pytest.raises(FenceLost):
        chain.step(keep_on=FenceLost)
    assert archive.installation.files() == before


# As a step of a backup


def test_the_first_backups_own_prune_reports_no_refusal(archive: Archive) -> None:
    chain = archive.installation.chain("backup")
    job = chain.rest()
    assert job.result["prune"]["refused"] is None
    assert job.result["sequence"] >= 1
    assert job.result["state"] == "verified"


@pytest.mark.parametrize("error", [PruneRefused("in doubt"), StoreUnavailable("away")])
def test_a_prune_that_fails_is_a_finding_and_never_a_failed_backup(
    installation: Installation, error: Exception
) -> None:
    class Doubtful:
        def __getattr__(self, name: str) -> Any:
            if name == "backups":
                raise error
            return getattr(installation.tools.repository, name)

    chain = installation.chain("backup").until("prune")
    chain.tools = replace(installation.tools, repository=Doubtful())
    pruned = chain.step().result["prune"]
    assert (pruned["refused"], pruned["expired"]) == (error.args[0], [])
    chain.tools = installation.tools
    assert chain.rest().result["state"] == "verified"


def test_an_old_backup_leaves_during_the_next_nights_chain(installation: Installation) -> None:
    first, second = installation.backups
    limits = replace(installation.tools.limits, retention=Policy(max_age=timedelta(0), floor=1))
    tools = replace(installation.tools, limits=limits)
    job = installation.chain("backup", tools=tools).rest()
    assert job.result["prune"]["expired"] == [first.backup]
    left = [str(one) for one in installation.tools.repository.backups(installation.target)]
    assert left == [second.backup, job.backup]
    assert installation.chain("verify", level="full").rest().result["findings_total"] == 0
