"""The half that other services import: light, strict about requests, silent about secrets."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty
from uuid import UUID

import pytest
from celery import Celery
from hypothesis import given, strategies as st
from kombu.message import Message

from pgben_tasks import app as app_module, canvases, names
from pgben_tasks.client import Client, ObjectsChoice
from pgben_tasks.contracts import (
    REQUESTS,
    TASK_REQUESTS,
    AcknowledgeRequest,
    BackupRequest,
    BucketRestoreRequest,
    HoldRequest,
    JobOutcome,
    JobRef,
    PruneRequest,
    Request,
    RestoreRequest,
    SweepRequest,
    UndoRequest,
    VerifyRequest,
)
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import ConfigurationError, PgbenError, RequestRefused, TransientError

TARGET = "postgres/pgben"
BACKUP = "20261123T050000Z-1f0c9a"
JOB = "6a5f0f0e-4d4e-4d0e-8f0a-3b1d1c2e4f5a"
REF = {"job": JOB, "fence": 3}
HEAVY = {
    *("cronsim", "cryptography", "minio", "obstore", "psycopg", "pyrage", "rich", "typer"),
    *("zstandard", "pgben_tasks.adapters", "pgben_tasks.operations", "pgben_tasks.runtime"),
}


def loaded_with(module: str) -> set[str]:
    """Return the modules that a new process has when it imported this one."""
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["client", "contracts", "canvases", "app", "names", "errors", "events"]
)
def test_importing_the_light_half_loads_nothing_heavy(module: str) -> None:
    loaded = loaded_with(f"pgben_tasks.{module}")
    assert f"pgben_tasks.{module}" in loaded
    assert HEAVY.isdisjoint(loaded)
    # What needs Redis is loaded with the first connection.
    assert {"redis", "pgben_tasks.broker", "pgben_tasks.results"}.isdisjoint(loaded)


def test_the_client_that_few_commands_need_is_loaded_by_workers_only() -> None:
    loaded = loaded_with("pgben_tasks.runtime")
    assert {"psycopg", "obstore"} <= loaded
    assert "minio" not in loaded
    # Before they fork.
    assert "minio" in loaded_with("workers.celery")


def test_what_starts_a_worker_and_asks_whether_it_is_ready_loads_no_application() -> None:
    """The worker itself is another process; a probe comes every few seconds."""
    assert (HEAVY | {"celery"}).isdisjoint(loaded_with("workers.__main__"))
    assert "celery" not in loaded_with("workers.ready")


# Requests


def refusal(kind: type[Request], data: object) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        kind.parse(data)
    assert caught.value.hint
    return caught.value


def test_the_shortest_requests_are_enough() -> None:
    assert BackupRequest.parse({"target": TARGET}).requested_by == "unnamed"
    assert RestoreRequest.parse({"target": TARGET}).backup == "latest"
    assert VerifyRequest.parse({}).level == "quick"
    assert not PruneRequest.parse({"target": TARGET}).dry_run
    assert not SweepRequest.parse({"target": TARGET}).dry_run
    assert AcknowledgeRequest.parse({"target": TARGET, "backup": BACKUP}).reason is None


def test_what_is_sent_is_what_is_read() -> None:
    for request in (
        BackupRequest(target=TARGET, scheduled=True, idempotency_key="a:b/c"),
        RestoreRequest(target=TARGET, at=datetime(2026, 11, 23, tzinfo=UTC), into="pgben_copy"),
        VerifyRequest(target=TARGET, backup=BACKUP, level="full"),
        PruneRequest(target=TARGET, dry_run=True),
        RestoreRequest(target=TARGET, swap=True, confirm="pgben"),
        UndoRequest(target=TARGET, job=UUID(JOB), confirm="pgben"),
        AcknowledgeRequest(target=TARGET, backup=BACKUP, reason="arquivado"),
        SweepRequest(target=TARGET, dry_run=True),
        BackupRequest(target=TARGET, hold_for=timedelta(days=14), label="release-42"),
        HoldRequest(target=TARGET, backup=BACKUP, keep_for=timedelta(hours=36), reason="x"),
    ):
        assert type(request).parse(request.model_dump(mode="json")) == request


def test_in_place_means_swap_for_a_database() -> None:
    asked = {"target": TARGET, "confirm": "pgben"}
    swap = RestoreRequest.parse({**asked, "swap": True})
    assert RestoreRequest.parse({**asked, "in_place": True}) == swap
    assert RestoreRequest.parse({**asked, "in_place": True, "swap": True}) == swap
    assert "in_place" not in swap.model_dump()
    both = refusal(RestoreRequest, {**asked, "in_place": True, "swap": False})
    assert "mean the same" in both.sentence
    assert "true or false" in refusal(RestoreRequest, {**asked, "in_place": {"a": 1}}).sentence


@pytest.mark.parametrize("kind", REQUESTS.values())
def test_an_unknown_field_is_refused_by_name(kind: type[Request]) -> None:
    needed = {
        name: {"target": TARGET, "backup": BACKUP, "job": JOB, "reason": "x"}[name]
        for name, field in kind.model_fields.items()
        if field.is_required()
    }
    assert "surprise" in refusal(kind, {**needed, "surprise": 1}).sentence


@pytest.mark.parametrize(
    ("kind", "data", "field"),
    [
        (BackupRequest, {}, "target"),
        (BackupRequest, {"target": 5}, "target"),
        (BackupRequest, {"target": "pgben"}, "target"),
        (BackupRequest, {"target": "volume/pgben"}, "target"),
        (BackupRequest, {"target": "postgres/../etc"}, "target"),
        (BackupRequest, {"target": "postgres/" + "x" * 64}, "target"),
        (BackupRequest, {"target": "postgres/a\0b"}, "target"),
        (BackupRequest, {"target": "postgres/\ud800"}, "target"),
        (BackupRequest, {"target": TARGET, "requested_by": ""}, "requested_by"),
        (BackupRequest, {"target": TARGET, "requested_by": "a\0b"}, "requested_by"),
        (BackupRequest, {"target": TARGET, "requested_by": "x" * 201}, "requested_by"),
        (BackupRequest, {"target": TARGET, "idempotency_key": "a b"}, "idempotency_key"),
        (BackupRequest, {"target": TARGET, "scheduled": "perhaps"}, "scheduled"),
        (RestoreRequest, {"target": TARGET, "backup": "newest"}, "backup"),
        (RestoreRequest, {"target": TARGET, "at": "2026-11-23T05:00:00"}, "at"),
        (RestoreRequest, {"target": TARGET, "into": "x" * 64}, "into"),
        (RestoreRequest, {"target": TARGET, "into": 'a"; DROP DATABASE b'}, "into"),
        (RestoreRequest, {"target": TARGET, "swap": True, "into": "copy"}, "request"),
        (RestoreRequest, {"target": TARGET, "confirm": "pgben"}, "request"),
        (UndoRequest, {"target": TARGET, "job": "1f0c9a"}, "job"),
        (VerifyRequest, {"target": TARGET, "level": "deep"}, "level"),
        (VerifyRequest, {"target": TARGET, "backup": "latest"}, "backup"),
        (AcknowledgeRequest, {"target": TARGET}, "backup"),
        (AcknowledgeRequest, {"target": TARGET, "backup": "latest"}, "backup"),
        (AcknowledgeRequest, {"target": TARGET, "backup": BACKUP, "reason": ""}, "reason"),
        (AcknowledgeRequest, {"target": TARGET, "backup": BACKUP, "reason": "a\nb"}, "reason"),
        (SweepRequest, {}, "target"),
        (PruneRequest, {"target": None}, "target"),
        (PruneRequest, "target", "request"),
        (PruneRequest, [], "request"),
        (PruneRequest, None, "request"),
    ],
)
def test_a_malformed_value_is_refused_by_its_field(
    kind: type[Request], data: object, field: str
) -> None:
    said = refusal(kind, data).sentence
    assert said.startswith("the request is malformed: ")
    assert (f"malformed: `{field}`" in said) == (field != "request")


def test_a_choice_between_two_backups_is_refused() -> None:
    data = {"target": TARGET, "backup": BACKUP, "at": "2026-11-23T05:00:00Z"}
    assert "not both" in refusal(RestoreRequest, data).sentence
    assert "needs `target`" in refusal(VerifyRequest, {"backup": BACKUP}).sentence


@pytest.mark.parametrize("field", ["target", "into", "backup"])
@pytest.mark.parametrize(
    "text",
    [
        "postgresql://postgres:hunter2@db/pgben",
        "postgres/host=db password=hunter2",
        "postgres/password=hunter2",
        "postgres:hunter2@db/pgben",
        "hunter2@db",
    ],
)
def test_what_may_hold_a_password_is_refused_and_not_repeated(field: str, text: str) -> None:
    error = refusal(RestoreRequest, {"target": TARGET, field: text})
    assert "hunter2" not in str(error)
    assert error.__cause__ is None
    assert field in error.sentence


def test_the_name_of_an_unknown_field_is_not_repeated_when_it_is_no_name() -> None:
    error = refusal(BackupRequest, {"target": TARGET, "postgresql://a:hunter2@db": 1})
    assert "hunter2" not in str(error)


@given(st.text(max_size=120))
def test_a_target_field_takes_exactly_what_the_domain_takes(text: str) -> None:
    for candidate in (text, f"postgres/{text}"):
        try:
            Target.parse(candidate)
        except (PgbenError, UnicodeEncodeError):
            refusal(BackupRequest, {"target": candidate})
        else:
            assert BackupRequest.parse({"target": candidate}).target == candidate


def test_a_reference_is_strict_and_survives_json() -> None:
    assert JobRef.parse(REF).to_json() == REF
    for bad in ({}, None, "x", {**REF, "fence": 0}, {**REF, "more": 1}, {**REF, "job": "1"}):
        with pytest.raises(RequestRefused, match="without a job reference"):
            JobRef.parse(bad)
    outcome = JobOutcome(job=JobRef.parse(REF).job, state="succeeded", target=TARGET)
    assert outcome.to_json()["job"] == REF["job"]


# The client


@pytest.fixture
def app() -> Celery:
    """Return the application with a broker in this process."""
    made = app_module.create_app("redis://localhost/0")
    made.conf.update(broker_url="memory://", result_backend="cache+memory://")
    # What other tests of this process sent lies in the same memory.
    for queue in names.QUEUES:
        while taken(made, queue) is not None:
            pass
    return made


def taken(app: Celery, queue: str) -> Message | None:
    """Take the next message from a queue."""
    with app.connection() as connection, connection.SimpleQueue(queue) as waiting:
        try:
            message: Message = waiting.get_nowait()
        except Empty:
            return None
        message.ack()
        return message


def test_the_client_sends_each_request_to_its_entry_task(app: Celery) -> None:
    client = Client("redis://localhost/0", app=app)
    results = [
        client.backup(TARGET, requested_by="billing", idempotency_key="close-2026-11"),
        client.restore(TARGET, at=datetime(2026, 11, 23, tzinfo=UTC)),
        client.verify(level="full"),
        client.prune(TARGET, dry_run=True),
        client.acknowledge(TARGET, BACKUP, reason="arquivado"),
        client.sweep(TARGET, dry_run=True),
    ]
    queues = ("backup", "restore", "verify", *["maintenance"] * 3)
    messages = [taken(app, queue) for queue in queues]
    assert [one and one.headers["task"] for one in messages] == [
        "pgben.backup.postgres",
        "pgben.restore.postgres",
        "pgben.verify.run",
        "pgben.prune.run",
        "pgben.acknowledge.run",
        "pgben.sweep.run",
    ]
    assert [one and one.headers["id"] for one in messages] == [result.id for result in results]
    requests = [one.payload[0][0] for one in messages if one]
    assert requests[0]["idempotency_key"] == "close-2026-11"
    assert requests[1]["at"] == "2026-11-23T00:00:00Z"
    assert requests[2] == VerifyRequest(level="full").model_dump(mode="json")
    assert requests[3]["dry_run"] is True
    assert (requests[4]["backup"], requests[4]["reason"]) == (BACKUP, "arquivado")
    assert requests[5]["dry_run"] is True


def test_the_client_asks_for_a_restore_of_objects(app: Celery) -> None:
    client = Client("redis://localhost/0", app=app)
    result = client.restore_objects("bucket/docs", prefix="cidadao/7/", into="docs-copy")
    message = taken(app, "restore")
    assert message is not None
    assert (message.headers["task"], message.headers["id"]) == ("pgben.restore.bucket", result.id)
    request = message.payload[0][0]
    assert (request["target"], request["prefix"]) == ("bucket/docs", "cidadao/7/")
    assert (request["backup"], request["into"], request["in_place"]) == (
        "latest",
        "docs-copy",
        False,
    )
    with pytest.raises(RequestRefused, match="in_place"):
        client.restore_objects("bucket/docs", in_place=True, into="docs-copy")


def test_a_choice_of_objects_has_every_field_of_its_request() -> None:
    asked = set(BucketRestoreRequest.model_fields)
    # What is a part of something is asked for by pgben itself.
    assert asked - {"target", "part_of"} == set(ObjectsChoice.__annotations__)


def test_the_client_refuses_before_anything_is_sent(app: Celery) -> None:
    client = Client("redis://localhost/0", app=app)
    with pytest.raises(RequestRefused) as caught:
        client.backup("postgresql://postgres:hunter2@db/pgben")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(RequestRefused):
        client.restore(TARGET, backup="yesterday")
    assert (taken(app, "backup"), taken(app, "restore")) == (None, None)


def test_a_broker_that_is_away_is_one_sentence_within_seconds() -> None:
    client = Client("redis://:hunter2@127.0.0.1:1/0")
    began = time.monotonic()
    with pytest.raises(TransientError, match="broker does not take") as caught:
        client.backup(TARGET)
    assert time.monotonic() - began < 10
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "http://x", "redis://", "redis://host:99999/0", "redis://host:x/0"),
        *("redis://:hunter2@host:6379/x", "amqp://guest:hunter2@host/0", "redis://[host/0"),
    ],
)
def test_a_url_that_is_none_of_redis_is_told_at_once_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not the URL of a Redis database") as caught:
        Client(url)
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "results"),
    [
        ("redis://host", "redis://host/1"),
        ("redis://host/", "redis://host/1"),
        ("redis://user:p%2Fw@host:6379/3", "redis://user:p%2Fw@host:6379/1"),
        ("redis://host/0?socket_timeout=3", "redis://host/1?socket_timeout=3"),
        ("rediss://host:6379/0", "rediss://host:6379/1?ssl_cert_reqs=required"),
        ("rediss://host/2?ssl_cert_reqs=none", "rediss://host/1?ssl_cert_reqs=none"),
    ],
)
def test_what_the_settings_take_the_client_takes_and_results_go_to_database_1(
    url: str, results: str
) -> None:
    app = app_module.create_app(url)
    assert app.conf.result_backend == results
    assert app.backend.connparams["db"] == 1
    assert app.conf.broker_url.startswith(url.partition("?")[0].rstrip("/"))
    Client(url)


def test_questions_and_cancellations_go_to_their_queues(app: Celery) -> None:
    client = Client("redis://localhost/0", app=app)
    results = [
        client.backups(TARGET, limit=2, expires=30),
        client.jobs(kind="backup", open_only=True),
        client.status(),
        client.cancel(JOB, requested_by="billing"),
    ]
    messages = [taken(app, "maintenance") for _ in results]
    assert [one and one.headers["task"] for one in messages] == [
        "pgben.catalog.backups",
        "pgben.catalog.jobs",
        "pgben.catalog.status",
        "pgben.cancel.run",
    ]
    assert [one and one.headers["id"] for one in messages] == [result.id for result in results]
    assert [one and one.headers["expires"] is None for one in messages] == [False, True, True, True]
    requests = [one.payload[0][0] for one in messages if one]
    assert (requests[0]["target"], requests[0]["limit"]) == (TARGET, 2)
    assert (requests[3]["job"], requests[3]["requested_by"]) == (JOB, "billing")
    for name, model in TASK_REQUESTS.items():
        assert "surprise" in refusal(model, {"surprise": 1}).sentence, name
    with pytest.raises(RequestRefused, match="limit"):
        client.jobs(limit=201)


def test_tasks_without_a_job_are_routed_for_every_producer() -> None:
    routes = app_module.create_app("redis://localhost/0").conf.task_routes
    assert set(TASK_REQUESTS) == {*names.READ_ONLY_TASKS, names.CANCEL_RUN}
    assert {*names.READ_ONLY_TASKS, *names.ENTRY_TASKS} <= set(routes)


# The chains


def sent(app: Celery, queue: str) -> tuple[Message, list[tuple[str, str, str]]]:
    """Take the message of a chain's first step; give it and (step, queue, id) of all its steps."""
    message = taken(app, queue)
    assert message is not None
    first = (message.headers["task"], queue, message.headers["id"])
    rest = [
        (step["task"], step["options"]["queue"], step["options"]["task_id"])
        for step in reversed(message.payload[2]["chain"])
    ]
    return message, [first, *rest]


def test_steps_that_share_a_spool_run_where_it_lies(app: Celery) -> None:
    for kind, first, expected in (
        ("backup", "backup.n1", ["backup.n1"] * 3 + ["maintenance", "backup.n1"]),
        ("restore", "restore.n1", ["restore.n1"] * 5),
        # What comes after the check needs no file, and must not wait for a node that is gone.
        ("swap", "restore.n1", ["restore.n1"] * 4 + ["restore"] * 2),
        ("undo", "restore", ["restore"]),
        ("verify", "verify", ["verify"] * 2),
        ("prune", "maintenance", ["maintenance"]),
        ("acknowledge", "maintenance", ["maintenance"]),
        ("hold", "maintenance", ["maintenance"]),
        ("existing", "maintenance", ["maintenance"]),
        ("sweep", "maintenance", ["maintenance"]),
    ):
        canvases.build(app, kind, REF, node="n1").apply_async()
        message, steps = sent(app, first)
        assert [name for name, _, _ in steps] == [name for name, _ in canvases.CHAINS[kind]]
        assert [queue for _, queue, _ in steps] == expected
        assert message.payload[0] == [REF]


@pytest.mark.parametrize("start", [name for name, _ in canvases.CHAINS["backup"]])
def test_a_chain_goes_on_from_any_step_and_answers_under_the_same_id(
    app: Celery, start: str
) -> None:
    result = canvases.build(
        app, "backup", REF, node="n1", start=start, root_task="root"
    ).apply_async()
    names_of_chain = [name for name, _ in canvases.CHAINS["backup"]]
    queue = canvases.queue_of(dict(canvases.CHAINS["backup"])[start], "n1")
    message, steps = sent(app, queue)
    assert [name for name, _, _ in steps] == names_of_chain[names_of_chain.index(start) :]
    assert message.payload[0] == [REF]
    assert [identity == "root" for _, _, identity in steps] == [False] * (len(steps) - 1) + [True]
    assert result.id == "root"


@pytest.mark.parametrize("kind", canvases.CHAINS)
def test_every_chain_is_walked_from_its_first_step_to_a_closing_one(kind: str) -> None:
    special = {
        "swap": ("restore", "postgres"),
        "replace": ("restore", "bucket"),
        "replace_part": ("restore", "bucket"),
        "restore_all": ("restore_all", "postgres"),
        "replace_all": ("restore_all", "postgres"),
        "undo_all": ("undo_all", "postgres"),
        "existing": ("backup", "postgres"),
        "existing_bucket": ("backup", "bucket"),
    }
    name, of = special.get(kind) or (kind.partition("_")[0], kind.partition("_")[2] or "postgres")
    entry, queue = canvases.entry(name, f"{of}/x")
    step = canvases.first_step(kind)
    walked = [step]
    while (following := canvases.next_step(kind, step)) is not None:
        walked.append(following)
        step = following
    assert walked == [name for name, _ in canvases.CHAINS[kind]]
    assert all(name.startswith(f"{entry}.") for name in walked)
    assert walked[-1].endswith((".record", ".finish"))
    assert queue in names.QUEUES


# The application's settings (each with its reason in ``app.py``)


def test_the_application_is_set_as_the_measurements_ask() -> None:
    conf = app_module.create_app("redis://:secret@queue:6379/0").conf
    assert conf.broker_url == "redis://:secret@queue:6379/0"
    assert conf.result_backend == "redis://:secret@queue:6379/1"
    expected = {
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        "task_retry_on_worker_lost": True,
        "task_reject_on_worker_lost": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_soft_shutdown_timeout": 60,
        "result_extended": False,
        "result_backend_always_retry": True,
        "task_track_started": True,
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_default_queue": "maintenance",
        "enable_utc": True,
        "timezone": "UTC",
        "broker_connection_retry_on_startup": True,
    }
    assert {name: conf[name] for name in expected} == expected
    policy = conf.task_publish_retry_policy
    assert (policy["max_retries"], policy["interval_max"]) == (60, 10)
    assert [queue.name for queue in conf.task_queues] == list(names.QUEUES)
    assert {queue.exchange.name for queue in conf.task_queues} == set(names.QUEUES)


def test_a_message_stays_hidden_longer_than_a_step_and_its_publishing_may_take() -> None:
    conf = app_module.create_app("redis://x/0").conf
    options = conf.broker_transport_options
    policy = conf.task_publish_retry_policy
    publishing = policy["max_retries"] * policy["interval_max"]
    assert conf.task_soft_time_limit < conf.task_time_limit
    assert conf.task_time_limit == timedelta(hours=8).total_seconds()
    assert options["visibility_timeout"] == timedelta(hours=10).total_seconds()
    assert options["visibility_timeout"] > conf.task_time_limit + publishing
    assert (options["unacked_restore_interval"], options["unacked_restore_throttle"]) == (10, 1)
    assert (
        conf.result_backend_transport_options["visibility_timeout"] == options["visibility_timeout"]
    )


def test_the_tick_runs_on_the_maintenance_queue() -> None:
    routed = app_module.create_app("redis://x/0").amqp.router.route({}, names.TICK)
    assert routed["queue"].name == "maintenance"


@pytest.mark.parametrize("target", ["postgres/x", "bucket/x"])
@pytest.mark.parametrize("kind", REQUESTS)
def test_entry_tasks_are_routed_to_their_queue_without_being_told(kind: str, target: str) -> None:
    name, queue = canvases.entry(kind, target)
    assert app_module.create_app("redis://x/0").amqp.router.route({}, name)["queue"].name == queue


def test_what_the_broker_library_imports_without_saying_so_is_in_every_lock() -> None:
    """A lock with development tools has it by accident; a worker's had not, and did not start."""
    root = Path(__file__).parents[2]
    base = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(line.startswith("packaging") for line in base["dependencies"])
    for lock in ("dev.txt", "worker.txt"):
        text = (root / "requirements" / lock).read_text(encoding="utf-8")
        assert re.search(r"^packaging==", text, re.MULTILINE), lock
