"""The commands that call jobs off and begin them again: what they change, say and return."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from pgben_tasks.adapters.catalog.live_changes import CatalogSwaps
from pgben_tasks.app import create_app
from pgben_tasks.client import Client
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.swap import Swap
from pgben_tasks.errors import JobCancelled
from tests.support.cli_site import CANARY, Site

ERROR = {"type": "CommandFailed", "sentence": "it failed", "hint": ""}
AWAY = {"PGBEN_REDIS_URL": f"redis://:{CANARY}@127.0.0.1:1/0"}


def asked(site: Site, **fields: Any) -> Job:
    """Write a job as an entry task does, with a caller that waits."""
    request = {"target": "postgres/pgben"}
    values: dict[str, Any] = {"target": "postgres/pgben", "request": request} | fields
    return site.ledger.request(
        "backup", key=secrets.token_hex(8), requested_by="ana", published=True, **values
    )[0]


def audited(site: Site, job: Job) -> list[tuple[str, str]]:
    with site.ledger.database.transaction() as cursor:
        rows = cursor.execute(
            "SELECT who, result FROM audit WHERE job = %s ORDER BY sequence", (str(job.id),)
        ).fetchall()
    return [(row["who"], row["result"]) for row in rows]


def test_a_queued_job_is_cancelled_at_once_and_whoever_waits_is_told(ready: Site) -> None:
    task = secrets.token_hex(8)
    job = asked(ready, root_task=task)
    said = ready.run("cancel", str(job.id)[:8], "--json")
    assert said.code == 0, said.err
    (shown,) = said.json["jobs"]
    assert (shown["job"], shown["state"]) == (str(job.id), "cancelled")
    assert shown["error"]["type"] == "JobCancelled"
    assert "@" in shown["error"]["sentence"], "it says who did it"
    ((who, result),) = audited(ready, job)
    assert result == "cancelled"
    assert who != "ana"
    app = create_app(ready.environment["PGBEN_REDIS_URL"])
    with pytest.raises(JobCancelled, match="was cancelled by"):
        app.AsyncResult(task).get(timeout=10)


def test_a_job_is_cancelled_though_the_broker_is_away(ready: Site) -> None:
    job = asked(ready, root_task="somebody-waits")
    said = ready.run("cancel", str(job.id), **AWAY)
    assert said.code == 0, said.err
    assert "the broker was not told" in said.err
    assert ready.ledger.job(job.id).state == "cancelled"
    assert CANARY not in said.all


def test_an_ended_job_is_not_cancelled_and_the_refusal_says_why(ready: Site) -> None:
    job = asked(ready)
    ready.play(job, {"state": "verified"})
    said = ready.run("cancel", str(job.id))
    assert said.code == 3
    assert f"job '{job.id}' has ended already: it is succeeded" in said.err
    assert said.err.splitlines()[-1].startswith("HINT: ")
    assert audited(ready, job) == []
    assert ready.run("cancel", "ffffffff").code == 1


def test_a_job_that_has_swapped_is_undone_and_not_cancelled(ready: Site) -> None:
    job = asked(ready)
    swaps = CatalogSwaps(ready.ledger.database)
    swap = Swap(
        job=job.id,
        target=job.target,
        live="pgben",
        incoming="pgben_new",
        aside="pgben_old",
        live_oid=1,
        incoming_oid=2,
        was_open=True,
    )
    swaps.intend(swap)
    swaps.settle(swap, "done")
    said = ready.run("cancel", str(job.id))
    assert said.code == 3
    assert f"pgben undo {job.id}" in said.err
    assert ready.ledger.job(job.id).state == "queued"


def test_jobs_say_whether_a_restore_is_in_place_or_was_undone(ready: Site) -> None:
    kept, turned, undo = (asked(ready) for _ in range(3))
    swaps = CatalogSwaps(ready.ledger.database)
    with ready.ledger.database.transaction() as cursor:
        cursor.execute(
            "UPDATE job SET kind = 'restore', request = '{\"swap\": true}' WHERE id = ANY(%s)",
            ([kept.id, turned.id],),
        )
    for job, undoes in ((kept, None), (turned, None), (undo, turned.id)):
        swap = Swap(
            job=job.id,
            target=job.target,
            live="pgben",
            incoming="pgben_new",
            aside="pgben_old",
            live_oid=1,
            incoming_oid=2,
            undoes=undoes,
        )
        swaps.intend(swap)
        swaps.settle(swap, "done")
        ready.play(job, {"state": "swapped", "into": "pgben"})
    said = {one["job"]: one["restored"] for one in ready.run("jobs", "--json").json["jobs"]}
    assert said[str(kept.id)] == {"how": "in place", "into": "pgben"}
    assert said[str(turned.id)] == {"how": "undone", "into": "pgben"}
    assert said[str(undo.id)] is None
    (shown,) = ready.run("jobs", str(turned.id), "--json").json["jobs"]
    assert shown["restored"]["how"] == "undone"
    assert "; undone" in "\n".join(ready.on_a_terminal("jobs"))


def become(ready: Site, job: Job, kind: str, request: dict[str, Any]) -> None:
    with ready.ledger.database.transaction() as cursor:
        change = "UPDATE job SET kind = %s, request = %s WHERE id = %s"
        cursor.execute(change, (kind, Jsonb(request), job.id))


def a_part(ready: Site, whole: Job) -> Job:
    job = asked(ready)
    fields = {"target": "postgres/pgben", "swap": True, "part_of": str(whole.id)}
    become(ready, job, "restore", fields)
    return job


def a_whole_with_swaps(ready: Site, *databases: str) -> tuple[Job, list[Swap]]:
    """Write a restore of everything in place, each of whose parts has swapped a database."""
    whole = asked(ready)
    become(ready, whole, "restore_all", {"in_place": True, "confirm": [*databases]})
    parts = [a_part(ready, whole) for _ in databases]
    swaps = CatalogSwaps(ready.ledger.database)
    made = [
        Swap(
            job=job.id,
            target=f"postgres/{name}",
            live=name,
            incoming=f"{name}_new",
            aside=f"{name}_old",
            live_oid=1,
            incoming_oid=2,
        )
        for job, name in zip(parts, databases, strict=True)
    ]
    for swap in made:
        swaps.intend(swap)
        swaps.settle(swap, "done")
    return whole, made


def test_a_restore_of_everything_is_undone_when_all_its_swaps_are(ready: Site) -> None:
    whole, made = a_whole_with_swaps(ready, "pgben", "other")
    ready.play(whole, {"state": "replaced", "point": "20261129T050000Z-0a1b2c"})
    swaps = CatalogSwaps(ready.ledger.database)
    # An attempt before gave one up.
    given_up = replace(made[0], job=a_part(ready, whole).id)
    swaps.intend(given_up)
    swaps.settle(given_up, "abandoned")

    def shown() -> str:
        return "\n".join(ready.on_a_terminal("jobs", str(whole.id)))

    assert "in place, 20261129T050000Z-0a1b2c" in shown()
    for number, swap in enumerate(made):
        undo = asked(ready)
        back = replace(swap, job=undo.id, undoes=swap.job)
        swaps.intend(back)
        swaps.settle(back, "done")
        assert ("undone, 20261129T050000Z-0a1b2c" in shown()) == (number == 1)


def test_whoever_cancels_a_restore_of_everything_learns_what_it_has_replaced(ready: Site) -> None:
    whole, made = a_whole_with_swaps(ready, "pgben", "other")
    CatalogSwaps(ready.ledger.database).dropped(made[1])
    said = ready.run("cancel", str(whole.id))
    assert said.code == 0, said.err
    assert "it has replaced 'pgben', and that stays" in said.err
    assert f"`pgben undo {whole.id} --confirm pgben` turns it back" in said.err


def test_a_failed_job_is_queued_again_and_its_message_sent(ready: Site) -> None:
    job = asked(ready)
    ready.play(job, {}, ERROR)
    client = Client(ready.environment["PGBEN_REDIS_URL"])
    with client._app.connection() as connection, connection.SimpleQueue("backup") as waiting:
        # Other tests use this queue as well.
        waiting.clear()
        said = ready.run("jobs", "retry", str(job.id)[:8])
        assert said.code == 0, said.err
        assert "is queued again" in said.err
        queued = ready.ledger.job(job.id)
        assert (queued.state, queued.key, queued.error) == ("queued", job.key, None)
        message = waiting.get(timeout=10)
        message.ack()
    assert message.payload[0][0]["idempotency_key"] == job.key
    assert [result for _, result in audited(ready, job)] == ["queued again"]


def test_a_job_is_queued_again_though_the_broker_is_away(ready: Site) -> None:
    job = asked(ready)
    ready.play(job, {}, ERROR)
    said = ready.run("jobs", "retry", str(job.id), **AWAY)
    assert said.code == 0, said.err
    assert "the reconciler sends it" in said.err
    assert ready.ledger.job(job.id).state == "queued"


@pytest.mark.parametrize("state", ["queued", "succeeded", "unreadable"])
def test_what_cannot_be_repeated_is_refused_with_a_sentence(ready: Site, state: str) -> None:
    job = asked(ready, **({"request": {}} if state == "unreadable" else {}))
    if state != "queued":
        ready.play(job, {}, ERROR if state == "unreadable" else None)
    said = ready.run("jobs", "retry", str(job.id), "--json")
    assert said.code == 3
    assert said.json["error"]["type"] == "RequestRefused"
    before = ready.ledger.job(job.id)
    assert before.state == ("failed" if state == "unreadable" else state)


def test_wrong_words_are_wrong_usage(ready: Site) -> None:
    assert ready.run("jobs", "retry").code == 2
    assert ready.run("jobs", "a", "b").code == 2
    assert ready.run("cancel").code == 2
