"""Recovery points are formed of backups that belong together, kept with them, and told apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest

from pgben_tasks.cli.arguments import find_backups
from pgben_tasks.direct.chain import Chain
from pgben_tasks.domain.check import PointSigns
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.job import Job, window_key
from pgben_tasks.domain.layout import point_path
from pgben_tasks.domain.listing import point_document
from pgben_tasks.domain.retention import Policy
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import (
    BackupNotFound,
    IntegrityError,
    PermanentError,
    PruneRefused,
    StepWaits,
    StoreUnavailable,
)
from pgben_tasks.health.points import UNTIL_GOOD, indexed_points, stored_points
from pgben_tasks.operations.points import form
from pgben_tasks.operations.repository import prune
from pgben_tasks.operations.repository.check import read_signs
from tests.support import samples
from tests.support.bucketshop import TARGET as BUCKET, BucketShop
from tests.support.pointshop import PointShop
from tests.support.timetables import Later
from tests.support.troubled_bucket import TroubledBucket

if TYPE_CHECKING:
    from pgben_tasks.operations.toolbox import Jobs


@pytest.fixture
def points(shop: BucketShop) -> PointShop:
    shop.put("cidadão/1/rg.jpg", b"first")
    return PointShop(shop)


def member(shop: PointShop, point: str, target: Target) -> Manifest:
    found = {one.target: one.backup for one in shop.point(point).members}
    return shop.tools.repository.manifest(target, BackupId.parse(found[str(target)]))


# --- how one is formed


def test_the_databases_come_first_and_the_bucket_is_listed_after_their_data(
    points: PointShop,
) -> None:
    found = points.form()
    assert (found.state, found.good) == ("verified", True)
    database = points.buckets.shop.target
    assert [one.target for one in found.members] == [str(BUCKET), str(database)]
    data = member(points, str(found.id), database).snapshot_time
    assert found.moment == data
    assert member(points, str(found.id), BUCKET).snapshot_time >= data
    jobs = {job.target: job for job in points.ledger.jobs()}
    assert set(jobs) == {str(BUCKET), str(database)}
    assert {job.requested_by for job in jobs.values()} == {"shop"}
    assert points.tools.repository.foreign() == []


def test_a_snapshot_that_began_too_early_is_passed_over_and_one_more_is_asked_for(
    points: PointShop,
) -> None:
    chain = points.chain()
    with pytest.raises(StepWaits):
        chain.step()
    points.work_all()
    chain.step()
    # Listed before the time that uploads are given is over.
    points.buckets.run("backup")
    data = points.tools.repository.manifest(
        points.buckets.shop.target,
        BackupId.parse(chain.job.context["members"][str(points.buckets.shop.target)]),
    ).snapshot_time
    soon = points.tools.clock.now() - data + timedelta(seconds=1)
    chain.tools = replace(chain.tools, limits=replace(chain.tools.limits, point_settle=soon))
    with pytest.raises(StepWaits, match="uploads in flight are stored by then"):
        chain.step()
    assert points.ledger.jobs(open_only=True) == [], "none is asked for before"
    while points.tools.clock.now() < data + soon:
        pass
    found = points.form(chain)
    assert member(points, str(found.id), BUCKET).snapshot_time >= data + soon
    assert len(points.tools.repository.backups(BUCKET)) == 2


def test_the_first_snapshot_that_fits_joins_and_no_other_is_made(points: PointShop) -> None:
    chain = points.chain()
    with pytest.raises(StepWaits):
        chain.step()
    points.work_all()
    chain.step()
    first = points.buckets.snapshot()
    points.buckets.put("later", b"later")
    points.buckets.snapshot()
    found = points.form(chain)
    assert {one.backup for one in found.members} >= {first.backup}
    assert len(points.tools.repository.backups(BUCKET)) == 2


def test_a_scheduled_point_joins_the_backup_of_its_window(points: PointShop) -> None:
    window = points.tools.clock.now().replace(second=0, microsecond=0)
    chain = points.chain(window=window)
    with pytest.raises(StepWaits):
        chain.step()
    (asked,) = points.ledger.jobs()
    database = str(points.buckets.shop.target)
    assert (asked.key, asked.window) == (window_key("backup", database, window), window)
    assert asked.requested_by == "schedule"


def scheduled(points: PointShop, now: datetime) -> Chain:
    """Return the chain of a scheduled point whose databases are backed up.

    The next point is due in half a day, whatever the time is now.
    """
    chain = points.chain(window=now.replace(second=0, microsecond=0))
    nightly = points.tools.schedules["postgres"]
    hour = (now.astimezone(nightly.zone).hour + 12) % 24
    nightly = replace(nightly, cron=f"0 {hour} * * *")
    chain.tools = replace(chain.tools, schedules={**chain.tools.schedules, "postgres": nightly})
    with pytest.raises(StepWaits):
        chain.step()
    points.work_all()
    chain.step()
    return chain


def test_a_scheduled_point_waits_for_the_buckets_own_time_when_that_is_soon(
    points: PointShop,
) -> None:
    now = points.tools.clock.now()
    chain = scheduled(points, now)
    # Counted from the data, which are some moments old.
    soon = replace(points.tools.schedules["bucket"], cron=f"{(now.minute + 30) % 60} * * * *")
    chain.tools = replace(chain.tools, schedules={**chain.tools.schedules, "bucket": soon})
    with pytest.raises(StepWaits, match="waits for the scheduled backups"):
        chain.step()
    assert points.ledger.jobs(open_only=True) == []
    # That one came to nothing, and the next is soon as well: only the first is waited for.
    later = now + timedelta(minutes=40)
    chain.tools = replace(chain.tools, clock=At(later))
    with pytest.raises(StepWaits, match="waits for backups: "):
        chain.step()
    (asked,) = points.ledger.jobs(open_only=True)
    assert asked.target == str(BUCKET)


def test_a_scheduled_point_asks_at_once_when_the_buckets_own_time_is_far(
    points: PointShop,
) -> None:
    now = points.tools.clock.now()
    chain = scheduled(points, now)
    late = points.tools.schedules["bucket"]
    late = replace(late, cron=f"0 {(now.astimezone(late.zone).hour + 6) % 24} * * *")
    chain.tools = replace(chain.tools, schedules={**chain.tools.schedules, "bucket": late})
    with pytest.raises(StepWaits, match="waits for backups: "):
        chain.step()


@dataclass
class At:
    """A clock that stands."""

    moment: datetime

    def now(self) -> datetime:
        return self.moment


def test_a_backup_that_failed_fails_the_point_and_is_named(points: PointShop) -> None:
    bucket = points.buckets.bucket
    assert isinstance(bucket, TroubledBucket)
    bucket._made = False
    with pytest.raises(PermanentError, match=f"backs up '{BUCKET}' for a recovery point") as no:
        points.form()
    assert "did not succeed: " in no.value.sentence
    assert points.tools.repository.points() == []
    # Whoever asks again gets new backups.
    bucket._made = True
    assert points.form().good


def test_a_backup_that_is_tried_again_is_waited_for(points: PointShop) -> None:
    chain = points.chain()
    with pytest.raises(StepWaits):
        chain.step()
    (job,) = points.ledger.jobs()
    failed = (
        "UPDATE job SET state = 'failed', error = '{}', ended_at = clock_timestamp(),"
        " retry_at = clock_timestamp() + interval '15 minutes', backup = '20261130T000000Z-0a0b0c'"
    )
    points.ledger.database.execute(failed)
    with pytest.raises(StepWaits):
        chain.step()
    assert "members" not in chain.job.context
    points.ledger.queue_again(job.id)
    assert points.form(chain).good


def test_a_scheduled_point_is_given_up_when_the_next_one_is_due(points: PointShop) -> None:
    chain = points.chain(window=points.tools.clock.now() - timedelta(days=1, minutes=1))
    with pytest.raises(PermanentError, match="before the next one was due"):
        chain.step()
    assert points.ledger.jobs() == []


def test_a_snapshot_that_does_not_count_joins_nothing(points: PointShop) -> None:
    for number in range(30):
        points.buckets.put(f"key {number}", b"x")
    points.form()
    for number in range(30):
        points.buckets.put(f"key {number}", b"overwritten")
    with pytest.raises(PermanentError, match="does not count as good"):
        points.form()
    assert len(points.tools.repository.points()) == 1


def test_a_snapshot_that_ends_while_it_is_looked_for_joins_all_the_same(points: PointShop) -> None:
    class EndsNow:
        """The ledger of a worker that ends each snapshot just when somebody asks for it."""

        def __getattr__(self, name: str) -> object:
            return getattr(points.ledger, name)

        def open_backup(self, target: Target) -> Job | None:
            if target == BUCKET:
                points.work_all()
            return points.ledger.open_backup(target)

    def databases_only() -> None:
        for job in points.ledger.jobs(open_only=True):
            if job.target != str(BUCKET):
                points.work(job)

    points.tools = replace(points.tools, jobs=cast("Jobs", EndsNow()))
    point = points.form(when_it_waits=databases_only)
    assert point.good
    assert len(points.tools.repository.backups(BUCKET)) == 1


def test_a_step_that_runs_again_writes_the_same_point(points: PointShop) -> None:
    chain = points.chain()
    point = points.form(chain)
    for name in ("pgben.backup.all.join", "pgben.backup.all.record"):
        chain.step(name)
    assert [str(one) for one in points.tools.repository.points()] == [str(point.id)]
    assert points.point(str(point.id)) == point


def test_a_repository_that_is_away_for_a_moment_fails_no_point(points: PointShop) -> None:
    chain = points.chain()
    with pytest.raises(StepWaits):
        chain.step()
    points.work_all()
    chain.step()
    real = points.tools.repository.manifest

    def away(*_arguments: object) -> Manifest:
        raise StoreUnavailable("the store does not answer", "it is tried again")

    setattr(points.tools.repository, "manifest", away)  # noqa: B010 - for a moment
    try:
        with pytest.raises(StoreUnavailable):
            chain.step()
    finally:
        setattr(points.tools.repository, "manifest", real)  # noqa: B010
    assert points.form(chain).good


# --- what becomes of it


def test_index_and_repository_tell_the_same_and_damage_of_a_member_shows(
    points: PointShop,
) -> None:
    first = points.form()
    points.buckets.put("second", b"second")
    second = points.form()
    work, repository = points.buckets.shop.work, points.tools.repository
    assert indexed_points(work) == stored_points(repository) == (second, first)
    assert stored_points(repository, until=UNTIL_GOOD) == (second,)
    (own,) = member(points, str(second.id), points.buckets.shop.target).own_packs
    path = points.buckets.shop.repository / own.path
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(IntegrityError):
        points.buckets.shop.verify(level="full")
    for found in (indexed_points(work), stored_points(repository)):
        assert [one.state for one in found] == ["damaged", "verified"]
    assert [one.id for one in stored_points(repository, until=UNTIL_GOOD)] == [second.id, first.id]


def test_a_verification_of_everything_finds_points_that_lie(points: PointShop) -> None:
    point = points.form()
    verify = points.buckets.shop
    clean = verify.run("verify", {"target": None})
    assert (clean.result["findings_total"], clean.result["not_covered"]) == (0, [])
    folder = verify.repository / "recovery-points"
    stored = folder / f"{point.id}.json"
    whole = stored.read_bytes()
    stored.chmod(0o600)
    stored.write_bytes(whole.replace(point.job.encode(), point.job[::-1].encode()))
    with pytest.raises(IntegrityError, match=f"forged 'recovery-points/{point.id}.json'"):
        verify.run("verify", {"target": None})
    stored.write_bytes(whole)
    points.tools.repository.remove_manifest(BUCKET, BackupId.parse(point.members[0].backup))
    with pytest.raises(IntegrityError) as gone:
        verify.run("verify", {"target": None})
    assert "missing" in gone.value.sentence
    assert points.point(str(point.id)).state == "missing"


def test_retention_removes_a_point_before_its_members_and_keeps_the_newest_whole(
    points: PointShop,
) -> None:
    old = points.form()
    for number in range(4):
        points.buckets.put(f"night {number}", b"x")
        points.form()
    newest = stored_points(points.tools.repository)[0]
    later = replace(
        points.tools,
        limits=replace(
            points.tools.limits,
            retention=Policy(max_age=timedelta(0), floor=1, brake=1),  # type: ignore[arg-type]
        ),
    )
    points.tools = points.buckets.tools = later
    removed: list[str] = []
    for name in ("remove_point", "remove_manifest"):
        _note_calls(points, name, removed)
    points.buckets.run("prune")
    assert removed[0].startswith("remove_point")
    assert removed[-1].startswith("remove_manifest")
    assert stored_points(points.tools.repository) == (newest,)
    assert points.point(str(newest.id)).good
    assert indexed_points(points.buckets.shop.work) == (newest,)
    backups = {str(one) for one in points.tools.repository.backups(BUCKET)}
    assert backups == {one.backup for one in newest.members if one.target == str(BUCKET)}
    assert old.id not in points.tools.repository.points()


def _note_calls(points: PointShop, name: str, into: list[str]) -> None:
    repository = points.tools.repository
    real = getattr(repository, name)

    def noted(*arguments: object) -> None:
        into.append(f"{name} {arguments}")
        real(*arguments)

    setattr(repository, name, noted)


def test_what_a_forming_point_has_found_is_not_pruned(points: PointShop) -> None:
    chain = points.chain()
    with pytest.raises(StepWaits):
        chain.step()
    points.work_all()
    chain.step()
    found = chain.job.context["members"]
    job, _ = points.ledger.request(
        "point", target="*", key="forming", request={}, requested_by="test"
    )
    with points.ledger.database.transaction() as cursor:
        cursor.execute(
            "UPDATE job SET context = jsonb_build_object('members', jsonb_build_object(%s::text,"
            " %s::text)) WHERE id = %s",
            (*next(iter(found.items())), job.id),
        )
    database = points.buckets.shop.target
    assert points.ledger.named(database) == {found[str(database)]}
    assert points.ledger.named(BUCKET) == frozenset()
    decided = prune.decide(points.tools, database)
    assert "in use by a job" in decided.plan.decisions[0].reasons


def test_a_point_that_is_formed_while_it_is_decided_is_noticed(points: PointShop) -> None:
    points.form()
    decided = prune.decide(points.tools, BUCKET)
    assert decided.knows(points.tools.repository.points())
    points.form()
    assert not decided.knows(points.tools.repository.points())


def test_nothing_is_pruned_while_a_member_elsewhere_cannot_be_believed(points: PointShop) -> None:
    point = points.form()
    (backup,) = points.tools.repository.backups(BUCKET)
    place = points.buckets.shop.repository / "backups" / str(BUCKET) / str(backup)
    (place / "manifest.json.sig").unlink()
    assert points.point(str(point.id)).state == "unreadable"
    with pytest.raises(PruneRefused, match=f"of recovery point '{point.id}', cannot be believed"):
        prune.decide(points.tools, points.buckets.shop.target)


def test_a_point_that_only_the_index_knows_leaves_it_with_the_next_prune(
    points: PointShop,
) -> None:
    point = points.form()
    # As when a prune died between the two.
    points.tools.repository.remove_point(point.id)
    assert indexed_points(points.buckets.shop.work) != ()
    points.buckets.run("prune")
    assert indexed_points(points.buckets.shop.work) == ()


# --- what is held


def decisions(points: PointShop, target: Target) -> dict[str, tuple[str, ...]]:
    """Return why a prune at this moment would keep each backup of a target."""
    made = prune.decide(points.tools, target).plan.decisions
    return {str(one.backup): one.reasons for one in made}


def keep_nothing(points: PointShop) -> None:
    """Let retention keep nothing but what it has to."""
    policy = Policy(max_age=timedelta(0), floor=1, brake=1)  # type: ignore[arg-type]
    limits = replace(points.tools.limits, retention=policy)
    points.tools = points.buckets.tools = replace(points.tools, limits=limits)


def test_a_point_that_is_asked_for_with_a_hold_has_every_member_held(points: PointShop) -> None:
    chain = points.chain(hold_for="14d", label="release-42")
    with pytest.raises(StepWaits):
        chain.step()
    points.work_all()
    chain.step()
    # Its bucket was listed meanwhile for somebody else, who holds nothing.
    points.buckets.snapshot()
    point = points.form(chain)
    held = chain.job.result["hold"]
    assert (chain.job.result["state"], held["label"], held["by"]) == (
        "verified",
        "release-42",
        "shop",
    )
    assert [one and one.label for one in point.holds] == ["release-42"] * 2
    jobs = [(job.kind, job.target) for job in points.ledger.jobs()]
    # The database's backup held itself, before anything was pruned.
    assert jobs == [("hold", str(BUCKET)), ("backup", str(points.buckets.shop.target))]
    document = point_document(point, points.tools.clock.now())
    assert document["hold"]["label"] == "release-42"
    assert point_document(point, points.tools.clock.now() + timedelta(days=15))["hold"] is None
    # Whoever asks once more within the hour gets this one, held for longer.
    again = points.chain(hold_for="30d", label="release-43", max_age="1h")
    assert points.form(again).id == point.id
    assert again.job.result["existing"]
    assert again.job.result["hold"]["label"] == "release-43"
    assert again.job.result["hold"]["until"] > held["until"]
    assert stored_points(points.tools.repository)[1:] == ()
    # What has been protected since then has no backup in it.
    new = points.tools.protected | {Target("postgres", "new")}
    points.tools = replace(points.tools, protected=new)
    with pytest.raises(StepWaits):
        points.chain(max_age="1h").step()


PAST = datetime(2026, 1, 1, tzinfo=UTC)


def test_points_are_not_judged_by_whoever_asks_of_one_target(points: PointShop) -> None:
    points.form()
    read = partial(read_signs, points.tools.repository, (), others=(), since=PAST)
    assert read(points_wanted=False, points_checked=False).points.wanted
    assert read(points_wanted=None, points_checked=False).points == PointSigns(
        points=(), findings=(), wanted=False, checked=False
    )


def test_the_age_of_a_point_is_that_of_its_oldest_backup(points: PointShop) -> None:
    clock = Later(points.tools.clock, timedelta())
    points.tools = points.buckets.tools = replace(points.tools, clock=clock)
    chain = points.chain()
    with pytest.raises(StepWaits):
        chain.step()
    points.work_all()
    clock.by = timedelta(minutes=30)
    point = points.form(chain)
    assert point.started - point.moment > timedelta(minutes=29)
    clock.by = timedelta(minutes=61)
    with pytest.raises(StepWaits):
        points.chain(max_age="1h").step()
    points.chain(max_age="90min").step()


def test_a_hold_that_fails_fails_the_point(points: PointShop) -> None:
    chain = points.chain(hold_for="14d")

    def fail_holds() -> None:
        for job in points.ledger.jobs(open_only=True):
            if job.kind == "hold":
                with points.ledger.database.transaction() as cursor:
                    cursor.execute(
                        "UPDATE job SET state = 'failed', error = '{}' WHERE id = %s", (job.id,)
                    )
        points.work_all()

    with pytest.raises(StepWaits):
        chain.step()
    points.work_all()
    chain.step()
    points.buckets.snapshot()
    with pytest.raises(PermanentError, match="of the recovery point could not be held"):
        points.form(chain, when_it_waits=fail_holds)


def test_a_point_with_a_held_member_stays_whole_until_the_hold_ends(points: PointShop) -> None:
    held, other = points.form(), points.form()
    points.buckets.put("later", b"x")
    newest = points.form()
    keep_nothing(points)
    database = points.buckets.shop.target
    backup = {one.target: one.backup for one in held.members}
    fields = {"backup": backup[str(database)], "reason": "x"}
    points.buckets.shop.run("hold", {"target": str(database), "keep_for": "14d", **fields})
    snapshots = decisions(points, BUCKET)
    assert snapshots[backup[str(BUCKET)]] == (f"of recovery point {held.id}",)
    points.buckets.run("prune")
    assert [one.id for one in stored_points(points.tools.repository)] == [newest.id, held.id]
    assert other.id not in points.tools.repository.points()
    points.buckets.shop.run("hold", {"target": str(database), "release": True, **fields})
    points.buckets.run("prune")
    assert [one.id for one in stored_points(points.tools.repository)] == [newest.id]


def test_who_names_a_point_means_all_of_its_backups(points: PointShop) -> None:
    point = points.form()
    repository = points.tools.repository
    assert set(find_backups(str(point.id), repository)) == point.backups
    target, backup = min(point.backups)
    for text in (str(backup), f"{target}/{backup}"):
        assert find_backups(text, repository) == [(target, backup)]
    with pytest.raises(BackupNotFound):
        find_backups("20200101T000000Z-abcdef", repository)


def test_a_hold_of_a_member_elsewhere_keeps_a_point_that_was_to_go(points: PointShop) -> None:
    old = points.form()
    points.buckets.put("later", b"x")
    points.form()
    keep_nothing(points)
    database = str(points.buckets.shop.target)
    backup = next(one.backup for one in old.members if one.target == database)
    request = {"target": database, "backup": backup, "keep_for": "1d", "reason": "x"}
    job, _ = points.ledger.request(
        "hold", target=database, key="waits", request=request, requested_by="test"
    )
    with pytest.raises(PruneRefused, match=f"a job of '{database}' has just asked"):
        points.buckets.run("prune")
    assert old.id in points.tools.repository.points()
    points.work(job)
    points.buckets.run("prune")
    assert old.id in points.tools.repository.points()


def test_a_wrong_clock_of_the_databases_server_moves_no_point() -> None:
    backup = samples.manifest()
    moment = form._data_of(backup)
    assert moment == backup.snapshot_time
    for wrong in (timedelta(days=-1), timedelta(days=1)):
        capture = samples.capture(snapshot_time=backup.snapshot_time + wrong)
        assert form._data_of(samples.manifest(postgres=capture)) == backup.finished


def test_nothing_is_pruned_while_a_point_cannot_be_believed(points: PointShop) -> None:
    point = points.form()
    (points.buckets.shop.repository / "recovery-points" / f"{point.id}.json.sig").unlink()
    with pytest.raises(PruneRefused, match=f"recovery point '{point.id}' cannot be believed"):
        points.buckets.run("prune")


# --- what `pgben check` is told of them


def signs(points: PointShop) -> PointSigns:
    found = read_signs(
        points.tools.repository,
        sorted(points.tools.protected),
        others=(),
        since=datetime.now(UTC) - timedelta(days=8),
        points_wanted=True,
        points_checked=False,
    )
    return found.points


def test_the_check_reads_the_newest_points_up_to_one_that_is_verified(points: PointShop) -> None:
    points.form()
    newest = points.form()
    found = signs(points)
    assert [one.id for one in found.points] == [newest.id]
    assert (found.newest_good, found.findings) == (found.points[0], ())
    # A member that is gone makes the newest one missing: the one before it is read, too.
    gone = member(points, str(newest.id), points.buckets.shop.target)
    points.tools.repository.remove_manifest(gone.target_name, gone.backup_id)
    found = signs(points)
    assert [one.state for one in found.points] == ["missing", "verified"]
    assert [one.kind for one in found.findings] == ["missing"]
    # One whose document was changed is not believed.
    path = points.buckets.shop.repository / point_path(newest.id)
    path.write_bytes(path.read_bytes().replace(b'"job":"', b'"job":"0'))
    assert [one.kind for one in signs(points).findings] == ["forged"]
