"""A swap on a real server: one database or the other answers, whole, whatever happens."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from celery import Celery
from psycopg import sql

from pgben_tasks import canvases, names, runtime
from pgben_tasks.adapters.catalog.locks import holding, job_lock
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.adapters.postgres.swap import PostgresSwap
from pgben_tasks.app import create_app
from pgben_tasks.contracts import REQUESTS
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.documents import PostgresCapture, Setting
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.swap import Swap, marker
from pgben_tasks.embedded.data.compare import contents
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.errors import (
    DatabaseUnavailable,
    FenceLost,
    PermanentError,
    RequestMistaken,
    RestoreRefused,
    TargetBusy,
    TransientError,
)
from pgben_tasks.operations.postgres import swap as swap_postgres
from pgben_tasks.tasks import reconciler
from tests.support.fixtures_postgres import RecordingProgress, in_thread
from tests.support.workshop import Workshop

#: What two descriptions of one database may differ in: when and where it was looked at.
INCIDENTAL = {"database", "lsn", "snapshot_time", "snapshot", "database_bytes"}

SCHEMA = """
CREATE TABLE pedido (id int PRIMARY KEY, texto text);
INSERT INTO pedido SELECT g, md5(g::text) FROM generate_series(1, 300) g;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """Yield a server on which prepared transactions and logical slots can stand in the way."""
    settings = {"max_prepared_transactions": "4", "wal_level": "logical"}
    with EmbeddedPostgres.start(settings=settings) as started:
        yield started


@pytest.fixture
def shop(server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Workshop]:
    """Yield an installation with a backup, whose database has changed since."""
    name = f"vivo_{secrets.token_hex(4)}"
    role = sql.Identifier(f"leitor_{name}")
    database = sql.Identifier(name)
    with server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
    with server.connect(name) as connection:
        connection.execute(SCHEMA)
        for statement in (
            "ALTER DATABASE {db} SET work_mem TO '9MB'",
            "ALTER ROLE {role} IN DATABASE {db} SET statement_timeout TO '5min'",
            "ALTER DATABASE {db} CONNECTION LIMIT 42",
            "REVOKE ALL ON DATABASE {db} FROM PUBLIC",
            "GRANT CONNECT ON DATABASE {db} TO {role}",
            "COMMENT ON DATABASE {db} IS 'o banco vivo'",
        ):
            connection.execute(sql.SQL(statement).format(db=database, role=role))
    with Workshop.open(tmp_path, server, name) as opened:
        quick = PostgresSwap(
            runtime.postgres_servers(opened.work.settings)[opened.target],
            grace=timedelta(seconds=2),
        )
        made = replace(opened, tools=replace(opened.tools, swapping={opened.target: quick}))
        made.backup()
        with server.connect(name) as connection:
            connection.execute("DELETE FROM pedido WHERE id > 100")
            connection.execute(sql.SQL("ALTER DATABASE {} SET work_mem TO '7MB'").format(database))
        yield made
    drop_like(server, name)
    with server.connect() as connection:
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.fixture
def queue(redis_server: EmbeddedRedis) -> Celery:
    return create_app(redis_server.url.rpartition("/")[0] + "/9")


def drop_like(server: EmbeddedPostgres, name: str) -> None:
    """Drop every database of a test."""
    with server.connect() as connection:
        for (one,) in connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{name}%",)
        ).fetchall():
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(one)))


def live(shop: Workshop) -> str:
    return shop.target.name


def databases(shop: Workshop) -> dict[str, bool]:
    """Return the test's databases, and whether each takes connections."""
    with shop.server.connect() as connection:
        return dict(
            connection.execute(
                "SELECT datname, datallowconn FROM pg_database WHERE datname LIKE %s",
                (f"{live(shop)}%",),
            ).fetchall()
        )


def rows(shop: Workshop, name: str = "") -> int:
    with shop.server.connect(name or live(shop)) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM pedido").fetchall()
    return int(count)


def described(shop: Workshop, name: str = "") -> dict[str, Any]:
    """Describe a database with all that a swap could lose."""
    address = runtime.postgres_servers(shop.work.settings)[shop.target]
    source = PostgresSource(address, name or live(shop))
    with source.capture(source.preflight().tools) as capture:
        found: PostgresCapture = capture.describe(capture.count())
    return found.model_dump(exclude=INCIDENTAL)


def swapped(shop: Workshop) -> Job:
    """Run a whole restore with a swap."""
    return shop.run(
        "restore",
        {"target": str(shop.target), "swap": True, "confirm": live(shop)},
        context={"into": f"{live(shop)}_copy"},
    )


def undone(shop: Workshop, job: Job) -> Job:
    return shop.run("undo", {"target": str(shop.target), "job": str(job.id), "confirm": live(shop)})


# What a swap does


def test_a_swap_puts_the_backup_in_place_and_keeps_what_it_replaced(shop: Workshop) -> None:
    before = described(shop)
    backed_up = shop.tools.repository.manifest(
        shop.target, shop.tools.repository.backups(shop.target)[0]
    ).database.model_dump(exclude=INCIDENTAL)

    job = swapped(shop)

    assert (job.result["state"], job.result["database"]) == ("swapped", live(shop))
    assert rows(shop) == 300
    assert described(shop) == backed_up
    aside = job.result["replaced"]
    assert databases(shop) == {live(shop): True, aside: False}
    assert aside.startswith(f"{live(shop)}_replaced_")
    with shop.server.connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(aside))
        )
    assert described(shop, aside) == before
    record = shop.tools.swaps.swap_of_job(job.id)
    assert record is not None
    assert record.state == "done"


def test_an_undo_brings_back_the_very_database_and_keeps_the_other(shop: Workshop) -> None:
    before, original = described(shop), contents(shop.server.dsn(), live(shop))
    job = swapped(shop)
    with shop.server.connect(live(shop)) as connection:
        connection.execute("INSERT INTO pedido VALUES (1000, 'written after the swap')")

    ended = undone(shop, job)

    assert ended.result["state"] == "undone"
    assert described(shop) == before
    assert contents(shop.server.dsn(), live(shop)) == original
    aside = ended.result["replaced"]
    assert databases(shop) == {live(shop): True, aside: False}
    with shop.server.connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(aside))
        )
    assert rows(shop, aside) == 301
    with pytest.raises(RequestMistaken, match="undone already"):
        undone(shop, job)
    # An undo is a swap, and can be undone itself.
    again = undone(shop, ended)
    assert rows(shop) == 301
    assert again.result["state"] == "undone"


def test_only_a_swap_of_this_target_can_be_undone(shop: Workshop) -> None:
    job = shop.restore(f"{live(shop)}_beside")
    for stranger in (job, replace(job, id=uuid4())):
        with pytest.raises(RequestMistaken, match="has swapped nothing"):
            undone(shop, stranger)


def test_sessions_are_ended_and_a_running_transaction_gets_its_time(shop: Workshop) -> None:
    idle = shop.server.connect(live(shop))
    working = psycopg.connect(**shop.server.dsn(live(shop)))
    working.execute("INSERT INTO pedido VALUES (5000, 'written in time')")

    def commit_when_fenced() -> None:
        while databases(shop)[live(shop)]:
            pass
        working.commit()
        working.close()

    thread = in_thread(commit_when_fenced)
    job = swapped(shop)
    thread.join(timeout=10)

    with pytest.raises(psycopg.OperationalError):
        idle.execute("SELECT 1")
    aside = job.result["replaced"]
    with shop.server.connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(aside))
        )
    assert rows(shop, aside) == 101


# What is gone


def drop(shop: Workshop, name: str) -> None:
    with shop.server.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def test_a_dropped_database_is_restored_into_its_name_and_it_says_so(shop: Workshop) -> None:
    backed_up = shop.tools.repository.manifest(
        shop.target, shop.tools.repository.backups(shop.target)[0]
    ).database.model_dump(exclude=INCIDENTAL)
    drop(shop, live(shop))

    job = swapped(shop)

    assert (job.result["state"], job.result["database"]) == ("swapped", live(shop))
    assert "nothing was replaced" in job.result["note"]
    assert "replaced" not in job.result
    assert "kept_until" not in job.result
    assert databases(shop) == {live(shop): True}
    assert described(shop) == backed_up
    with pytest.raises(RestoreRefused, match="replaced nothing"):
        undone(shop, job)
    assert databases(shop) == {live(shop): True}
    # Nothing was set aside, so nothing is ever removed.
    assert shop.work.swaps.expired(timedelta(0)) == []


def test_what_had_the_name_at_first_and_is_gone_at_the_end_is_not_missed(shop: Workshop) -> None:
    job = begun(shop)
    drop(shop, live(shop))

    assert "nothing was replaced" in swap_step(shop, job)["note"]
    assert databases(shop) == {live(shop): True}
    assert rows(shop) == 300


def test_what_somebody_made_in_the_name_meanwhile_is_replaced_and_kept(shop: Workshop) -> None:
    job = begun(shop)
    drop(shop, live(shop))
    made: list[str] = []

    def make() -> None:
        # When the databases were looked at already, as an application that starts again would.
        if not made:
            with shop.server.connect() as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(live(shop))))
            made.append(live(shop))

    with pytest.raises(TargetBusy, match="made a database"):
        swap_step(shop, job, hold=make)
    assert databases(shop) == {live(shop): True, f"{live(shop)}_copy": True}

    # The step is tried again, on the same copy.
    aside = swap_step(shop, job)["replaced"]

    assert rows(shop) == 300
    assert databases(shop) == {live(shop): True, aside: False}


def test_a_dead_process_that_was_about_to_replace_nothing_leaves_an_end(
    shop: Workshop, queue: Celery
) -> None:
    job = begun(shop)
    drop(shop, live(shop))
    swap = intended(shop, job)
    assert swap.aside is None

    assert reconciler.tick(shop.work, queue)["swaps"] == 1

    record = shop.tools.swaps.swap_of_job(job.id)
    assert record is not None
    assert record.state == "abandoned"
    assert swap_step(shop, job)["database"] == live(shop)


def test_an_undo_gives_the_name_back_when_the_restored_database_is_gone(shop: Workshop) -> None:
    before = described(shop)
    job = swapped(shop)
    drop(shop, live(shop))

    ended = undone(shop, job)

    assert ended.result["state"] == "undone"
    assert "nothing was replaced" in ended.result["note"]
    assert databases(shop) == {live(shop): True}
    assert described(shop) == before
    with pytest.raises(RequestMistaken, match="undone already"):
        undone(shop, job)


def test_an_undo_puts_no_other_database_in_place_that_has_the_name_of_the_kept_one(
    shop: Workshop,
) -> None:
    job = swapped(shop)
    before = databases(shop)
    drop(shop, job.result["replaced"])
    with shop.server.connect() as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} ALLOW_CONNECTIONS false").format(
                sql.Identifier(job.result["replaced"])
            )
        )

    with pytest.raises(RestoreRefused, match="are not the databases of that swap any more"):
        undone(shop, job)

    assert databases(shop) == before


# What stands in the way


def test_everything_that_blocks_is_listed_at_once_and_nothing_is_touched(shop: Workshop) -> None:
    with shop.server.connect(live(shop)) as connection:
        # A slot is not made before running transactions have ended, so it comes first.
        connection.execute("SELECT pg_create_logical_replication_slot('s1', 'pgoutput')")
        connection.execute("BEGIN; INSERT INTO pedido VALUES (7000, 'x'); PREPARE TRANSACTION 'p1'")
        connection.execute(
            "CREATE SUBSCRIPTION sub1 CONNECTION 'host=nowhere' PUBLICATION p"
            " WITH (connect = false, slot_name = NONE)"
        )
    before = databases(shop)
    try:
        with pytest.raises(RestoreRefused) as caught:
            swapped(shop)
        for name in ("transaction 'p1'", "slot 's1'", "subscription 'sub1'"):
            assert name in caught.value.sentence
        assert "'tablespace" not in caught.value.sentence
        assert databases(shop) == before
    finally:
        with shop.server.connect(live(shop)) as connection:
            connection.execute("ROLLBACK PREPARED 'p1'")
            connection.execute("SELECT pg_drop_replication_slot('s1')")
            connection.execute("DROP SUBSCRIPTION sub1")
    assert swapped(shop).result["state"] == "swapped"


def test_what_the_server_lacks_blocks(shop: Workshop) -> None:
    swapping = shop.tools.swapping[shop.target]
    capture = shop.tools.repository.manifest(
        shop.target, shop.tools.repository.backups(shop.target)[0]
    ).database
    wanting = capture.model_copy(update={"tablespaces": ("rapido",), "database_bytes": 2**60})

    found = swapping.blockers(live(shop), f"{live(shop)}_r", wanting, room=True)

    assert len(found) == 2
    assert "tablespace 'rapido'" in found[0]
    assert "bytes free" in found[1]
    assert swapping.blockers(live(shop), f"{live(shop)}_r", capture, room=True) == ()
    assert swapping.blockers("absent", f"{live(shop)}_r", None, room=False) == ()
    assert "already a database" in swapping.blockers(live(shop), "template1", None, room=False)[0]
    assert "never replaced" in swapping.blockers("postgres", "x", None, room=False)[0]


def test_the_catalog_is_never_replaced(shop: Workshop) -> None:
    catalog = shop.work.database.name
    (found,) = shop.work.swapping[shop.target].blockers(catalog, "x", None, room=False)
    assert "needed by pgben itself" in found


# What goes wrong in the middle


def test_a_job_that_was_lost_meanwhile_leaves_the_live_database_as_it_was(shop: Workshop) -> None:
    before = described(shop)
    held: list[bool] = []

    def lose() -> None:
        held.append(databases(shop)[live(shop)])
        if len(held) == 2:
            raise FenceLost("job 'x' is owned by another attempt")

    job = begun(shop)
    with pytest.raises(FenceLost):
        swap_step(shop, job, hold=lose)

    # The second look is the one right before the transaction, with the database closed.
    assert held == [True, False]
    assert described(shop) == before
    assert databases(shop)[live(shop)] is True
    record = shop.tools.swaps.swap_of_job(job.id)
    assert record is not None
    assert record.state == "abandoned"


@pytest.mark.parametrize("look", [1, 2])
def test_a_swap_that_is_held_up_gives_the_live_database_back(shop: Workshop, look: int) -> None:
    before = described(shop)
    job = begun(shop)
    looks: list[bool] = []
    with shop.server.connect() as other:
        other.execute("BEGIN")

        def lock() -> None:
            looks.append(databases(shop)[live(shop)])
            if len(looks) == look:
                other.execute("LOCK TABLE pg_db_role_setting IN SHARE MODE")

        with pytest.raises(TargetBusy, match="could not be swapped"):
            swap_step(shop, job, hold=lock)
        # What is held up before the fence disturbs nobody.
        assert looks == ([True] if look == 1 else [True, False, False, False])
        # The lock of the test still stands, and the database is open already.
        assert rows(shop) == 100
        other.execute("ROLLBACK")
    assert described(shop) == before
    # The step is tried again, on the same copy.
    assert swap_step(shop, job)["database"] == live(shop)
    assert rows(shop) == 300


def test_a_swap_that_is_done_is_not_done_twice(shop: Workshop) -> None:
    job = begun(shop)
    first = swap_step(shop, job)
    # A worker that died right after the commit: the record was never settled.
    with shop.work.database.transaction() as cursor:
        cursor.execute("UPDATE swap SET state = 'intended' WHERE job = %s", (job.id,))

    again = swap_step(shop, job)

    assert again["replaced"] == first["replaced"]
    assert rows(shop) == 300
    record = shop.tools.swaps.swap_of_job(job.id)
    assert record is not None
    assert record.state == "done"


def test_a_copy_that_somebody_replaced_is_not_swapped_in(shop: Workshop) -> None:
    before, job = described(shop), begun(shop)
    copy = sql.Identifier(f"{live(shop)}_copy")
    looks: list[None] = []

    def replace_copy() -> None:
        looks.append(None)
        if len(looks) == 2:
            with shop.server.connect() as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(copy))
                connection.execute(sql.SQL("CREATE DATABASE {}").format(copy))

    with pytest.raises(RestoreRefused, match="not the database that was to be swapped in"):
        swap_step(shop, job, hold=replace_copy)

    assert described(shop) == before
    assert databases(shop) == {live(shop): True, f"{live(shop)}_copy": True}
    # Before anybody is disturbed as well: this copy is another one than the record says.
    with pytest.raises(RestoreRefused, match="not the copy of this restore"):
        swap_step(shop, job)
    assert databases(shop)[live(shop)] is True


def test_what_the_server_will_not_take_is_found_out_before_anybody_is_disturbed(
    shop: Workshop,
) -> None:
    job = begun(shop)
    capture = shop.tools.repository.manifest(
        shop.target, shop.tools.repository.backups(shop.target)[0]
    ).database
    unknown = Setting(role="", name="no_such_setting", value="1")
    foreign = capture.model_copy(update={"settings": (*capture.settings, unknown)})
    swap = intended(shop, job)
    with shop.server.connect(live(shop)) as session:
        with pytest.raises(PermanentError, match="no_such_setting"):
            shop.tools.swapping[shop.target].exchange(
                swap, hold=lambda: None, restored=(foreign, marker(job.id))
            )
        assert session.execute("SELECT count(*) FROM pedido").fetchone() == (100,)


def test_what_a_dead_job_began_is_ended_before_another_decides_anything(shop: Workshop) -> None:
    dead = begun(shop)
    intended(shop, dead)
    fence(shop)
    with shop.server.connect() as connection:
        connection.execute(
            sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(f"{live(shop)}_copy"))
        )

    assert swapped(shop).result["state"] == "swapped"

    assert rows(shop) == 300
    ended = shop.tools.swaps.swap_of_job(dead.id)
    assert ended is not None
    assert ended.state == "abandoned"


def test_an_attempt_that_never_swapped_may_be_made_again(shop: Workshop) -> None:
    job = begun(shop)
    intended(shop, job)
    chain = watched(shop, job)

    assert chain.step(names.RESTORE_POSTGRES_SELECT).result["backup"] == job.backup

    for name, _ in canvases.CHAINS["swap"][1:]:
        chain.step(name)
    assert rows(shop) == 300
    with pytest.raises(RestoreRefused, match="has swapped"):
        chain.step(names.RESTORE_POSTGRES_SELECT)


def test_a_swap_whose_database_does_not_answer_says_which_one_is_there(shop: Workshop) -> None:
    job = begun(shop)
    chain = watched(shop, job)
    chain.step(names.RESTORE_POSTGRES_SWAP)
    address = runtime.postgres_servers(shop.work.settings)[shop.target]
    away = PostgresSource(replace(address, port=1), live(shop))
    chain.tools = replace(shop.tools, sources={shop.target: away})

    with pytest.raises(TransientError, match="was swapped and does not open") as caught:
        chain.step(names.RESTORE_POSTGRES_FINISH)

    assert f"--confirm {live(shop)}" in caught.value.hint


def test_a_session_that_swaps_is_missed_soon_and_commits_for_good(shop: Workshop) -> None:
    swapping = shop.tools.swapping[shop.target]
    assert isinstance(swapping, PostgresSwap)
    with swapping._session("looking") as connection:
        found = {
            name: connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone()
            for name in ("tcp_keepalives_idle", "tcp_keepalives_count", "synchronous_commit")
        }
    assert found == {
        "tcp_keepalives_idle": ("20",),
        "tcp_keepalives_count": ("3",),
        "synchronous_commit": ("on",),
    }


def intended(shop: Workshop, job: Job, *, was_open: bool = True) -> Swap:
    """Write the record of a swap that its process did not live to carry out."""
    swapping = shop.tools.swapping[shop.target]
    live_oid, incoming_oid, _ = swapping.inspect_pair(live(shop), f"{live(shop)}_copy")
    found = Swap(
        job=job.id,
        target=str(shop.target),
        live=live(shop),
        incoming=f"{live(shop)}_copy",
        aside=None if live_oid is None else f"{live(shop)}_replaced_x",
        live_oid=live_oid,
        incoming_oid=incoming_oid,
        was_open=was_open,
    )
    shop.tools.swaps.intend(found)
    return found


def fence(shop: Workshop) -> None:
    with shop.server.connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(live(shop)))
        )


def test_what_a_dead_process_fenced_is_opened_again(shop: Workshop) -> None:
    swap = intended(shop, begun(shop))
    fence(shop)
    swapping = shop.tools.swapping[shop.target]

    assert swap_postgres.settle(swap, swapping, shop.tools.swaps) == "not done"

    assert rows(shop) == 100
    assert shop.work.swaps.open() == []


def test_what_an_operator_had_closed_stays_closed(shop: Workshop) -> None:
    swap = intended(shop, begun(shop), was_open=False)
    fence(shop)

    swap_postgres.settle(swap, shop.tools.swapping[shop.target], shop.tools.swaps)

    assert databases(shop)[live(shop)] is False


def test_while_a_session_swaps_nobody_else_settles(shop: Workshop) -> None:
    job = begun(shop)
    swapping = shop.tools.swapping[shop.target]
    seen: list[Any] = []

    def look() -> None:
        recorded = shop.tools.swaps.swap_of_job(job.id)
        if recorded is not None:
            seen.append(swap_postgres.settle(recorded, swapping, shop.tools.swaps))
            with pytest.raises(TargetBusy, match="already swaps"):
                swapping.exchange(recorded, hold=lambda: None, restored=None)

    swap_step(shop, job, hold=look)

    assert seen == [None]
    assert rows(shop) == 300


def test_nothing_is_guessed_when_somebody_renamed_a_database(shop: Workshop) -> None:
    job = begun(shop)
    swap = intended(shop, job)
    elsewhere = sql.Identifier(f"{live(shop)}_elsewhere")
    with shop.server.connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(live(shop)), elsewhere)
        )
    before = databases(shop)
    swapping = shop.tools.swapping[shop.target]

    assert swap_postgres.settle(swap, swapping, shop.tools.swaps) == "unclear"
    assert [one.job for one in shop.work.swaps.open()] == [job.id]
    with pytest.raises(PermanentError, match="are not as the swap"):
        swap_step(shop, job)
    assert databases(shop) == before


def test_a_server_that_is_away_leaves_the_record_open(shop: Workshop) -> None:
    job = begun(shop)
    address = runtime.postgres_servers(shop.work.settings)[shop.target]
    away = PostgresSwap(replace(address, port=1))
    real = shop.tools.swapping[shop.target]

    class Vanishing:
        """The real server until the exchange, which it does not live to see."""

        def __getattr__(self, name: str) -> Any:
            return getattr(away if name in {"exchange", "settle"} else real, name)

    tools = replace(shop.tools, swapping={shop.target: Vanishing()})
    with pytest.raises(DatabaseUnavailable):
        swap_step(shop, job, tools=tools)

    assert [one.state for one in shop.work.swaps.open()] == ["intended"]
    assert swap_step(shop, job)["database"] == live(shop)


# What is kept, and for how long


def test_a_replaced_database_is_removed_when_its_time_is_over_and_not_before(
    shop: Workshop,
) -> None:
    job = swapped(shop)
    aside = job.result["replaced"]
    assert shop.work.swaps.expired(timedelta(days=7)) == []
    (swap,) = shop.work.swaps.expired(timedelta(0))
    swapping = shop.tools.swapping[shop.target]

    with shop.server.connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(aside))
        )
    assert swapping.drop(swap) == "in use"
    assert aside in databases(shop)
    with shop.server.connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(aside))
        )
    assert swapping.drop(swap) == "dropped"
    assert databases(shop) == {live(shop): True}
    shop.work.swaps.dropped(swap)
    assert shop.work.swaps.expired(timedelta(0)) == []
    with pytest.raises(RestoreRefused, match="past undoing"):
        undone(shop, job)


def test_another_database_of_that_name_is_not_removed(shop: Workshop) -> None:
    job = swapped(shop)
    (swap,) = shop.work.swaps.expired(timedelta(0))
    aside = sql.Identifier(job.result["replaced"])
    with shop.server.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE {}").format(aside))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(aside))

    assert shop.tools.swapping[shop.target].drop(swap) == "gone"
    assert job.result["replaced"] in databases(shop)


def test_what_was_undone_is_never_removed(shop: Workshop) -> None:
    ended = undone(shop, swapped(shop))

    assert [one.job for one in shop.work.swaps.expired(timedelta(0))] == [ended.id]


# What the tick does


def test_the_tick_opens_what_a_dead_process_fenced_and_leaves_a_living_one_alone(
    shop: Workshop, queue: Celery
) -> None:
    swap = intended(shop, begun(shop))
    fence(shop)
    with holding(shop.work.database, [job_lock(swap.job)]):
        assert reconciler.tick(shop.work, queue)["swaps"] == 0
        assert databases(shop)[live(shop)] is False

    assert reconciler.tick(shop.work, queue)["swaps"] == 1
    assert rows(shop) == 100


def test_the_tick_removes_a_replaced_database_after_its_time(shop: Workshop, queue: Celery) -> None:
    aside = swapped(shop).result["replaced"]
    assert reconciler.tick(shop.work, queue)["dropped"] == 0
    assert aside in databases(shop)
    with shop.work.database.transaction() as cursor:
        cursor.execute("UPDATE swap SET settled_at = settled_at - interval '7 days'")

    assert reconciler.tick(shop.work, queue)["dropped"] == 1

    assert databases(shop) == {live(shop): True}
    with shop.work.database.transaction() as cursor:
        audited = cursor.execute("SELECT action, result FROM audit").fetchall()
    assert {"action": "drop replaced", "result": "dropped"} in audited


def test_a_replaced_database_stays_while_somebody_waits_for_its_undo(
    shop: Workshop, queue: Celery
) -> None:
    job = swapped(shop)
    asked, _ = shop.work.ledger.request(
        "undo",
        target=str(shop.target),
        key="undo",
        request={"job": str(job.id)},
        requested_by="ana",
        published=True,
    )
    with shop.work.database.transaction() as cursor:
        cursor.execute("UPDATE swap SET settled_at = settled_at - interval '8 days'")
    assert reconciler.tick(shop.work, queue)["dropped"] == 0
    assert job.result["replaced"] in databases(shop)

    shop.work.ledger.fail_unclaimed(asked.id, state="refused", error={"type": "RestoreRefused"})
    assert reconciler.tick(shop.work, queue)["dropped"] == 1


def test_a_target_that_is_no_longer_protected_does_not_stop_the_tick(
    shop: Workshop, queue: Celery
) -> None:
    swap = intended(shop, begun(shop))
    fence(shop)
    for state in ("intended", "done"):
        with shop.work.database.transaction() as cursor:
            cursor.execute(
                "INSERT INTO swap (job, target, live, incoming, aside, live_oid, incoming_oid,"
                " was_open, state, intended_at, settled_at) VALUES (gen_random_uuid(),"
                " 'postgres/outro', 'a', 'b', 'c', 1, 2, true, %s, 'epoch', 'epoch')",
                (state,),
            )

    assert reconciler.tick(shop.work, queue)["swaps"] == 1

    assert rows(shop) == 100
    assert [one.target for one in shop.work.swaps.open()] == ["postgres/outro"]
    assert shop.work.swaps.swap_of_job(swap.job) != swap


# Steps by hand


class WatchedRow(in_process.MemoryRow):
    """A job in memory, with something that happens whenever a step asks whether it owns it."""

    on_hold: Callable[[], object] = staticmethod(lambda: None)

    def hold(self) -> None:
        """Let the test act."""
        self.on_hold()


def watched(
    shop: Workshop, job: Job, *, hold: Callable[[], object] = lambda: None, tools: Any = None
) -> in_process.Chain:
    row = WatchedRow(job, shop.tools.clock)
    row.on_hold = hold
    return in_process.Chain(row, tools or shop.tools, RecordingProgress())


def begun(shop: Workshop) -> Job:
    """Restore a copy with this job's marker, up to the swap."""
    request = {"target": str(shop.target), "swap": True, "confirm": live(shop)}
    job = in_process.new_job(
        "restore",
        REQUESTS["restore"].parse(request),
        target=str(shop.target),
        node=shop.tools.node,
        now=shop.tools.clock.now(),
        context={"into": f"{live(shop)}_copy"},
    )
    chain = watched(shop, job)
    return chain.until("swap").job


def swap_step(
    shop: Workshop, job: Job, *, hold: Callable[[], object] = lambda: None, tools: Any = None
) -> dict[str, Any]:
    """Run the step that swaps; ``hold`` happens before each of its irreversible actions."""
    chain = watched(shop, job, hold=hold, tools=tools)
    chain.step(names.RESTORE_POSTGRES_SWAP)
    return chain.steps[-1].result
