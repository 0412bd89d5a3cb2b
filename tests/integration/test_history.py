"""The history's files, written from a real catalog: each end once, whatever happens meanwhile."""

from __future__ import annotations

import csv
import os
import resource
import secrets
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import enumerate as threads
from typing import Any

import pytest
from structlog.testing import capture_logs

from pgben_tasks import runtime
from pgben_tasks.adapters.catalog.history import HISTORY_LOCK
from pgben_tasks.adapters.catalog.locks import holding
from pgben_tasks.adapters.catalog.recovery import Recovery
from pgben_tasks.adapters.history import IDENTITY, HistoryFolder
from pgben_tasks.app import app
from pgben_tasks.contracts import JobRef
from pgben_tasks.domain.history import COLUMNS, HEADER
from pgben_tasks.domain.job import JobKind
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.health.doctor import activity
from pgben_tasks.health.doctor.installation import Installation
from pgben_tasks.operations.history import write_history
from pgben_tasks.tasks import reconciler
from tests.support.cli_site import Site, clean_environment
from tests.support.installation import Crash
from tests.support.workshop import Workshop

TABLE, LOG = "backup-history.csv", "backup-log.txt"
ERROR = {"type": "PermanentError", "sentence": "no such thing", "hint": "mend it"}
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Place:
    """A catalog, and the two folders that its history is written to."""

    work: runtime.Workplace
    folder: Path

    @property
    def databases(self) -> Path:
        return self.folder / "databases"

    @property
    def buckets(self) -> Path:
        return self.folder / "buckets"

    def write(self, *, node: str = "one") -> int:
        """Do what the tick does for the history."""
        folders = runtime.history_folders(self.work.settings)
        return write_history(self.work.history, folders, zone=self.work.zone, node=node)

    def ask(self, kind: JobKind = "backup", target: str = "postgres/pgben") -> Any:
        """Ask for a job."""
        request = {"target": target}
        return self.work.ledger.request(
            kind, target=target, key=secrets.token_hex(8), request=request, requested_by="ana"
        )[0]

    def claim(self, job: Any) -> JobRef:
        """Begin a job."""
        ledger = self.work.ledger
        ref = ledger.claim(
            job.id,
            node="n",
            first_step="x",
            lease=(str(job.id), "job"),
            context={},
            root_task="",
            wait=HOUR,
        )
        return ledger.begin_step(ref, "x", node="n")

    def end(self, kind: JobKind = "backup", target: str = "postgres/pgben", **result: Any) -> Any:
        """Let a job succeed."""
        job = self.ask(kind, target)
        self.work.ledger.end_step(
            self.claim(job), "x", result={"state": "verified", **result}, following=None, wait=HOUR
        )
        return job

    def fail(self, job: Any | None = None) -> Any:
        """Let a job fail."""
        job = job or self.ask()
        self.work.ledger.fail(self.claim(job), state="failed", error=ERROR)
        return job

    def rows(self, folder: Path | None = None, name: str = TABLE) -> list[dict[str, str]]:
        """Read a table."""
        with ((folder or self.databases) / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def jobs(self, folder: Path | None = None) -> list[str]:
        """Return the jobs of a table, in its order, which must be those of the log."""
        found = [row["job"] for row in self.rows(folder)]
        log = ((folder or self.databases) / LOG).read_text(encoding="utf-8").splitlines()
        assert [line.rpartition("(job ")[2][:8] for line in log] == [job[:8] for job in found]
        return found


@pytest.fixture(scope="module")
def workshop(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    with Workshop.open(tmp_path_factory.mktemp("workshop"), postgres, "pgben") as made:
        yield made


@pytest.fixture
def place(workshop: Workshop, tmp_path: Path) -> Place:
    with workshop.work.database.transaction() as cursor:
        cursor.execute("TRUNCATE job, job_end, history_folder, history_outage CASCADE")
    made = Place(workshop.work, tmp_path)
    folders = {"backup_dir": made.databases, "minio_backup_dir": made.buckets}
    return replace(
        made, work=runtime.Workplace(made.work.settings.model_copy(update=dict(folders)))
    )


def ids(*jobs: Any) -> list[str]:
    return [str(job.id) for job in jobs]


# What is written


def test_each_end_has_one_line_in_the_files_of_its_kind(place: Place) -> None:
    database = place.end(stored_bytes=42, rows=7)
    bucket = place.end(target="bucket/papers", objects=2)
    everything = place.end("verify", "*")
    assert place.write() == 2
    assert place.write() == 0
    assert place.jobs() == ids(database, everything)
    assert place.jobs(place.buckets) == ids(bucket, everything)
    first = place.rows()[0]
    assert (first["status"], first["size"], first["requested_by"]) == ("verified", "42", "ana")
    assert tuple(first) == COLUMNS
    failed = place.fail()
    place.write()
    assert place.jobs() == ids(database, everything, failed)


def test_the_tick_writes_it(place: Place) -> None:
    job = place.end()
    assert reconciler.tick(place.work, app)["history"] == 2
    assert place.jobs() == ids(job)
    assert reconciler.tick(place.work, app)["history"] == 0


def test_every_attempt_that_failed_or_was_lost_has_its_line(place: Place) -> None:
    ledger, job = place.work.ledger, place.ask()
    ledger.fail_unclaimed(job.id, state="refused", error=ERROR)
    with place.work.database.transaction() as cursor:
        cursor.execute("UPDATE job SET state = 'queued' WHERE id = %s", (job.id,))
    place.fail(job)
    assert ledger.queue_again(job.id)
    place.claim(job)
    recovery = Recovery(place.work.database, stale_after=timedelta(0))
    (stalled,) = recovery.stalled()
    assert recovery.begin_again(stalled)
    ledger.cancel(job.id, error={**ERROR, "sentence": "ana cancelled it"})
    assert ledger.queue_again(job.id)
    ledger.end_step(place.claim(job), "x", result={}, following=None, wait=HOUR)
    place.write()
    rows = place.rows()
    assert [(row["status"], row["attempt"]) for row in rows] == [
        ("refused", "0"),
        ("failed", "1"),
        ("lost", "2"),
        ("cancelled", "2"),
        ("succeeded", "3"),
    ]
    assert place.jobs() == ids(job) * 5


def test_ends_of_many_processes_at_once_are_all_written_in_their_order(place: Place) -> None:
    def ends() -> None:
        for _ in range(5):
            place.fail()

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(ends) for _ in range(4)]
        while not all(one.done() for one in running):
            place.write()
        for one in running:
            one.result()
    place.write()
    with place.work.database.transaction() as cursor:
        numbered = cursor.execute("SELECT job::text AS job FROM job_end ORDER BY number").fetchall()
    assert place.jobs() == [row["job"] for row in numbered]
    assert len(numbered) == 20


def test_one_folder_of_both_kinds_has_all_lines_in_their_order(place: Place) -> None:
    same = {"minio_backup_dir": place.databases}
    place = replace(
        place, work=runtime.Workplace(place.work.settings.model_copy(update=dict(same)))
    )
    jobs = [place.end(), place.end(target="bucket/papers"), place.end("verify", "*")]
    assert place.write() == 1
    jobs.append(place.end(target="bucket/papers"))
    assert place.write() == 1
    assert place.jobs() == ids(*jobs)


# Crashes


#: The moments at which a writer may die: before or after each change, and before the note.
MOMENTS = ["before table", "after table", "before log", "after log", "before note"]


class Dying(HistoryFolder):
    """A folder whose process dies at a moment."""

    def __init__(self, path: Path, moment: str) -> None:
        super().__init__(path)
        self.moment = moment

    def change(self, name: str, change: Any) -> None:
        which = "table" if name == TABLE else "log"
        if self.moment == f"before {which}":
            raise Crash
        super().change(name, change)
        if self.moment == f"after {which}" or (which, self.moment) == ("log", "before note"):
            raise Crash


@pytest.mark.parametrize("known", [True, False], ids=["known folder", "new folder"])
@pytest.mark.parametrize("rotated", [False, True], ids=["", "rotated"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_crash_at_any_moment_leaves_each_end_once(
    place: Place, moment: str, rotated: bool, known: bool
) -> None:
    jobs = [place.end()]
    if known:
        place.write()
    jobs += [place.fail(), place.end()]
    with pytest.raises(Crash):
        write_history(
            place.work.history,
            [("postgres", Dying(place.databases, moment))],
            zone=place.work.zone,
            node="one",
        )
    old: list[str] = []
    if rotated:
        for name in (TABLE, LOG):
            if (place.databases / name).exists():
                (place.databases / name).rename(place.databases / f"{name}.1")
        if (place.databases / f"{TABLE}.1").exists():
            old = [row["job"] for row in place.rows(name=f"{TABLE}.1")]
    jobs.append(place.end())
    place.write()
    assert old + [row["job"] for row in place.rows()] == ids(*jobs)
    if not rotated:
        assert place.jobs() == ids(*jobs)


def test_a_line_that_was_torn_is_written_anew(place: Place) -> None:
    first = place.end()
    place.write()
    second = place.end()
    note = place.work.history.note((place.databases / IDENTITY).read_text().strip())
    assert note is not None
    place.write()
    whole = {name: (place.databases / name).read_bytes() for name in (TABLE, LOG)}
    for name, content in whole.items():
        (place.databases / name).write_bytes(content[:-20])
    # As if the note had not been reached.
    with place.work.database.transaction() as cursor:
        cursor.execute("UPDATE history_folder SET number = %s", (note.number,))
    place.write()
    assert {name: (place.databases / name).read_bytes() for name in (TABLE, LOG)} == whole
    assert place.jobs() == ids(first, second)


def test_a_writer_that_is_killed_is_replaced_by_the_next(place: Place, workshop: Workshop) -> None:
    jobs = [place.end() for _ in range(3)]
    program = (
        "import os, signal\n"
        "from pgben_tasks import runtime\n"
        "from pgben_tasks.operations.history import write_history\n"
        "work = runtime.workplace()\n"
        "folders = runtime.history_folders(work.settings)\n"
        "record = work.history\n"
        "record.wrote = lambda *_a, **_k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_history(record, folders, zone=work.zone, node='killed')\n"
    )
    folders = {"BACKUP_DIR": place.databases, "MINIO_BACKUP_DIR": place.buckets}
    environment = {
        **os.environ,
        **workshop.environment,
        **{f"PGBEN_{name}": str(path) for name, path in folders.items()},
    }
    ran = subprocess.run([sys.executable, "-c", program], env=environment, check=False, timeout=60)
    assert ran.returncode == -9
    assert len(place.rows()) == 3
    # The lock of the killed process goes with its session.
    assert wait_until(lambda: place.write() >= 2, seconds=30)
    assert place.jobs() == ids(*jobs)


# Several writers


def test_a_second_writer_leaves_it_to_the_first(place: Place) -> None:
    job = place.end()
    with holding(place.work.database, [HISTORY_LOCK]):
        assert place.write(node="two") == 0
        assert not (place.databases / TABLE).exists()
    assert place.write(node="two") == 2
    assert place.jobs() == ids(job)


def test_two_nodes_with_one_folder_write_each_end_once(place: Place) -> None:
    jobs = []
    for number in range(6):
        jobs.append(place.end())
        place.write(node=f"node {number % 2}")
    assert place.jobs() == ids(*jobs)


def test_two_nodes_with_folders_of_their_own_each_have_all_of_it(
    place: Place, tmp_path: Path
) -> None:
    other = replace(
        place,
        folder=tmp_path / "other",
        work=runtime.Workplace(
            place.work.settings.model_copy(
                update={
                    "backup_dir": tmp_path / "other" / "databases",
                    "minio_backup_dir": tmp_path / "other" / "buckets",
                }
            )
        ),
    )
    jobs = [place.end(), place.end()]
    place.write(node="one")
    jobs.append(place.end())
    other.write(node="two")
    jobs.append(place.end())
    other.write(node="two")
    place.write(node="one")
    assert place.jobs() == other.jobs() == ids(*jobs)


# Folders that are away


def test_a_folder_that_is_away_is_told_once_and_caught_up(place: Place) -> None:
    first = place.end()
    place.write()
    kept = place.folder / "kept"
    place.databases.rename(kept)
    # A file stands where the folder was, so that nobody can make it, not even root.
    place.databases.write_text("", encoding="utf-8")
    with capture_logs() as logs:
        missed = [place.end(), place.fail()]
        place.write()
        place.write()
    assert [one["event"] for one in logs].count("history_not_written") == 1
    (outage,) = place.work.history.outages()
    assert (outage.node, outage.path) == ("one", str(place.databases))
    # The files of the other kind go on.
    everything = place.end("verify", "*")
    assert place.write() == 1
    assert place.jobs(place.buckets) == ids(everything)
    place.databases.unlink()
    kept.rename(place.databases)
    with capture_logs() as logs:
        place.write()
    assert [one["event"] for one in logs].count("history_written_again") == 1
    assert place.jobs() == ids(first, *missed, everything)
    assert place.work.history.outages() == []


def test_a_folder_that_hangs_keeps_nothing_else_waiting(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "_JUDGED_WITHIN", timedelta(seconds=1))
    place.end()
    place.databases.mkdir(exist_ok=True)
    pipe = place.databases / IDENTITY
    # Whoever opens it waits for a writer, as for a network folder that is away.
    os.mkfifo(pipe)
    try:
        with capture_logs() as logs:
            for _ in range(2):
                assert reconciler.tick(place.work, app)["history"] == 0
        why = [one["why"] for one in logs if one["event"] == "tick_part_failed"]
        said = [one for one in why if "'history'" in one]
        assert said == [
            "'history' did not answer within 1 s",
            "'history' still does not answer",
        ]
    finally:
        os.close(os.open(pipe, os.O_WRONLY))
        for one in threads():
            if one.name == "look at history":
                one.join(timeout=30)
    # The folder came back, and the writer that hung went on.
    assert (place.databases / TABLE).exists()


def test_a_disk_that_is_full_in_the_middle_of_a_line_is_caught_up(place: Place) -> None:
    jobs = [place.end()]
    place.write()
    whole = (place.databases / TABLE).read_bytes()
    jobs += [place.end(), place.fail()]
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 30, usual[1]))
    try:
        # The limit is one of every file of this process, such as that of its output.
        with capture_logs():
            place.write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert len((place.databases / TABLE).read_bytes()) == len(whole) + 30
    assert place.work.history.outages() != []
    place.write()
    assert place.jobs() == ids(*jobs)
    assert place.work.history.outages() == []


def test_lines_that_went_to_an_empty_mount_point_also_come_to_the_volume(place: Place) -> None:
    first = place.end()
    place.write()
    volume = place.folder / "volume"
    place.databases.rename(volume)
    second = place.end()
    place.write()
    # What lies below the mount point is whole by itself.
    assert place.jobs() == ids(first, second)
    place.databases.rename(place.folder / "below")
    volume.rename(place.databases)
    third = place.end()
    place.write()
    assert place.jobs() == ids(first, second, third)


# Files that were there before, and files that are moved


OLD = b"timestamp,status,filename,size\n2020-01-01 02:00:00,OK,pgben_1.sql.gz,99\n"
OLD_LOG = b"[2020-01-01 02:00:00] Backup conclu\xeddo\n"


def test_files_of_the_old_scripts_are_continued(place: Place) -> None:
    place.databases.mkdir()
    (place.databases / TABLE).write_bytes(OLD)
    (place.databases / TABLE).chmod(0o644)
    (place.databases / LOG).write_bytes(OLD_LOG)
    job = place.end()
    place.write()
    content = (place.databases / TABLE).read_bytes()
    assert content.startswith(HEADER.encode() + OLD[OLD.index(b"\n") :])
    assert (place.databases / LOG).read_bytes().startswith(OLD_LOG)
    assert [row["job"] for row in place.rows()] == [None, str(job.id)]
    assert (place.databases / TABLE).stat().st_mode & 0o777 == 0o644


def test_a_rotation_by_rename_is_survived(place: Place) -> None:
    first = place.end()
    place.write()
    for name in (TABLE, LOG):
        (place.databases / name).rename(place.databases / f"{name}.1")
    second = place.end()
    place.write()
    assert place.jobs() == ids(second)
    assert [row["job"] for row in place.rows(name=f"{TABLE}.1")] == ids(first)
    assert (place.databases / TABLE).stat().st_mode & 0o777 == 0o640


def test_what_was_written_before_an_older_catalog_came_back_is_not_written_twice(
    place: Place,
) -> None:
    jobs = [place.end(), place.end()]
    place.write()
    with place.work.database.transaction() as cursor:
        cursor.execute("UPDATE history_folder SET number = 0")
    jobs.append(place.end())
    place.write()
    assert place.jobs() == ids(*jobs)


def test_a_new_catalog_continues_the_files_of_the_old_one(place: Place) -> None:
    before = place.end()
    place.write()
    with place.work.database.transaction() as cursor:
        cursor.execute("TRUNCATE job, history_folder RESTART IDENTITY CASCADE")
    after = place.end()
    place.write()
    assert place.jobs() == ids(before, after)


# Written anew


def test_files_are_written_anew_and_keep_what_is_older_than_the_ledger(place: Place) -> None:
    place.databases.mkdir()
    (place.databases / TABLE).write_bytes(OLD)
    jobs = [place.end(), place.fail(), place.end("verify", "*")]
    place.write()
    whole = (place.databases / TABLE).read_bytes()
    (place.databases / TABLE).write_bytes(OLD + b"2020-01-01 03:00:00,OK,later.gz,1\n")
    (place.databases / LOG).unlink()
    assert place.write() == 0
    assert place.work.history.ask_rewrite() == 2
    assert place.write() == 2
    assert place.write() == 0
    assert [row["filename"] for row in place.rows()][:2] == ["pgben_1.sql.gz", "later.gz"]
    assert [row["job"] for row in place.rows()][2:] == ids(*jobs)
    assert (place.databases / TABLE).read_bytes().replace(
        b"2020-01-01 03:00:00,OK,later.gz,1\n", b""
    ) == whole
    assert len((place.databases / LOG).read_text(encoding="utf-8").splitlines()) == 3


def test_a_catalog_of_the_version_before_knows_the_ends_of_its_jobs(place: Place) -> None:
    succeeded, failed = place.end(), place.fail()
    unclaimed = place.ask()
    place.work.ledger.fail_unclaimed(unclaimed.id, state="refused", error=ERROR)
    database = place.work.database
    database.execute(
        "DROP TABLE job_end, history_folder, history_outage;"
        " DROP FUNCTION note_job_end, note_lost_attempt CASCADE;"
        " DELETE FROM migration WHERE version = 18"
    )
    assert database.migrate() == [18]
    place.write()
    assert place.jobs() == ids(succeeded, failed, unclaimed)
    another = place.end()
    place.write()
    assert place.jobs()[-1:] == ids(another)


# The command line


@pytest.fixture
def site(place: Place, workshop: Workshop) -> Site:
    folders = {"BACKUP_DIR": place.databases, "MINIO_BACKUP_DIR": place.buckets}
    environment = {
        **workshop.environment,
        **{f"PGBEN_{name}": str(path) for name, path in folders.items()},
        "PGBEN_LANGUAGE": "en",
    }
    return Site(place.folder, environment, clean_environment())


def test_the_command_prints_what_the_file_has(place: Place, site: Site) -> None:
    assert site.run("history").err == "no job has ended that fits\n"
    database = place.end(stored_bytes=2048, rows=7)
    place.fail()
    place.end(target="bucket/papers")
    everything = place.end("verify", "*")
    place.write()
    content = (place.databases / TABLE).read_text(encoding="utf-8").splitlines()
    both = site.run("history", "--csv").out.splitlines()
    assert [line for line in both if "bucket/papers" not in line] == content
    assert len(both) == len(content) + 1
    assert site.run("history", "--csv", "--target", "*").out.splitlines()[1:] == content[-1:]
    assert site.run("history", "--csv", "--limit", "1").out.splitlines()[1:] == content[-1:]
    found = site.run("history", "--json", "--target", "pgben").json["history"]
    assert [one["status"] for one in found] == ["failed", "verified"]
    assert found[1]["job"] == str(database.id)
    shown = site.run("history")
    assert shown.code == 0
    assert str(everything.id)[:8] in shown.out
    assert "2.00 KiB" in shown.out
    assert "no such thing" in shown.out


def test_the_command_takes_a_date_or_a_length_of_time(place: Place, site: Site) -> None:
    place.end()
    place.work.database.execute("UPDATE job_end SET at = at - interval '40 days'")
    job = place.end()
    for since in ("30d", "1d12h", (place.work.database.now() - HOUR).isoformat()):
        (one,) = site.run("history", "--json", "--since", since).json["history"]
        assert one["job"] == str(job.id)
    for since in ("41d", "999999d", "2020-01-01"):
        assert len(site.run("history", "--json", "--since", since).json["history"]) == 2
    refused = site.run("history", "--since", "some day")
    assert (refused.code, "neither a moment nor a length of time" in refused.err) == (2, True)


def test_the_command_has_the_files_written_anew(place: Place, site: Site) -> None:
    said = site.run("history", "--rewrite")
    assert "no folder has files of the history yet" in said.err
    assert "no maintenance worker lives" in said.err
    jobs = [place.end(), place.fail()]
    place.write()
    (place.databases / TABLE).write_text("", encoding="utf-8")
    (place.databases / LOG).write_text("", encoding="utf-8")
    assert "2 folders anew" in site.run("history", "--rewrite").err
    assert site.run("history", "--rewrite", "--json").json == {"rewrite": {"folders": 2}}
    place.write()
    assert place.jobs() == ids(*jobs)


@pytest.mark.parametrize(
    "words", [("--csv", "--json"), ("--rewrite", "--csv"), ("--rewrite", "--limit", "3")]
)
def test_what_excludes_each_other_is_refused(site: Site, words: tuple[str, ...]) -> None:
    assert site.run("history", *words).code == 2


def test_the_table_names_at_most_thirty_unless_asked(place: Place, site: Site) -> None:
    for _ in range(31):
        job = place.ask()
        place.work.ledger.fail_unclaimed(job.id, state="refused", error=ERROR)
    usual = site.run("history")
    assert (usual.out.count("refused"), "older ones are left out" in usual.err) == (30, True)
    assert site.run("history", "--limit", "31").out.count("refused") == 31


def test_doctor_tells_of_a_folder_that_cannot_be_written(place: Place) -> None:
    examined = Installation(place.work)
    assert [one.status for one in activity.history(examined)] == ["ok"]
    place.databases.write_text("", encoding="utf-8")
    place.end()
    place.write()
    (found,) = activity.history(examined)
    assert (found.status, found.code) == ("error", "unwritten")
    english, _ = found.written("en")
    assert str(place.databases) in english
    assert "node 'one'" in english
