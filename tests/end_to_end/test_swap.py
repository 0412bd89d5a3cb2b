"""Swaps by real workers: done, refused, undone, and killed at five moments.

Whatever is killed, the live database answers again, as the old or as the new one, never neither.
A moment is held by a lock that the test takes on the server: there the worker waits, and dies.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pgben_tasks import names
from pgben_tasks.adapters.catalog.locks import is_free, job_lock
from pgben_tasks.app import create_app
from pgben_tasks.domain.job import Job
from pgben_tasks.embedded.child import Child
from pgben_tasks.embedded.data.compare import TableContent, contents
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from tests.support.deployment import DATABASE, TARGET, Deployment, described, eventually
from tests.support.timetables import TICK_OF_PRODUCTION

pytestmark = pytest.mark.unmeasured

#: From the SIGKILL of a worker to a live database that answers, in production: a tick is the first
#: that can notice, and comes up to a minute later there.
ANSWERS_WITHIN = timedelta(minutes=2) - TICK_OF_PRODUCTION


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with Deployment.build() as built:
        yield built


@pytest.fixture
def restorer(deployment: Deployment) -> Iterator[Child]:
    """Start a worker that restores; tests that kill theirs have one of their own."""
    started = deployment.start("restore")
    yield started
    started.stop(signal.SIGQUIT)


@pytest.fixture(scope="module")
def backed_up(deployment: Deployment) -> dict[str, object]:
    """Start what is never killed here, back up, and describe what was backed up."""
    deployment.start("backup", name="backup")
    deployment.start("maintenance", name="maintenance")
    assert deployment.pgben("backup", DATABASE).code == 0
    return described(deployment)


def change(deployment: Deployment) -> None:
    """Let the live database differ from its backup, in rows, grants and settings."""
    name = sql.Identifier(DATABASE)
    with deployment.stack.postgres.connect(DATABASE) as connection:
        connection.execute("DROP TABLE IF EXISTS agora; CREATE TABLE agora AS SELECT now() AS t")
        connection.execute(sql.SQL("ALTER DATABASE {} SET work_mem TO '7MB'").format(name))
        connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(name))


def swap(deployment: Deployment, *more: str) -> tuple[int, Job]:
    ran = deployment.pgben("restore", DATABASE, "--in-place", "--confirm", DATABASE, *more)
    return ran.code, deployment.jobs("restore")[0]


def content(deployment: Deployment) -> dict[str, TableContent]:
    return contents(deployment.stack.postgres.dsn(), DATABASE)


def test_a_swap_and_its_undo(
    deployment: Deployment, restorer: Child, backed_up: dict[str, object]
) -> None:
    change(deployment)
    before, rows = described(deployment), content(deployment)

    code, job = swap(deployment)

    assert code == 0
    assert job.result["state"] == "swapped"
    assert described(deployment) == backed_up
    assert {job.result["replaced"], DATABASE} <= deployment.databases()
    # The swapped-in database is backed up as the old one was.
    assert deployment.pgben("backup", DATABASE).code == 0

    ran = deployment.pgben("undo", str(job.id)[:8], "--confirm", DATABASE, "--json")

    assert ran.code == 0, ran.err
    assert ran.json["jobs"][0]["result"]["state"] == "undone"
    assert (described(deployment), content(deployment)) == (before, rows)
    ran = deployment.pgben("undo", str(job.id), "--confirm", DATABASE, "--json")
    assert ran.code == 3
    assert "undone already" in ran.json["jobs"][0]["error"]["sentence"]


def test_a_swap_without_its_confirmation_is_refused(
    deployment: Deployment, restorer: Child, backed_up: dict[str, object]
) -> None:
    before = deployment.databases()
    ran = deployment.pgben("restore", DATABASE, "--in-place")
    assert ran.code == 3
    assert f"--confirm {DATABASE}" in ran.err
    # A service that goes past the command line is refused by the worker, on record.
    app = create_app(deployment.environment["PGBEN_REDIS_URL"])
    request = {"target": str(TARGET), "swap": True, "confirm": "another"}
    app.send_task(names.RESTORE_POSTGRES, args=(request,), queue="restore")
    eventually(lambda: deployment.jobs("restore")[0].state == "refused", seconds=30, what="refused")
    assert "would be replaced" in (deployment.jobs("restore")[0].error or {})["sentence"]
    assert deployment.databases() == before


def test_a_swap_with_something_in_its_way_is_refused_before_any_work(
    deployment: Deployment, restorer: Child, backed_up: dict[str, object]
) -> None:
    before = deployment.databases()
    with deployment.stack.postgres.connect(DATABASE) as connection:
        connection.execute(
            "CREATE SUBSCRIPTION espera CONNECTION 'host=nowhere' PUBLICATION p"
            " WITH (connect = false, slot_name = NONE)"
        )
    code, job = swap(deployment)
    with deployment.stack.postgres.connect(DATABASE) as connection:
        connection.execute("DROP SUBSCRIPTION espera")

    assert (code, job.state) == (3, "refused")
    assert "subscription 'espera'" in (job.error or {})["sentence"]
    assert deployment.databases() == before


# Killed at five moments. Locks and an open transaction of the test hold the worker there.


@dataclass
class Scene:
    """A deployment with a swap under way, and the sessions by which the test holds it up."""

    deployment: Deployment
    server: psycopg.Connection[Any]
    catalog: psycopg.Connection[Any]
    inside: psycopg.Connection[Any]

    def before_the_fence(self) -> None:
        """Hold the swap between its record and its first change of the server."""
        self._lock(self.catalog, "swap")
        until(lambda: waits(self.deployment.catalog, "pgben catalog"), "the record waits")
        self._lock(self.server, "pg_database")
        self.catalog.rollback()
        until(lambda: waits(self.deployment.stack.postgres, "pgben swap"), "the fence waits")

    def while_sessions_end(self) -> None:
        """Hold the swap by a transaction that takes its time."""
        self.inside.execute("SELECT count(*) FROM agora")
        until(self._fenced, "the database is fenced")

    def before_the_renames(self) -> None:
        """Hold the swap when nobody is connected any more."""
        self.while_sessions_end()
        self._lock(self.server, "pg_database")
        self.inside.rollback()
        until(lambda: waits(self.deployment.stack.postgres, "pgben swap"), "the rename waits")

    def in_the_transaction(self) -> None:
        """Hold the swap after the renames, before the commit."""
        # Not before the copy is there: making it sets something of it, too.
        self.while_sessions_end()
        self._lock(self.server, "pg_db_role_setting")
        self.inside.rollback()
        until(lambda: waits(self.deployment.stack.postgres, "pgben swap"), "the settings wait")

    def after_the_commit(self) -> None:
        """Hold the swap before it can say that it is done."""
        self.while_sessions_end()
        self._lock(self.catalog, "swap")
        self.inside.rollback()
        until(lambda: waits(self.deployment.catalog, "pgben catalog"), "the record waits")

    def release(self) -> None:
        """Let everything go on."""
        for session in (self.server, self.catalog, self.inside):
            session.close()

    def _fenced(self) -> bool:
        with self.deployment.stack.postgres.connect() as connection:
            row = connection.execute(
                "SELECT datallowconn FROM pg_database WHERE datname = %s", (DATABASE,)
            ).fetchone()
        return row == (False,)

    @staticmethod
    def _lock(session: psycopg.Connection[Any], table: str) -> None:
        session.execute(
            sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.Identifier(table))
        )


def waits(server: EmbeddedPostgres, application: str) -> bool:
    """Whether a session of pgben waits for a lock on that server."""
    # A session of its own: inside a transaction the view shows what it showed first.
    with server.connect() as connection:
        found = connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = %s"
            " AND wait_event_type = 'Lock'",
            (application,),
        ).fetchall()
    return bool(found)


def until(condition: Callable[[], bool], what: str) -> None:
    eventually(condition, seconds=60, what=what)


@pytest.fixture
def scene(deployment: Deployment, backed_up: dict[str, object]) -> Iterator[Scene]:
    """Yield a deployment whose live database has changed since its backup."""
    change(deployment)
    made = Scene(
        deployment,
        psycopg.connect(**deployment.stack.postgres.dsn()),
        psycopg.connect(**deployment.catalog.dsn("pgben_catalog")),
        psycopg.connect(**deployment.stack.postgres.dsn(DATABASE)),
    )
    yield made
    made.release()


def answers(deployment: Deployment) -> bool:
    try:
        deployment.stack.postgres.connect(DATABASE).close()
    except psycopg.OperationalError:
        return False
    return True


def ticked(deployment: Deployment, condition: Callable[[], bool]) -> Callable[[], bool]:
    """Send the tick, as beat does, and say whether ``condition`` holds by now."""
    app = create_app(deployment.environment["PGBEN_REDIS_URL"])

    def look() -> bool:
        app.send_task(names.TICK, queue=names.QUEUE_MAINTENANCE, expires=60).get(timeout=30)
        return condition()

    return look


def age(deployment: Deployment) -> None:
    """Let a minute pass for the heartbeats in the catalog."""
    with deployment.catalog.connect("pgben_catalog") as connection:
        connection.execute("UPDATE step SET heartbeat_at = heartbeat_at - interval '61 s'")


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("moment", "new"),
    [
        (Scene.before_the_fence, False),
        (Scene.while_sessions_end, False),
        (Scene.before_the_renames, False),
        (Scene.in_the_transaction, False),
        (Scene.after_the_commit, True),
    ],
)
def test_a_worker_killed_in_mid_swap_leaves_old_or_new(
    deployment: Deployment,
    backed_up: dict[str, object],
    scene: Scene,
    moment: Callable[[Scene], None],
    new: bool,
) -> None:
    old, rows = described(deployment), content(deployment)
    known = deployment.databases()
    victim = deployment.start("restore", name=f"victim-{moment.__name__}")
    ran = deployment.pgben("restore", DATABASE, "--swap", "--confirm", DATABASE, "--no-wait")
    assert ran.code == 0, ran.err
    job = deployment.jobs("restore")[0]
    moment(scene)
    assert deployment.work.ledger.job(job.id).step == names.RESTORE_POSTGRES_SWAP
    victim.kill()
    scene.release()

    eventually(
        ticked(deployment, lambda: answers(deployment)), seconds=30, what="the live one answers"
    )

    assert described(deployment) == (backed_up if new else old)
    if not new:
        assert content(deployment) == rows
    assert is_free(deployment.work.database, job_lock(job.id))
    assert deployment.work.swaps.open() == []

    # Its worker is started again, and the job comes to its end: once.
    again = deployment.start("restore", name=f"again-{moment.__name__}")
    age(deployment)
    eventually(
        ticked(deployment, lambda: deployment.work.ledger.job(job.id).ended),
        seconds=90,
        what="the job ends",
    )
    again.stop(signal.SIGQUIT)
    ended = deployment.work.ledger.job(job.id)
    assert ended.state == "succeeded", ended.error
    assert ended.attempt == 1
    assert described(deployment) == backed_up
    assert deployment.databases() - known == {ended.result["replaced"]}


@pytest.mark.timeout(240)
def test_with_beat_the_live_database_answers_within_two_minutes(
    deployment: Deployment, backed_up: dict[str, object], scene: Scene
) -> None:
    old = described(deployment)
    deployment.start("beat", name="beat")
    victim = deployment.start("restore", name="victim-of-beat")
    deployment.pgben("restore", DATABASE, "--swap", "--confirm", DATABASE, "--no-wait")
    scene.while_sessions_end()
    # Looked at before the kill: afterwards a tick may be quicker than this test.
    assert not answers(deployment)
    victim.kill()
    killed = datetime.now(UTC)
    scene.release()

    eventually(
        lambda: answers(deployment),
        seconds=ANSWERS_WITHIN.total_seconds(),
        what="the live database answers",
    )

    assert datetime.now(UTC) - killed < ANSWERS_WITHIN
    assert described(deployment) == old
