"""Everything of a recovery point comes back, beside or in place, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql

from pgben_tasks import runtime
from pgben_tasks.adapters.catalog.locks import holding, job_lock
from pgben_tasks.adapters.hooks import SwapHooks
from pgben_tasks.adapters.postgres.swap import PostgresSwap
from pgben_tasks.direct.chain import Chain
from pgben_tasks.direct.jobs import LedgerJobs, Nobody
from pgben_tasks.domain.alarm import alarm_of_job
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.points import KnownPoint
from pgben_tasks.domain.references import Reference
from pgben_tasks.domain.target import Target
from pgben_tasks.embedded.data.compare import contents as rows_of
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import IntegrityError, TargetBusy
from pgben_tasks.ports import Bucket
from tests.support.bucketshop import TARGET as BUCKET, BucketShop, contents
from tests.support.ledger_workers import LedgerWorkers
from tests.support.memory_bucket import MemoryBucket
from tests.support.pointshop import PointShop
from tests.support.troubled_bucket import TroubledBucket
from tests.support.workshop import Workshop

SCHEMA = """
CREATE TABLE documento (id serial PRIMARY KEY, caminho text, tamanho bigint, hash_arquivo text)
"""


@dataclass
class Platform:
    """A database whose rows name objects of a bucket, and a recovery point of both."""

    points: PointShop
    workers: LedgerWorkers
    point: KnownPoint

    @property
    def shop(self) -> Workshop:
        return self.points.buckets.shop

    @property
    def database(self) -> str:
        return self.shop.target.name

    @property
    def bucket(self) -> Bucket:
        return self.points.buckets.bucket

    def execute(self, statement: str, *values: object, database: str | None = None) -> None:
        with self.shop.server.connect(database or self.database) as connection:
            connection.execute(statement.encode(), values)

    def scalar(self, statement: str, *, database: str | None = None) -> Any:
        with self.shop.server.connect(database or self.database) as connection:
            row = connection.execute(statement.encode()).fetchone()
            return row and row[0]

    def add(self, key: str, data: bytes) -> None:
        """Store a document and its row as the platform does."""
        digest = hashlib.sha256(b"plain " + data).hexdigest()
        self.points.buckets.put(key, data, metadata={"iv": "0f", "hash": digest})
        self.execute(
            "INSERT INTO documento (caminho, tamanho, hash_arquivo) VALUES (%s, %s, %s)",
            *(key, len(data), digest),
        )

    def restore(self, **request: Any) -> Job:
        return self.workers.run("restore_all", request)

    def restore_in_place(self, **request: Any) -> Job:
        return self.restore(in_place=True, confirm=[self.database, BUCKET.name], **request)

    def use_references(self, references: tuple[Reference, ...]) -> None:
        self.points.tools = replace(self.points.tools, references=references)
        self.workers.tools = replace(self.workers.tools, references=references)

    def until(self, job: Job, step: str) -> None:
        """Do all that is open until the job comes to a step."""
        for _ in range(100):
            now = self.workers.ledger.job(job.id)
            assert not now.ended, now.error
            if (now.step or "").endswith(f".{step}"):
                return
            for one in reversed(self.workers.ledger.jobs(limit=100, open_only=True)):
                self.workers.advance(one, before=step if one.id == job.id else None)
        raise AssertionError(f"it never comes to '{step}'")

    def listed(self, bucket: str) -> dict[str, list[str]]:
        """Return the keys in each list of what was added."""
        lists = contents(self.points.tools.other_bucket(bucket))
        return {
            name: [json.loads(line)["key"] for line in bytes(data).splitlines()]  # type: ignore[call-overload]
            for name, (data, *_) in lists.items()
        }

    def begin(self) -> Job:
        """Ask for a restore in place."""
        confirm = [self.database, BUCKET.name]
        return self.workers.ask("restore_all", {"in_place": True, "confirm": confirm})

    def part_of(self, job: Job, target: Target) -> Job:
        """Return the newest part of a job for a target."""
        key = self.workers.ledger.job(job.id).context["parts"][str(target)]
        found = self.workers.ledger.by_key(key)
        assert found is not None
        return found

    def cancel(self, job: Job) -> None:
        """Cancel a job, and remove what it left, as a tick does."""
        assert self.workers.ledger.cancel(job.id, error={"sentence": "somebody cancelled it"})
        self.clean()

    def clean(self) -> None:
        """Remove what ended jobs left, as a tick does."""
        self.workers.clean()

    def part(self, job: Job, kind: str) -> Job:
        """Return the part of a restore for a kind of target."""
        told = job.result["databases" if kind == "postgres" else "buckets"]
        (found,) = told.values()
        return self.workers.ledger.find(found["job"])

    def ruin(self) -> None:
        """Delete, overwrite and add rows and objects."""
        self.execute("DELETE FROM documento WHERE id <= 3")
        self.execute("UPDATE documento SET tamanho = 0")
        self.bucket.delete("cidadão/0/rg.jpg")
        self.points.buckets.put("cidadão/1/rg.jpg", b"overwritten", metadata={"iv": "ff"})
        self.points.buckets.put("novo/9", b"newer than the point")

    def rows(self) -> object:
        return rows_of(self.shop.server.dsn(), self.database)

    def databases(self) -> set[str]:
        with self.shop.server.connect() as connection:
            found = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{self.database}%",)
            ).fetchall()
        return {name for (name,) in found}


@pytest.fixture
def platform(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Platform]:
    name = f"plat_{secrets.token_hex(4)}"
    with postgres.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with postgres.connect(name) as connection:
        connection.execute(SCHEMA.encode())
    with Workshop.open(tmp_path, postgres, name) as opened:
        quick = PostgresSwap(
            runtime.postgres_servers(opened.work.settings)[opened.target],
            grace=timedelta(milliseconds=500),
        )
        shop = replace(opened, tools=replace(opened.tools, swapping={opened.target: quick}))
        points = PointShop(
            BucketShop(
                shop,
                TroubledBucket(BUCKET.name),
                lambda name: MemoryBucket(name, made=False),
            )
        )
        rule = Reference(
            name="documento",
            database=name,
            bucket=BUCKET.name,
            table="public.documento",
            key="caminho",
            size="tamanho",
            hash="hash_arquivo",
            hash_in="hash",
            needs=("iv",),
        )
        points.tools = replace(points.tools, references=(rule,))
        made = Platform(points, LedgerWorkers(points.ledger, points.tools), None)  # type: ignore[arg-type]
        for number in range(6):
            made.add(f"cidadão/{number}/rg.jpg", b"document %d" % number)
        made.point = points.form()
        yield made
    with postgres.connect() as connection:
        for found in made.databases():
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(found))
            )


# --- beside


def test_everything_comes_back_beside_and_is_compared(platform: Platform) -> None:
    rows, objects = platform.rows(), contents(platform.bucket)
    platform.ruin()
    ruined = platform.rows(), contents(platform.bucket)
    job = platform.restore()
    assert (job.state, job.result["state"]) == ("succeeded", "restored"), job.error
    assert job.result["point"] == str(platform.point.id)
    assert job.result["check"]["references"] == 6
    assert not any(job.result["check"][kind] for kind in ("missing", "hash", "size", "metadata"))
    database = platform.part(job, "postgres").result["database"]
    place = platform.points.tools.other_bucket(job.result["buckets"][str(BUCKET)]["into"])
    assert rows_of(platform.shop.server.dsn(), database) == rows
    assert contents(place) == objects
    assert (platform.rows(), contents(platform.bucket)) == ruined, "the originals are as they were"


def test_a_copy_that_lost_an_object_is_told(platform: Platform) -> None:
    job = platform.workers.ask("restore_all", {})
    platform.until(job, "check")
    into = platform.workers.ledger.job(job.id).result["buckets"][str(BUCKET)]["into"]
    platform.points.tools.other_bucket(into).delete("cidadão/2/rg.jpg")
    ended = platform.workers.finish(job)
    assert ended.state == "failed"
    assert "not as they say: 1 (missing 1)" in (ended.error or {})["sentence"]


@pytest.fixture
def faulty(platform: Platform) -> Platform:
    """Add a row whose document was never stored, and make a recovery point that knows it."""
    platform.execute("INSERT INTO documento (caminho) VALUES ('never stored')")
    platform.point = platform.points.form()
    return platform


def test_known_faults_of_the_point_keep_nothing_from_coming_back(faulty: Platform) -> None:
    assert faulty.point.faults == 1
    job = faulty.restore()
    assert (job.state, job.result["check"]["missing"]) == ("succeeded", 1)


def test_a_new_fault_is_told_also_when_a_known_one_is_gone(faulty: Platform) -> None:
    job = faulty.workers.ask("restore_all", {})
    faulty.until(job, "check")
    into = faulty.workers.ledger.job(job.id).result["buckets"][str(BUCKET)]["into"]
    copy = faulty.points.tools.other_bucket(into)
    copy.put("never stored", iter([b"now"]), size=3, headers={}, metadata={"iv": "0f"}, tags={})
    copy.delete("cidadão/2/rg.jpg")
    ended = faulty.workers.finish(job)
    assert ended.state == "failed"
    assert "1 (missing 1), of which 1 were as they say" in (ended.error or {})["sentence"]


def test_where_the_list_of_known_faults_is_gone_their_number_counts(faulty: Platform) -> None:
    job = faulty.workers.ask("restore_all", {})
    faulty.until(job, "check")
    # As retention does when the point becomes too old meanwhile.
    faulty.points.tools.repository.remove_point(faulty.point.id)
    assert faulty.workers.finish(job).state == "succeeded"


def test_without_references_everything_comes_back_and_is_not_compared(platform: Platform) -> None:
    platform.use_references(())
    platform.point = platform.points.form()
    job = platform.restore()
    assert job.state == "succeeded"
    assert not {"check", "not_checked"} & set(job.result)


def test_references_that_this_worker_lacks_are_told(platform: Platform) -> None:
    platform.use_references(())
    job = platform.restore()
    assert job.state == "succeeded"
    assert "are not those of PGBEN_REFERENCES on this worker" in job.result["not_checked"]


# --- what is restored


def test_a_moment_chooses_the_newest_point_of_then_or_before(platform: Platform) -> None:
    platform.add("depois/1", b"stored after the first point")
    later = platform.points.form()
    assert later.moment > platform.point.moment
    job = platform.restore(at=(later.moment - timedelta(milliseconds=1)).isoformat())
    assert job.result["point"] == str(platform.point.id)
    assert platform.restore(point=str(platform.point.id)).result["point"] == str(platform.point.id)
    assert platform.restore().result["point"] == str(later.id)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"at": "2020-01-01T00:00:00Z"}, "of that moment or before; the first one is of"),
        ({"at": "2999-01-01T00:00:00Z"}, "has not come yet"),
        ({"point": "20200101T000000Z-000000"}, "there is no recovery point '20200101T000000Z"),
    ],
)
def test_what_is_not_there_is_refused(
    platform: Platform, request_: dict[str, Any], sentence: str
) -> None:
    job = platform.restore(**request_)
    assert job.ended
    assert sentence in (job.error or {})["sentence"]
    assert platform.workers.ledger.jobs(open_only=True) == []


def test_a_point_with_a_damaged_member_is_not_restored(platform: Platform) -> None:
    folder = platform.shop.repository / "packs" / str(BUCKET)
    pack = next(folder.rglob("*.age"))
    pack.write_bytes(pack.read_bytes()[:-1])
    with pytest.raises(IntegrityError):
        platform.points.buckets.run("verify", {"level": "full"})
    job = platform.restore()
    assert "no verified recovery point among those there are: 1" in (job.error or {})["sentence"]
    named = platform.restore(point=str(platform.point.id))
    assert named.state == "refused"
    assert f"of '{BUCKET}' is damaged" in (named.error or {})["sentence"]
    assert platform.databases() == {platform.database}


def test_a_member_that_is_not_protected_here_is_refused(platform: Platform) -> None:
    workers = platform.workers
    workers.tools = replace(workers.tools, protected=frozenset({BUCKET}))
    job = platform.restore()
    assert job.state == "refused"
    assert f"does not protect: {platform.shop.target}" in (job.error or {})["sentence"]


@pytest.mark.parametrize("confirm", [[], [BUCKET.name], ["both", "and", BUCKET.name]])
def test_every_name_is_confirmed_or_nothing_is_touched(
    platform: Platform, confirm: list[str]
) -> None:
    before = platform.rows(), contents(platform.bucket)
    given = [platform.database if one == "and" else one for one in confirm]
    job = platform.restore(in_place=True, confirm=given)
    assert job.state == "refused"
    expected = (
        "'both' was confirmed" if "both" in given else f"would be replaced: {platform.database}"
    )
    if not confirm:
        expected = f"would be replaced: {', '.join(sorted([platform.database, BUCKET.name]))}"
    assert expected in (job.error or {})["sentence"]
    assert f"confirm={platform.database}" in (job.error or {})["hint"]
    assert (platform.rows(), contents(platform.bucket)) == before
    assert platform.workers.ledger.jobs(open_only=True) == []


# --- in place


def test_everything_comes_back_in_place(platform: Platform) -> None:
    rows, objects = platform.rows(), contents(platform.bucket)
    platform.ruin()
    job = platform.restore_in_place()
    assert (job.state, job.result["state"]) == ("succeeded", "replaced"), job.error
    assert platform.rows() == rows
    now = contents(platform.bucket)
    assert now.pop("novo/9")[0] == b"newer than the point"
    assert now == objects
    assert job.result["newer_objects"] == 1
    assert "payments" in job.result["warning"]
    told = job.result["buckets"][str(BUCKET)]
    assert (told["added"], told["written"]) == (1, 1)
    assert job.result["databases"][str(platform.shop.target)]["replaced"] in platform.databases()
    aside = platform.points.tools.other_bucket(told["aside"])
    assert [data for data, *_ in contents(aside).values()] == [b"overwritten"]


def test_one_undo_turns_every_swap_back(platform: Platform) -> None:
    platform.ruin()
    ruined = platform.rows()
    job = platform.restore_in_place()
    undone = platform.workers.run("undo_all", {"job": str(job.id), "confirm": [platform.database]})
    assert (undone.state, undone.result["state"]) == ("succeeded", "undone"), undone.error
    assert platform.rows() == ruined
    again = platform.workers.run("undo_all", {"job": str(job.id), "confirm": [platform.database]})
    assert again.state == "refused"
    assert "swapped nothing that is still in its place" in (again.error or {})["sentence"]


def test_until_the_swaps_only_missing_objects_are_added(platform: Platform) -> None:
    platform.ruin()
    rows, before = platform.rows(), contents(platform.bucket)
    job = platform.workers.ask(
        "restore_all", {"in_place": True, "confirm": [platform.database, BUCKET.name]}
    )
    platform.until(job, "swap")
    assert platform.rows() == rows
    now = contents(platform.bucket)
    assert set(now) - set(before) == {"cidadão/0/rg.jpg"}
    assert {key: now[key] for key in before} == before
    told = platform.workers.ledger.job(job.id).result["buckets"][str(BUCKET)]
    assert told["added"] == 1
    assert platform.listed(told["added_list"]) == {"added-1.jsonl": ["cidadão/0/rg.jpg"]}


def test_a_restore_that_ends_before_the_swaps_leaves_rows_and_objects(platform: Platform) -> None:
    platform.ruin()
    rows, before = platform.rows(), contents(platform.bucket)
    job = platform.workers.ask(
        "restore_all", {"in_place": True, "confirm": [platform.database, BUCKET.name]}
    )
    platform.until(job, "check")
    platform.bucket.delete("cidadão/3/rg.jpg")
    del before["cidadão/3/rg.jpg"]
    ended = platform.workers.finish(job)
    assert ended.state == "failed"
    assert "(missing 1)" in (ended.error or {})["sentence"]
    assert platform.rows() == rows
    assert {key: contents(platform.bucket)[key] for key in before} == before
    parts = [one for one in platform.workers.ledger.jobs() if one.kind == "restore"]
    assert [one.state for one in parts] == ["cancelled", "cancelled"]
    platform.clean()
    assert platform.databases() == {platform.database}


def test_a_part_that_fails_ends_the_whole_before_anything_is_replaced(platform: Platform) -> None:
    platform.ruin()
    before = platform.rows()
    pack = next((platform.shop.repository / "packs" / str(BUCKET)).rglob("*.age"))
    good = pack.read_bytes()
    job = platform.workers.ask(
        "restore_all", {"in_place": True, "confirm": [platform.database, BUCKET.name]}
    )
    platform.until(job, "databases")
    # Only an object that would be overwritten lies in it: it is read before anything is replaced.
    platform.points.buckets.put("cidadão/0/rg.jpg", b"overwritten")
    pack.write_bytes(good[:-1])
    ended = platform.workers.finish(job)
    assert ended.state == "failed"
    assert "objects that cannot be put back: 2 lie in packs" in (ended.error or {})["sentence"]
    assert "(no database was replaced)" in (ended.error or {})["sentence"]
    assert platform.rows() == before
    platform.clean()
    assert platform.databases() == {platform.database}


def test_what_somebody_stores_meanwhile_is_not_overwritten_before_the_swaps(
    platform: Platform,
) -> None:
    key = "cidadão/0/rg.jpg"
    rows, objects = platform.rows(), contents(platform.bucket)
    platform.bucket.delete(key)
    job = platform.workers.ask(
        "restore_all", {"in_place": True, "confirm": [platform.database, BUCKET.name]}
    )
    platform.until(job, "databases")
    platform.workers.advance(job)
    part = next(
        one for one in platform.workers.ledger.jobs(open_only=True) if one.target == str(BUCKET)
    )
    platform.workers.advance(part, before="add")
    platform.points.buckets.put(key, b"stored meanwhile", metadata={"iv": "aa"})
    platform.until(job, "swap")
    assert contents(platform.bucket)[key][0] == b"stored meanwhile"
    ended = platform.workers.finish(job)
    assert ended.state == "succeeded", ended.error
    assert (platform.rows(), contents(platform.bucket)) == (rows, objects)
    told = ended.result["buckets"][str(BUCKET)]
    assert (told["added"], told["written"]) == (0, 1)
    aside = platform.points.tools.other_bucket(told["aside"])
    assert [data for data, *_ in contents(aside).values()] == [b"stored meanwhile"]


def use_hooks(platform: Platform, folder: Path, *, after: str = "exit 0") -> Path:
    """Let a restore worker run commands around swaps; return the file to which they write."""
    said = folder / "said"
    for name, body in (("before", "exit 0"), ("after", after)):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho "$PGBEN_MOMENT $PGBEN_DATABASES" >> {said}\n{body}\n',
            encoding="utf-8",
        )
        program.chmod(0o755)
    commands = SwapHooks(
        before=(str(folder / "before"),), after=(str(folder / "after"),), timezone="UTC"
    )
    platform.workers.tools = replace(platform.workers.tools, hooks=commands)
    return said


def test_the_commands_around_swaps_run_once_for_all(platform: Platform, tmp_path: Path) -> None:
    said = use_hooks(platform, tmp_path)
    platform.ruin()
    job = platform.restore_in_place()
    assert job.state == "succeeded", job.error
    once = [f"before {platform.database}", f"after {platform.database}"]
    assert said.read_text("utf-8").splitlines() == once
    undone = platform.workers.run("undo_all", {"job": str(job.id), "confirm": [platform.database]})
    assert undone.state == "succeeded", undone.error
    assert said.read_text("utf-8").splitlines() == [*once, *once]


def test_a_failing_command_after_the_swaps_is_told(platform: Platform, tmp_path: Path) -> None:
    use_hooks(platform, tmp_path, after="exit 3")
    job = platform.restore_in_place()
    assert job.state == "succeeded", job.error
    assert "PGBEN_AFTER_SWAP failed" in job.result["after_swap_failed"]
    raised = alarm_of_job(job)
    assert raised is not None
    assert raised.kind == "after_swap"


def test_a_failing_command_before_the_swaps_leaves_everything(
    platform: Platform, tmp_path: Path
) -> None:
    platform.ruin()
    before = platform.rows()
    use_hooks(platform, tmp_path)
    (tmp_path / "before").write_text("#!/bin/sh\nexit 4\n", encoding="utf-8")
    job = platform.restore_in_place()
    assert job.state == "failed"
    assert "PGBEN_BEFORE_SWAP failed, so nothing was replaced" in (job.error or {})["sentence"]
    assert platform.rows() == before
    platform.clean()
    assert platform.databases() == {platform.database}


def test_a_further_attempt_goes_on_where_the_last_one_failed(platform: Platform) -> None:
    rows, objects = platform.rows(), contents(platform.bucket)
    platform.ruin()
    job = platform.workers.ask(
        "restore_all", {"in_place": True, "confirm": [platform.database, BUCKET.name]}
    )
    platform.until(job, "objects")
    assert platform.rows() == rows, "the database was swapped"
    part = next(
        one for one in platform.workers.ledger.jobs(open_only=True) if one.target == str(BUCKET)
    )
    assert platform.workers.ledger.cancel(part.id, error={"sentence": "somebody cancelled it"})
    ended = platform.workers.finish(job)
    assert ended.state == "failed"
    assert "somebody cancelled it" in (ended.error or {})["sentence"]
    assert f"swapped already: {platform.shop.target}" in (ended.error or {})["sentence"]
    assert platform.workers.ledger.queue_again(job.id)
    again = platform.workers.finish(job)
    assert again.state == "succeeded", again.error
    assert platform.rows() == rows
    assert {key: contents(platform.bucket)[key] for key in objects} == objects
    swaps = [
        one
        for one in platform.workers.ledger.jobs()
        if one.kind == "restore" and one.target == str(platform.shop.target)
    ]
    assert len(swaps) == 1, "what was swapped is not loaded and swapped once more"


def test_a_part_of_nothing_is_refused(platform: Platform) -> None:
    other = platform.workers.ask("verify", {})
    fields = {"target": str(platform.shop.target), "swap": True, "confirm": platform.database}
    job = platform.workers.run(
        "restore", {**fields, "part_of": str(other.id)}, target=str(platform.shop.target)
    )
    assert job.state == "refused"
    assert (
        "is no restore or undo of everything that asked for this one"
        in (job.error or {})["sentence"]
    )
    lost = platform.workers.run(
        "restore", {**fields, "part_of": str(uuid4())}, target=str(platform.shop.target)
    )
    assert "there is no job" in (lost.error or {})["sentence"]
    assert platform.databases() == {platform.database}


def test_an_undo_names_a_restore_of_everything(platform: Platform) -> None:
    beside = platform.restore()
    job = platform.workers.run("undo_all", {"job": str(beside.id)})
    assert "swapped nothing" in (job.error or {})["sentence"]
    (part,) = (
        one
        for one in platform.workers.ledger.jobs()
        if one.target == str(platform.shop.target) and one.kind == "restore"
    )
    wrong = platform.workers.run("undo_all", {"job": str(part.id)})
    assert "is no restore of everything" in (wrong.error or {})["sentence"]


# --- in one process


class Interrupting(Nobody):
    """Somebody who presses Ctrl-C when a step of a database's restore begins."""

    def __init__(self, step: str) -> None:
        self.step = step
        self._chain: Chain | None = None

    def turn_to(self, chain: Chain) -> None:
        self._chain = chain

    def show_steps(self) -> None:
        job = self._chain.job if self._chain else None
        if job and job.state == "running" and (job.step or "").endswith(self.step):
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["load", "postgres.swap"])
def test_an_interrupted_step_is_given_back_and_goes_on(platform: Platform, step: str) -> None:
    rows, objects = platform.rows(), contents(platform.bucket)
    platform.ruin()
    job = platform.workers.ask(
        "restore_all", {"in_place": True, "confirm": [platform.database, BUCKET.name]}
    )
    ledger, tools = platform.workers.ledger, platform.workers.tools
    with pytest.raises(KeyboardInterrupt):
        LedgerJobs(ledger, tools, onlooker=Interrupting(step)).finish(job)
    (part,) = (one for one in ledger.jobs(open_only=True) if one.target.startswith("postgres/"))
    assert part.state == "waiting"
    assert (part.step or "").endswith(step)
    ended = LedgerJobs(ledger, tools).finish(job)
    assert ended.state == "succeeded", ended.error
    assert ledger.job(part.id).attempt == 1, "it went on, and did not begin anew"
    assert platform.rows() == rows
    found = contents(platform.bucket)
    assert {key: found[key] for key in objects} == objects


def test_what_another_process_works_on_ends_the_wait(platform: Platform) -> None:
    job = platform.workers.ask("restore_all", {})
    with holding(platform.shop.work.database, [job_lock(job.id)]):
        with pytest.raises(TargetBusy, match="another process works on it"):
            platform.workers.finish(job)
        assert platform.workers.ledger.job(job.id).state == "waiting"
    assert platform.workers.finish(job).state == "succeeded"


def test_the_ends_of_a_restore_and_of_its_parts_are_told(platform: Platform) -> None:
    told: list[tuple[str, str]] = []
    jobs = LedgerJobs(
        platform.workers.ledger,
        platform.workers.tools,
        on_end=lambda job: told.append((job.kind, job.state)),
    )
    assert jobs.finish(platform.workers.ask("restore_all", {})).state == "succeeded"
    assert told == [
        ("restore", "succeeded"),
        ("restore", "succeeded"),
        ("restore_all", "succeeded"),
    ]


# --- what an attack on it found


def test_an_undone_swap_is_made_anew_by_a_further_attempt(platform: Platform) -> None:
    rows = platform.rows()
    platform.ruin()
    job = platform.begin()
    platform.until(job, "objects")
    platform.cancel(platform.part_of(job, BUCKET))
    assert platform.workers.finish(job).state == "failed"
    request = {"job": str(job.id), "confirm": [platform.database]}
    assert platform.workers.run("undo_all", request).state == "succeeded"
    assert platform.rows() != rows
    assert platform.workers.ledger.queue_again(job.id)
    again = platform.workers.finish(job)
    assert (again.state, again.result["state"]) == ("succeeded", "replaced"), again.error
    assert platform.rows() == rows


def test_a_further_attempt_after_the_replaced_database_was_removed_swaps_nothing(
    platform: Platform,
) -> None:
    platform.ruin()
    job = platform.begin()
    platform.until(job, "objects")
    platform.cancel(platform.part_of(job, BUCKET))
    assert platform.workers.finish(job).state == "failed"
    database = platform.part_of(job, platform.shop.target)
    swap = platform.shop.work.swaps.swap_of_job(database.id)
    assert swap is not None
    assert platform.workers.tools.swapping[platform.shop.target].drop(swap) == "dropped"
    platform.shop.work.swaps.dropped(swap)
    platform.add("depois/1", b"stored since the swap")
    since = platform.rows()
    assert platform.workers.ledger.queue_again(job.id)
    again = platform.workers.finish(job)
    assert again.state == "succeeded", again.error
    assert platform.rows() == since, "what was written since the swap is still there"
    assert platform.part_of(job, platform.shop.target).id == database.id


def test_nothing_swaps_for_a_whole_that_was_cancelled_after_it_let_its_parts_go(
    platform: Platform,
) -> None:
    platform.ruin()
    before = platform.rows()
    job = platform.begin()
    platform.until(job, "swap")
    platform.workers.advance(job)
    part = platform.part_of(job, platform.shop.target)
    assert part.key in platform.workers.ledger.job(job.id).context["go"]
    assert platform.workers.ledger.cancel(job.id, error={"sentence": "somebody cancelled it"})
    ended = platform.workers.advance(part)
    assert ended.state == "refused"
    assert "is cancelled" in (ended.error or {})["sentence"]
    platform.clean()
    for one in (BUCKET, platform.shop.target):
        again = platform.part_of(job, one)
        if again.state == "cancelled":
            assert platform.workers.ledger.queue_again(again.id)
            assert platform.workers.finish(again).state == "refused"
    assert platform.rows() == before


def test_no_part_is_let_go_once_another_has_failed(platform: Platform, tmp_path: Path) -> None:
    said = use_hooks(platform, tmp_path)
    platform.ruin()
    before = platform.rows()
    job = platform.begin()
    platform.until(job, "swap")
    platform.cancel(platform.part_of(job, BUCKET))
    ended = platform.workers.finish(job)
    assert ended.state == "failed"
    assert "(no database was replaced)" in (ended.error or {})["sentence"]
    assert "go" not in ended.context
    assert not said.exists(), "nothing was stopped"
    assert platform.rows() == before


def test_a_part_that_has_to_begin_again_is_waited_for_before_any_swap(platform: Platform) -> None:
    rows, objects = platform.rows(), contents(platform.bucket)
    platform.ruin()
    job = platform.begin()
    platform.until(job, "swap")
    part = platform.part_of(job, BUCKET)
    # Its node died: the reconciler queues it, and its context is that of the time before.
    with platform.shop.work.database.transaction() as cursor:
        cursor.execute("UPDATE job SET state = 'queued', step = NULL WHERE id = %s", (part.id,))
        cursor.execute("DELETE FROM lease WHERE job = %s", (part.id,))
    platform.workers.advance(job)
    assert "go" not in platform.workers.ledger.job(job.id).context
    assert platform.rows() != rows
    ended = platform.workers.finish(job)
    assert ended.state == "succeeded", ended.error
    assert platform.rows() == rows
    assert {key: contents(platform.bucket)[key] for key in objects} == objects
    # The second attempt found nothing missing; what the first one added stays listed.
    told = ended.result["buckets"][str(BUCKET)]
    assert platform.listed(told["added_list"]) == {"added-1.jsonl": ["cidadão/0/rg.jpg"]}


def test_an_undo_leaves_out_a_swap_that_replaced_nothing(platform: Platform) -> None:
    platform.shop.server.drop(platform.database)
    job = platform.restore_in_place()
    assert job.state == "succeeded", job.error
    undone = platform.workers.run("undo_all", {"job": str(job.id), "confirm": []})
    assert undone.state == "refused"
    assert "swapped nothing that is still in its place" in (undone.error or {})["sentence"]


def test_the_parts_of_a_cancelled_undo_undo_nothing(platform: Platform) -> None:
    platform.ruin()
    job = platform.restore_in_place()
    restored = platform.rows()
    undo = platform.workers.ask("undo_all", {"job": str(job.id), "confirm": [platform.database]})
    platform.workers.advance(undo)
    part = platform.part_of(undo, platform.shop.target)
    platform.cancel(undo)
    assert platform.workers.ledger.job(part.id).state == "cancelled"
    assert platform.workers.ledger.queue_again(part.id)
    assert platform.workers.finish(part).state == "refused"
    assert platform.rows() == restored


def test_a_further_attempt_of_an_undo_that_is_done_stops_nothing_once_more(
    platform: Platform, tmp_path: Path
) -> None:
    job = platform.restore_in_place()
    said = use_hooks(platform, tmp_path)
    undo = platform.workers.ask("undo_all", {"job": str(job.id), "confirm": [platform.database]})
    platform.workers.advance(undo)
    part = platform.workers.finish(platform.part_of(undo, platform.shop.target))
    assert part.result["state"] == "undone"
    platform.cancel(undo)
    assert platform.workers.ledger.queue_again(undo.id)
    again = platform.workers.finish(undo)
    assert again.state == "succeeded", again.error
    once = [f"before {platform.database}", f"after {platform.database}"]
    assert said.read_text("utf-8").splitlines() == once


def test_a_rule_that_depends_on_the_time_is_told_and_stops_nothing(platform: Platform) -> None:
    rule = platform.points.tools.references[0]
    fresh = rule.model_copy(update={"where": "pg_catalog.current_database() NOT LIKE '%restored%'"})
    platform.use_references((fresh,))
    platform.point = platform.points.form()
    job = platform.restore()
    assert job.state == "succeeded", job.error
    assert "has 0 rows that name objects, its backup 6" in job.result["not_checked"]


def test_a_copy_that_somebody_dropped_is_no_restore(platform: Platform) -> None:
    job = platform.workers.ask("restore_all", {})
    platform.until(job, "check")
    told = platform.workers.ledger.job(job.id).result["databases"][str(platform.shop.target)]
    platform.shop.server.drop(told["database"])
    ended = platform.workers.finish(job)
    assert ended.state == "failed"
    assert "is gone" in (ended.error or {})["sentence"]
    assert platform.workers.ledger.queue_again(job.id)
    again = platform.workers.finish(job)
    assert again.state == "succeeded", again.error


def test_an_object_that_is_stored_again_while_its_restore_waits_is_put_back(
    platform: Platform,
) -> None:
    key = "cidadão/0/rg.jpg"
    objects = contents(platform.bucket)
    platform.bucket.delete(key)
    job = platform.begin()
    platform.until(job, "swap")
    platform.points.buckets.put(key, b"stored over what was added")
    ended = platform.workers.finish(job)
    assert ended.state == "succeeded", ended.error
    assert contents(platform.bucket) == objects
