"""Asking for work and following it; the tests play the workers' part in the ledger."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from datetime import UTC, datetime
from typing import Any

import pytest

from pgben_tasks import runtime
from pgben_tasks.adapters.catalog.workers import Workers
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.settings import Settings
from tests.support.cli_site import CANARY, UNKNOWN, Site, a_backup


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("backup", f"postgresql://ana:{CANARY}@host/db"),
        ("restore", f"ana:{CANARY}@host"),
        ("prune", f"host=x password={CANARY}"),
        ("verify", f"ana:{CANARY}@host/db"),
        ("list", f"postgresql://ana:{CANARY}@host/db"),
        ("show", f"ana:{CANARY}@host/db"),
        ("backup", "x" * 64),
        ("restore", "../../etc"),
        ("verify", "volume/x"),
        ("prune", "unknown"),
        ("sweep", f"host=x password={CANARY}"),
        ("sweep", "unknown"),
        ("acknowledge", f"ana:{CANARY}@host/db"),
        ("acknowledge", "not-an-id"),
    ],
)
def test_a_malformed_target_is_refused_before_anything_is_written(
    catalogless: Site, command: str, target: str
) -> None:
    said = catalogless.run(command, target)
    assert said.code == 2
    assert said.err.startswith("error: ")
    assert CANARY not in said.all


def test_contradicting_or_missing_arguments_are_usage_errors(catalogless: Site) -> None:
    for line in (
        ["backup"],
        ["backup", "pgben", "--all"],
        ["restore"],
        ["restore", "pgben", "--backup", UNKNOWN, "--at", "2026-11-22"],
        ["restore", "pgben", "--into", f"ana:{CANARY}@host"],
        ["restore", "pgben", "--at", "yesterday"],
        ["restore", "pgben", "--delete-extra"],
        ["restore", "pgben", "--dry-run"],
        ["restore", "pgben", "--confirm", "pgben"],
        ["objects", "diff", "bucket/documents", "not-an-id"],
        ["objects", "diff", UNKNOWN, UNKNOWN, UNKNOWN],
        ["verify", "--level", "deep"],
        ["nonsense"],
        ["list", "--nonsense"],
        ["list", "a", "b"],
        ["jobs", "--limit", "0"],
        ["jobs", "--limit", "many"],
        ["alarms", "--limit", "0"],
        ["jobs", "not-an-id"],
        ["jobs", "retry", "x"],
        ["cancel", ""],
        ["undo", "X", "--confirm", "pgben"],
        ["restore", "pgben", "--into", "x" * 64],
        ["restore", "bucket/unknown"],
    ):
        said = catalogless.run(*line)
        assert said.code == 2, (line, said.err)
        assert "error: " in said.err
        assert CANARY not in said.all
        assert not any(one in said.err for one in ("Input should", "(s)", "Value error")), said.err
    for line in (["backup", "--json"], ["list", "--nonsense", "--json"]):
        document = catalogless.run(*line)
        assert document.code == 2
        assert set(document.json["error"]) == {"type", "sentence", "hint"}
    buckets_have_none = catalogless.run(
        *("restore", "bucket/documents", "--roles"),
        PGBEN_BUCKETS="documents",
        PGBEN_MINIO_HOST="127.0.0.1:1",
        PGBEN_MINIO_ACCESS_KEY="a",
        PGBEN_MINIO_SECRET_KEY="b",
    )
    assert "--roles was given for the bucket 'documents'" in buckets_have_none.err
    said = catalogless.run("init", "--keys")
    assert said.err.endswith("HINT: `pgben init --help` shows what can be given\n")


def test_what_a_request_cannot_be_is_wrong_usage_in_the_words_that_were_typed(ready: Site) -> None:
    backup = a_backup(ready)
    job = ready.job()
    swap = ("restore", "pgben", "--in-place", "--confirm", "pgben")
    for line, sentence in {
        (*swap[:3], "--into", "copy"): "error: give `--into` or `--in-place`, not both",
        (*swap, "--into", "copy"): "error: give `--into` or `--in-place`, not both",
        ("acknowledge", backup, "--reason", ""): "error: `--reason` must not be empty",
        ("acknowledge", "pgben", "--key", "x"): "error: `--key`: only objects of buckets have keys",
        ("verify", "nope"): "error: 'postgres/nope' is not protected by this installation, and",
        ("restore", "nope", "--direct"): "error: 'postgres/nope' is not protected by this",
        ("objects", "ls", "pgben"): "error: 'postgres/pgben' is no bucket",
        ("undo", str(job.id)): f"error: job '{job.id}' is a backup of 'postgres/pgben', which",
    }.items():
        said = ready.run(*line)
        assert (said.code, said.err.startswith(sentence)) == (2, True), (line, said.err)
    assert len(ready.ledger.jobs(limit=10)) == 1
    # What protects data stays a refusal, and says what to type.
    refused = ready.run("restore", "pgben", "--in-place")
    assert refused.code == 3
    assert "HINT: give its name once more: `--confirm pgben`" in refused.err
    document = ready.run("restore", "pgben", "--in-place", "--json")
    assert document.json["error"]["hint"] == "give its name once more: `--confirm pgben`"


def test_a_moment_is_read_in_the_zone_of_the_settings_and_repeated_with_it(ready: Site) -> None:
    said = ready.run("restore", "pgben", "--at", "2026-11-22 14:30", "--no-wait")
    assert "restoring the data as of 2026-11-22 14:30:00-03:00 or before\n" in said.err
    (job,) = ready.ledger.jobs()
    assert datetime.fromisoformat(job.request["at"]) == datetime(2026, 11, 22, 17, 30, tzinfo=UTC)


def test_a_plan_reads_and_refuses_moments_as_its_restore_does(ready: Site) -> None:
    both = {"PGBEN_MINIO_ACCESS_KEY": "access", "PGBEN_BUCKETS": "papers"}
    plan = ("restore", "bucket/papers", "--in-place", "--dry-run", "--at", "2999-01-01 08:00")
    said = ready.run(*plan, **both)
    assert said.code == 3
    assert said.err.startswith("error: 2999-01-01T08:00:00-03:00 has not come yet: it is ")


def test_the_job_is_written_before_the_message_and_its_id_is_printed(ready: Site) -> None:
    said = ready.run("backup", "--all", "--no-wait")
    assert said.code == 0, said.err
    job = ready.ledger.find(said.out.strip())
    assert (job.kind, job.target, job.state) == ("backup", "postgres/pgben", "queued")
    assert job.request["idempotency_key"] == job.key
    assert "@" in job.requested_by


def test_backups_of_everything_are_one_job_unless_an_older_worker_counts(ready: Site) -> None:
    both = {"PGBEN_MINIO_ACCESS_KEY": "access", "PGBEN_BUCKETS": "papers"}
    said = ready.run("backup", "--all", "--no-wait", **both)
    job = ready.ledger.find(said.out.strip())
    assert (job.kind, job.target, job.state) == ("point", "*", "queued")
    assert re.search("point +everything +queued", ready.run("jobs", **both).out)
    Workers(ready.ledger.database).send_heartbeat(["backup.old"])
    said = ready.run("backup", "--all", "--no-wait", **both)
    assert said.err.splitlines()[0].endswith("the backups are made without one")
    jobs = ready.ledger.jobs(limit=2)
    assert sorted(one.target for one in jobs) == ["bucket/papers", "postgres/pgben"]


def test_a_lost_object_is_acknowledged_by_the_digest_of_its_key(ready: Site) -> None:
    keys = ("cidadao/42/rg.jpg", "cidadão/43/cpf.jpg")
    asked = ("acknowledge", "bucket/pgben-documents", "--no-wait")
    said = ready.run(*asked, "--key", keys[0], "--key", keys[1], PGBEN_MINIO_ACCESS_KEY="access")
    assert said.code == 0, said.err
    job = ready.ledger.find(said.out.strip())
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in keys]
    assert (job.target, job.request["keys"]) == ("bucket/pgben-documents", digests)
    assert ready.run(*asked, "--key", keys[0]).code == 2


@pytest.mark.parametrize("option", [("--level", "full"), ("--full",)])
def test_a_verification_in_full_is_asked_for_by_either_option(
    ready: Site, option: tuple[str, ...]
) -> None:
    said = ready.run("verify", *option, "--no-wait")
    assert said.code == 0, said.err
    assert ready.ledger.find(said.out.strip()).request["level"] == "full"


def test_help_shows_only_the_level(ready: Site) -> None:
    shown = ready.run("verify", "--help").out
    assert "--level" in shown
    assert "--full" not in shown


def test_without_a_broker_the_job_stays_written_for_the_reconciler(ready: Site) -> None:
    away = {"PGBEN_REDIS_URL": f"redis://:{CANARY}@127.0.0.1:1/0"}
    said = ready.run("verify", "--full", "--json", **away)
    assert said.code == 75
    assert "the reconciler publishes it" in said.json["error"]["sentence"]
    job = ready.ledger.find(said.json["jobs"][0]["job"])
    assert (job.target, job.state, job.request["level"]) == ("*", "queued", "full")
    again = ready.run("backup", "pgben", **away)
    assert again.code == 75
    assert CANARY not in said.all + again.all
    # Nobody sent them, so the next tick does at once.
    work = runtime.Workplace(Settings.load(ready.environment))
    assert len(work.recovery.to_publish()) == 2


def test_the_old_scripts_options_print_the_new_form(ready: Site) -> None:
    backup = a_backup(ready)
    listed = ready.run("restore", "--list")
    assert listed.code == 0
    assert listed.err.startswith("this is now: pgben list")
    restored = ready.run("restore", "--postgres", backup, "--no-wait", "--json")
    assert restored.code == 0, restored.err
    assert f"this is now: pgben restore postgres/pgben --backup {backup}" in restored.err
    job = ready.ledger.find(restored.json["jobs"][0]["job"])
    assert job.request["backup"] == backup
    assert ready.run("restore", "--postgres", UNKNOWN).code == 1


@pytest.mark.parametrize(
    ("result", "error", "code"),
    [
        ({"state": "verified", "backup": "b"}, None, 0),
        ({"state": "verified", "suspect": "40 % fewer rows"}, None, 4),
        ({}, {"type": "CommandFailed", "sentence": "it failed", "hint": "h"}, 1),
        ({}, {"type": "RestoreRefused", "sentence": "it failed", "hint": "h"}, 3),
        ({}, {"type": "DigestMismatch", "sentence": "it failed", "hint": "h"}, 5),
        ({}, {"type": "TargetBusy", "sentence": "it failed", "hint": "h"}, 75),
    ],
)
def test_following_ends_with_the_jobs_own_exit_code(
    ready: Site, result: dict[str, Any], error: dict[str, str] | None, code: int
) -> None:
    job = ready.job()
    with ready.start("jobs", "--follow", str(job.id)[:8]) as process:
        ready.play(job, result, error)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "record" in err
    assert str(job.id) in out
    if error is not None:
        assert f"error: {error['sentence']}\nHINT: {error['hint']}\n" in err


def test_a_swap_whose_command_afterwards_failed_ends_with_4_and_says_what_is_left(
    ready: Site,
) -> None:
    job = ready.job()
    said = "the command of PGBEN_AFTER_SWAP failed: 'start' ended with status 3"
    with ready.start("jobs", "--follow", str(job.id)[:8]) as process:
        ready.play(job, {"state": "swapped", "after_swap_failed": said}, None)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "after the swap" in out
    assert said in " ".join(out.split())
    assert "HINT: the databases were swapped; start again what was stopped for that" in err
    shown = ready.run("jobs", str(job.id), "--json").json["jobs"][0]
    assert shown["result"]["after_swap_failed"] == said


def test_a_missing_worker_is_told_at_once_and_ctrl_c_leaves_the_job(ready: Site) -> None:
    process = ready.start("backup", "pgben", "--json")
    try:
        assert process.stderr is not None
        assert "no backup and no maintenance worker is running" in process.stderr.readline()
        assert wait_until(lambda: bool(ready.ledger.jobs()), seconds=30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(timeout=10)
    (job,) = ready.ledger.jobs()
    assert process.returncode == 130
    assert f"job {job.id} goes on" in err
    assert json.loads(out)["jobs"][0]["job"] == str(job.id)
    assert job.state == "queued"


def test_only_the_missing_worker_is_named(ready: Site) -> None:
    work = runtime.Workplace(Settings.load(ready.environment))
    work.workers.send_heartbeat(["maintenance.node"])
    job = ready.job()
    with ready.start("jobs", "--follow", str(job.id)) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        ready.play(job, {})
        process.communicate(timeout=60)
    assert "start one with `python -m workers backup`" in said


def test_following_everything_ends_when_nothing_runs(ready: Site) -> None:
    assert ready.run("jobs", "--follow").code == 0
    good, bad = ready.job(), ready.job(target="postgres/second")
    with ready.start("jobs", "--follow", "--json") as process:
        assert process.stderr is not None
        assert "worker is running" in process.stderr.readline()
        ready.play(bad, {}, {"type": "DigestMismatch", "sentence": "damaged", "hint": ""})
        ready.play(good, {"state": "verified"})
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 5
    states = {one["job"]: one["state"] for one in json.loads(out)["jobs"]}
    assert states == {str(good.id): "succeeded", str(bad.id): "failed"}


def test_a_job_is_shown_with_its_steps_and_its_error(ready: Site) -> None:
    job = ready.job()
    ready.play(job, {}, {"type": "CommandFailed", "sentence": "it failed", "hint": "do this"})
    said = ready.run("jobs", str(job.id)[:6])
    assert said.code == 0
    assert "record" in said.out
    assert "error: it failed\nHINT: do this\n" in said.err
    document = ready.run("jobs", str(job.id), "--json").json["jobs"][0]
    assert document["error"]["type"] == "CommandFailed"
    assert document["steps"][0]["state"] == "failed"
    assert ready.run("jobs", "ffff").code == 1
