"""What services ask for beside jobs: lists, the status, a cancellation; in this process."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from pgben_tasks import runtime
from pgben_tasks.app import app
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.listing import job_document
from pgben_tasks.domain.swap import Swap
from pgben_tasks.errors import JobNotFound, RequestRefused
from pgben_tasks.runtime import process
from pgben_tasks.tasks import cancel, catalog, postgres
from tests.support.installation import Installation

CANARY = "cidadao-canary"


@pytest.fixture
def site(installation: Installation) -> Iterator[runtime.Workplace]:
    app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    made = runtime.Workplace(installation.shop.work.settings)
    process._workplace = made
    yield made
    if "tools" in vars(made):
        made.tools.codec.close()  # type: ignore[attr-defined]  # the real codec has children
    runtime.forget()


def call(task: Any, *request: object) -> Any:
    """Run a task in this process; what it answers is JSON."""
    answer = task.apply(args=request, throw=True).get()
    return json.loads(json.dumps(answer))


def asked(site: runtime.Workplace, kind: Any = "backup", **fields: Any) -> Job:
    """Write a job, as the command line does."""
    values: dict[str, Any] = {
        "target": "postgres/pgben",
        "key": secrets.token_hex(8),
        "request": {"target": "postgres/pgben"},
        "requested_by": "ana",
    }
    return site.ledger.request(kind, **(values | fields))[0]


@pytest.mark.parametrize("task", [postgres.restore, catalog.jobs, cancel.cancel])
def test_tasks_that_send_themselves_show_no_request(site: runtime.Workplace, task: Any) -> None:
    request = {"target": "postgres/pgben", "requested_by": CANARY, "reason": CANARY}
    queue = app.conf.task_routes[task.name]["queue"]
    with app.connection() as connection, connection.SimpleQueue(queue) as waiting:
        # Other tests of this process may have left messages there.
        waiting.clear()
        task.apply_async(args=(request,))
        message = waiting.get(timeout=5)
        message.ack()
    assert message.headers["task"] == task.name
    assert message.headers["argsrepr"] == "({'target': 'postgres/pgben'},)"
    assert CANARY not in str(message.headers)


# Lists


def test_backups_are_told_as_the_list_shows_them(
    site: runtime.Workplace, installation: Installation
) -> None:
    answer = call(catalog.backups)
    assert answer["more"] is False
    newest, oldest = answer["backups"]
    assert newest["backup"] > oldest["backup"]
    assert (newest["target"], newest["state"]) == (str(installation.target), "verified")
    assert newest["taken"].endswith("Z")
    assert newest["stored_bytes"] > 0
    assert call(catalog.backups, {"target": str(installation.target)}) == answer
    assert call(catalog.backups, {"target": "postgres/other"}) == {"backups": [], "more": False}


def test_backups_come_in_pages_that_miss_and_repeat_none(site: runtime.Workplace) -> None:
    everything = call(catalog.backups, {})["backups"]
    first = call(catalog.backups, {"limit": 1})
    assert (first["backups"], first["more"]) == (everything[:1], True)
    second = call(catalog.backups, {"limit": 1, "before": everything[0]["backup"]})
    assert (second["backups"], second["more"]) == (everything[1:], False)
    assert call(catalog.backups, {"points": True}) == {"points": [], "more": False}


def test_jobs_are_chosen_by_target_kind_and_state(site: runtime.Workplace) -> None:
    backup = asked(site)
    verify = asked(site, "verify", target="*", request={"level": "quick"})
    ended = asked(site)
    site.ledger.fail_unclaimed(ended.id, state="refused", error={"sentence": "no"})

    def ids(**choice: Any) -> list[str]:
        return [one["job"] for one in call(catalog.jobs, choice)["jobs"]]

    assert ids() == [str(one.id) for one in (ended, verify, backup)]
    assert ids(kind="verify") == [str(verify.id)]
    assert ids(target="postgres/pgben") == [str(ended.id), str(backup.id)]
    assert ids(target="postgres/pgben", open_only=True) == [str(backup.id)]
    assert ids(before=str(verify.id)) == [str(backup.id)]
    page = call(catalog.jobs, {"limit": 2})
    assert (len(page["jobs"]), page["more"]) == (2, True)
    assert call(catalog.jobs, {"limit": 3})["more"] is False
    document = call(catalog.jobs, {"kind": "verify"})["jobs"][0]
    assert document == json.loads(json.dumps(job_document(site.ledger.job(verify.id))))
    with pytest.raises(JobNotFound):
        call(catalog.jobs, {"before": str(uuid4())})


def test_jobs_of_one_moment_are_on_one_page_each_once(site: runtime.Workplace) -> None:
    jobs = [asked(site) for _ in range(4)]
    with site.database.transaction() as cursor:
        cursor.execute("UPDATE job SET created_at = now()")
    seen: list[str] = []
    while True:
        choice = {"limit": 1, **({"before": seen[-1]} if seen else {})}
        page = call(catalog.jobs, choice)
        seen += [one["job"] for one in page["jobs"]]
        if not page["more"]:
            break
    assert sorted(seen) == sorted(str(one.id) for one in jobs)


def test_no_list_tells_what_a_request_says_of_people(site: runtime.Workplace) -> None:
    request = {
        "target": "bucket/docs",
        "keys": [f"{CANARY}/1", f"{CANARY}/ã"],
        "prefix": CANARY,
        "put_below": f"below-{CANARY}",
        "reason": f"asked by {CANARY}",
    }
    job = asked(site, "restore", target="bucket/docs", request=request)
    running = asked(site, "restore", target="bucket/docs", request=request)
    error = {
        "type": "RestoreRefused",
        "sentence": f"'{CANARY}/1' and {f'{CANARY}/ã'!r} are not there",
        "hint": f"look below 'below-{CANARY}', asked by {CANARY}",
    }
    site.ledger.fail_unclaimed(job.id, state="refused", error=error)
    with site.database.transaction() as cursor:
        cursor.execute(
            "UPDATE job SET result = %s::jsonb", (json.dumps({"reasons": [f"of {CANARY}/1"]}),)
        )
    answer = call(catalog.jobs, {})
    assert {one["job"] for one in answer["jobs"]} == {str(job.id), str(running.id)}
    assert CANARY not in json.dumps(answer, ensure_ascii=False)
    assert CANARY not in json.dumps(call(catalog.status), ensure_ascii=False)
    (ended,) = [one for one in answer["jobs"] if one["error"]]
    assert ended["error"]["type"] == "RestoreRefused"
    assert "are not there" in ended["error"]["sentence"]


def test_the_status_is_the_document_of_the_command(
    site: runtime.Workplace, installation: Installation
) -> None:
    document = call(catalog.status, {"requested_by": "billing"})
    assert document["verdict"] in {"green", "yellow", "red"}
    (target,) = document["targets"]
    assert (target["target"], target["answers"]) == (str(installation.target), True)
    assert target["restorable"] == 2
    assert document["workers"] == []
    assert isinstance(document["jobs"], list)


@pytest.mark.parametrize(
    ("task", "request_", "field"),
    [
        (catalog.backups, {"limit": 0}, "limit"),
        (catalog.backups, {"limit": 201}, "limit"),
        (catalog.backups, {"before": "latest"}, "before"),
        (catalog.backups, {"points": True, "target": "postgres/pgben"}, "points"),
        (catalog.backups, {"surprise": 1}, "surprise"),
        (catalog.jobs, {"kind": "drop"}, "kind"),
        (catalog.jobs, {"before": "1f0c"}, "before"),
        (catalog.jobs, {"limit": 201}, "limit"),
        (catalog.status, {"target": "postgres/pgben"}, "target"),
        (cancel.cancel, {}, "job"),
        (cancel.cancel, {"job": "1f0c"}, "job"),
    ],
)
def test_a_malformed_question_is_refused_by_its_field(
    site: runtime.Workplace, task: Any, request_: object, field: str
) -> None:
    with pytest.raises(RequestRefused, match=rf"malformed: .*`{field}`") as caught:
        call(task, request_)
    assert caught.value.hint


@pytest.mark.parametrize("task", [catalog.backups, catalog.plan, catalog.status, cancel.cancel])
def test_arguments_that_are_no_request_are_refused(site: runtime.Workplace, task: Any) -> None:
    strange: list[tuple[object, ...]] = [("x",), ({}, {}), (None,)]
    for arguments in strange:
        with pytest.raises(RequestRefused, match="malformed"):
            call(task, *arguments)
    with pytest.raises(RequestRefused, match="malformed"):
        task.apply(kwargs={"request": {}}, throw=True).get()


# Cancelling


def test_a_job_is_cancelled_once_and_the_answer_is_the_same_again(
    site: runtime.Workplace,
) -> None:
    job = asked(site, root_task="waits")
    request = {"job": str(job.id), "requested_by": "billing"}
    answer = call(cancel.cancel, request)
    assert answer == {"job": str(job.id), "state": "cancelled", "stays": [], "hint": ""}
    assert call(cancel.cancel, request) == answer
    assert site.ledger.job(job.id).state == "cancelled"
    with site.database.transaction() as cursor:
        rows = cursor.execute(
            "SELECT who, result FROM audit WHERE job = %s", (str(job.id),)
        ).fetchall()
    assert [(row["who"], row["result"]) for row in rows] == [("billing", "cancelled")]
    # It is no job of its own.
    assert [one.id for one in site.ledger.jobs()] == [job.id]


def test_a_job_that_ran_says_that_its_step_stops(
    site: runtime.Workplace, installation: Installation
) -> None:
    chain = installation.chain("backup").until("checksum")
    answer = call(cancel.cancel, {"job": str(chain.ref.job)})
    assert answer["state"] == "cancelled"
    assert "removes what it made" in answer["hint"]
    assert call(cancel.cancel, {"job": str(chain.ref.job)}) == answer


def test_an_ended_job_and_an_unknown_one_are_refused(site: runtime.Workplace) -> None:
    job = asked(site)
    site.ledger.fail_unclaimed(job.id, state="refused", error={"sentence": "no"})
    with pytest.raises(RequestRefused, match="has ended already: it is refused") as caught:
        call(cancel.cancel, {"job": str(job.id)})
    assert caught.value.hint
    with pytest.raises(JobNotFound):
        call(cancel.cancel, {"job": str(uuid4())})


def test_what_a_restore_of_everything_has_replaced_stays_and_is_named(
    site: runtime.Workplace,
) -> None:
    whole = asked(site, "restore_all", target="*", request={"in_place": True})
    part = asked(site, "restore", request={"swap": True, "part_of": str(whole.id)})
    swap = Swap(
        job=part.id,
        target=part.target,
        live="pgben",
        incoming="pgben_new",
        aside="pgben_old",
        live_oid=1,
        incoming_oid=2,
        was_open=True,
    )
    site.swaps.intend(swap)
    site.swaps.settle(swap, "done")
    answer = call(cancel.cancel, {"job": str(whole.id)})
    assert answer["stays"] == ["pgben"]
    assert f"pgben undo {whole.id}" in answer["hint"]
    with pytest.raises(RequestRefused, match="too late"):
        call(cancel.cancel, {"job": str(part.id)})
