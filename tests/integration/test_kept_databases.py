"""Databases that restores left, on a real server: listed, kept, removed when nobody uses them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from psycopg.errors import QueryCanceled

from pgben_tasks.adapters.catalog.locks import holding, job_lock
from pgben_tasks.adapters.postgres import kept_databases
from pgben_tasks.adapters.postgres.server import Connection
from pgben_tasks.adapters.postgres.swap import allow_connections, take_swap_lock
from pgben_tasks.app import create_app
from pgben_tasks.cli.commands import databases
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.kept_databases import RestoredDatabase, contents_digest
from pgben_tasks.domain.swap import restored_name
from pgben_tasks.domain.target import Target
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.errors import RestoreRefused
from pgben_tasks.tasks import reconciler
from tests.support import commands
from tests.support.commands import Ran
from tests.support.installation import Installation

MADE = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)


@dataclass
class Place:
    """An installation with one copy that a restore left under a name of pgben's."""

    installation: Installation
    queue: Celery
    name: str
    job: Job

    def tick(self) -> dict[str, Any]:
        return reconciler.tick(self.installation.shop.work, self.queue)

    def days_later(self, days: float) -> None:
        """Let everything that the catalog knows of copies and alarms have happened earlier."""
        with self.installation.shop.work.database.transaction() as cursor:
            for column in (
                "restored_database SET made_at = made_at",
                "alarm SET raised_at = raised_at",
            ):
                cursor.execute(f"UPDATE {column} - %s".encode(), (timedelta(days=days),))

    def expire(self) -> dict[str, Any]:
        """Let the alarm be raised, and the time pass."""
        self.days_later(12.5)
        assert self.tick()["alarms_raised"] == 1
        self.days_later(2)
        return self.tick()

    def sql(self, statement: str, database: str = "") -> None:
        with self.installation.shop.server.connect(database or self.name) as connection:
            connection.execute(statement.encode())

    def end_sessions(self) -> None:
        """End sessions whose end the server would notice a moment later."""
        with self.installation.shop.server.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (self.name,),
            )

    def there(self, name: str = "") -> bool:
        return (name or self.name) in self.installation.databases()

    def alarms(self) -> list[str]:
        return [one.alarm.kind for one in self.installation.shop.work.outbox.newest(100)]

    def run(self, *arguments: str) -> Ran:
        return commands.run(*arguments, environment=self.installation.shop.environment)

    def listed(self, name: str = "") -> dict[str, Any] | None:
        said = self.run("databases", "--json")
        assert said.code == 0, said.err
        found = {one["database"]: one for one in said.json["databases"]}
        return found.get(name or self.name)


@pytest.fixture
def place(installation: Installation, redis_server: EmbeddedRedis) -> Place:
    name = restored_name(installation.target.name, MADE)
    installation.copies.append(name)
    job = installation.shop.run(
        "restore", {"target": str(installation.target)}, context={"into": name}
    )
    queue = create_app(redis_server.url.rpartition("/")[0] + "/9")
    return Place(installation, queue, name, job)


def test_a_copy_that_nobody_used_is_removed_after_its_alarm(place: Place) -> None:
    listed = place.listed()
    assert listed is not None
    assert (listed["origin"], listed["job"]) == ("restored", str(place.job.id))
    assert listed["bytes"] > 1_000_000
    since, until = (datetime.fromisoformat(listed[key]) for key in ("since", "until"))
    assert until - since == timedelta(days=14)

    place.days_later(11)
    assert place.tick()["alarms_raised"] == 0
    place.days_later(1.5)
    assert place.tick()["alarms_raised"] == 1
    assert place.tick()["alarms_raised"] == 0, "it is told once"
    assert place.alarms() == ["expiring"]
    # Its time is over, but its alarm is not old enough: no worker may have run for weeks.
    place.days_later(1.9)
    assert place.tick()["expired"] == 0
    assert place.there()

    place.days_later(0.2)
    assert place.tick()["expired"] == 1

    assert not place.there()
    assert place.listed() is None
    assert place.tick()["expired"] == 0
    with place.installation.shop.work.database.transaction() as cursor:
        audited = cursor.execute("SELECT action, result, detail FROM audit").fetchall()
    entry = {"action": "drop restored", "result": "dropped", "detail": f"database '{place.name}'"}
    assert entry in audited


def test_a_copy_that_was_written_to_stays_and_takes_connections(place: Place) -> None:
    place.sql("DELETE FROM pagamento WHERE id = 7")

    assert place.expire()["expired"] == 1

    assert place.there()
    place.sql("SELECT 1")
    listed = place.listed()
    assert listed is not None
    assert (listed["until"], listed["kept_because"]) == (None, "somebody wrote to it")
    place.days_later(100)
    assert place.tick()["expired"] == 0


def test_every_kind_of_writing_is_noticed(place: Place) -> None:
    shop = place.installation.shop
    (one,) = shop.work.restored.all()
    destination, server = shop.tools.destinations[shop.target], shop.work.keeping[shop.target]
    for statement in (
        "UPDATE cidadao SET nome = nome WHERE id = 7",
        "INSERT INTO vazia VALUES (1)",
        "DELETE FROM vazia",
        "TRUNCATE vazia",
        "CREATE TABLE nova (id int)",
        "ALTER TABLE vazia ADD COLUMN nota text",
        "CREATE FUNCTION nova() RETURNS int LANGUAGE sql RETURN 1",
        "SELECT lo_from_bytea(0, 'x')",
        "COMMENT ON TABLE vazia IS 'nada'",
        "CREATE TYPE cor AS ENUM ('azul')",
        "ALTER TYPE cor ADD VALUE 'verde'",
        "CREATE FOREIGN DATA WRAPPER fora",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
        "CREATE PUBLICATION avisos",
        # What belongs to an extension is not counted, and may have been written to all the same.
        "CREATE TABLE da_extensao (id int); ALTER EXTENSION plpgsql ADD TABLE da_extensao",
        "INSERT INTO da_extensao VALUES (1)",
        "CREATE MATERIALIZED VIEW resumo AS SELECT now() AS feito",
        "CREATE UNIQUE INDEX ON resumo (feito)",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY resumo",
    ):
        # As if the copy had been checked right before.
        _, counter = destination.identify(place.name)
        contents = contents_digest(
            destination.count(place.name), destination.count_large_objects(place.name)
        )
        checked = replace(one, checked_at=counter, contents=contents)
        place.sql(statement)
        assert server.drop_unchanged(checked, live=shop.target.name) == "written", statement
    # What was checked so long ago that transactions cannot be compared is not removed either.
    old = replace(one, checked_at=counter - 2**31, contents=contents)
    assert server.drop_unchanged(old, live=shop.target.name) == "written"
    # Nor what a server that was set back to an earlier moment has not checked yet.
    place.sql("UPDATE cidadao SET nome = nome WHERE id = 7")
    ahead = replace(one, checked_at=counter + 1000, contents=contents)
    assert server.drop_unchanged(ahead, live=shop.target.name) == "written"
    assert place.there()


def test_what_a_transaction_wrote_that_was_open_during_the_check_is_noticed(place: Place) -> None:
    shop = place.installation.shop
    (one,) = shop.work.restored.all()
    destination, server = shop.tools.destinations[shop.target], shop.work.keeping[shop.target]
    with closing(shop.server.connect(place.name)) as session, session.transaction():
        session.execute("SELECT txid_current()")
        oid, counter = destination.identify(place.name)
        contents = contents_digest(
            destination.count(place.name), destination.count_large_objects(place.name)
        )
        session.execute("UPDATE cidadao SET nome = 'outro' WHERE id = 7")
    place.end_sessions()
    checked = replace(one, oid=oid, checked_at=counter, contents=contents)
    assert server.drop_unchanged(checked, live=shop.target.name) == "written"
    assert place.there()


def test_a_copy_that_is_looked_through_holds_up_no_swap(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = place.installation.shop
    look, free = kept_databases._was_written, []

    def while_looking(connection: Connection, one: RestoredDatabase) -> bool:
        with shop.server.connect("postgres") as other:
            free.append(take_swap_lock(other, shop.target.name))
        return look(connection, one)

    monkeypatch.setattr(kept_databases, "_was_written", while_looking)
    assert place.expire()["expired"] == 1
    assert free == [True]
    assert not place.there()


def test_what_is_kept_in_the_last_moment_is_not_removed(place: Place) -> None:
    work = place.installation.shop.work
    place.days_later(12.5)
    place.tick()
    place.days_later(2)
    (expired,) = work.restored.expired(work.settings.keep_restored)
    # A tick that removes it now is not told otherwise any more, and says so.
    with holding(work.database, [job_lock(place.job.id)]):
        busy = place.run("databases", "keep", place.name)
        assert busy.code == 75, busy.err
        assert "stays" not in busy.err
    # One that died while it looked through the copy has left it closed.
    place.sql(f'ALTER DATABASE "{place.name}" ALLOW_CONNECTIONS false', "postgres")

    assert place.run("databases", "keep", place.name).code == 0

    # A tick that had listed it before removes it no more.
    assert reconciler._expire(work, expired) == 0
    assert place.there()
    place.sql("SELECT 1")


def test_a_copy_that_is_protected_itself_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = place.installation.shop.work
    server = work.keeping[place.installation.target]
    monkeypatch.setitem(work.keeping, Target("postgres", place.name), server)
    assert place.expire()["expired"] == 1
    assert place.there()
    (kept,) = work.restored.all()
    assert kept.kept_because == "it is protected itself"


def test_what_the_server_does_by_itself_is_no_writing(place: Place) -> None:
    for statement in ("VACUUM", "ANALYZE", "VACUUM (FREEZE)", "SELECT count(*) FROM cidadao"):
        place.sql(statement)
    assert place.expire()["expired"] == 1
    assert not place.there()


def test_a_copy_with_a_session_stays_until_it_ends(place: Place) -> None:
    definition = "SELECT xmin, datallowconn FROM pg_database WHERE datname = current_database()"
    with closing(place.installation.shop.server.connect(place.name)) as session:
        before = session.execute(definition).fetchone()
        assert place.expire()["expired"] == 0
        assert session.execute(definition).fetchone() == before, "not even closed for a moment"
        assert place.there()
    place.end_sessions()
    assert place.tick()["expired"] == 1
    assert not place.there()


def test_what_a_session_writes_that_came_right_before_the_copy_was_closed_is_not_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, sessions = kept_databases._was_written, list[Connection]()

    def come_before(connection: Connection, name: str, *, allowed: bool) -> None:
        if not allowed:
            sessions.append(place.installation.shop.server.connect(name))
        allow_connections(connection, name, allowed=allowed)

    def write_afterwards(connection: Connection, one: RestoredDatabase) -> bool:
        found = look(connection, one)
        with sessions[0] as session:
            session.execute("DELETE FROM pagamento WHERE id = 7")
        return found

    monkeypatch.setattr(kept_databases, "allow_connections", come_before)
    monkeypatch.setattr(kept_databases, "_was_written", write_afterwards)
    assert place.expire()["expired"] == 0
    assert place.there()
    with closing(sessions[0]) as session:
        session.execute("SELECT 1")
    place.sql("SELECT 1")


def test_a_renamed_copy_is_nobodys_business(place: Place) -> None:
    renamed = f"{place.name}_meu"
    place.installation.copies.append(renamed)
    place.sql(f'ALTER DATABASE "{place.name}" RENAME TO "{renamed}"', "postgres")
    # Another database in its place is not the copy, whatever its name and its rows.
    place.sql(f'CREATE DATABASE "{place.name}" TEMPLATE "{renamed}"', "postgres")

    assert place.expire()["expired"] == 1

    assert place.there()
    assert place.there(renamed)


def test_a_copy_that_somebody_named_never_expires(place: Place) -> None:
    chain = place.installation.restore()
    job = chain.rest()
    place.days_later(100)
    place.tick()
    place.days_later(10)
    place.tick()
    assert place.there(job.result["database"])
    listed = place.listed(job.result["database"])
    assert listed is not None
    assert (listed["until"], listed["kept_because"]) == (None, "its name was chosen")


def test_a_copy_of_before_is_listed_and_never_expires(place: Place) -> None:
    with place.installation.shop.work.database.transaction() as cursor:
        cursor.execute("DELETE FROM restored_database")
    place.days_later(100)
    assert place.tick()["expired"] == 0
    listed = place.listed()
    assert listed is not None
    assert (listed["job"], listed["until"]) == (None, None)
    assert datetime.fromisoformat(listed["since"]) == MADE.replace(hour=8), "by its name, local"


def test_keeping_makes_the_alarm_void(place: Place) -> None:
    place.days_later(12.5)
    assert place.tick()["alarms_raised"] == 1

    said = place.run("databases", "keep", place.name)

    assert said.code == 0, said.err
    assert "stays until somebody removes it" in said.err
    place.days_later(100)
    assert place.tick()["expired"] == 0
    assert place.there()
    again = place.run("databases", "keep", place.name)
    assert "not removed by itself anyway" in again.err


def test_dropping_needs_the_name_and_an_end_of_all_sessions(place: Place) -> None:
    refused = place.run("databases", "drop", place.name)
    assert refused.code == 3
    assert f"'{place.name}' would be removed" in refused.err
    live = place.installation.target.name
    for other in (live, "postgres", place.installation.shop.work.database.name):
        said = place.run("databases", "drop", other, "--confirm", other)
        assert (said.code, "no database that a restore left" in said.err) == (2, True)
    with closing(place.installation.shop.server.connect(place.name)) as session:
        busy = place.run("databases", "drop", place.name, "--confirm", place.name)
        assert busy.code == 3
        assert "is in use" in busy.err
        session.execute("SELECT 1")
    place.end_sessions()
    kept = databases._kept(place.installation.shop.work)
    line = databases._find(kept, place.name)
    place.sql(f'ALTER DATABASE "{place.name}" RENAME TO "{place.name}_meu"', "postgres")
    with pytest.raises(RestoreRefused, match="another one has its name"):
        kept.drop(line)
    place.sql(f'ALTER DATABASE "{place.name}_meu" RENAME TO "{place.name}"', "postgres")

    said = place.run("databases", "drop", place.name, "--confirm", place.name, "--json")

    assert said.code == 0, said.err
    assert said.json["dropped"]["database"] == place.name
    assert not place.there()
    assert place.there(live)


def test_dropping_ends_no_session_and_lets_none_wait(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = place.installation.shop
    server = shop.work.keeping[shop.target]
    assert isinstance(server, kept_databases.PostgresKeptDatabases)
    (one,) = shop.work.restored.all()
    with (
        closing(shop.server.connect(place.name)) as session,
        closing(shop.server.connect()) as dropping,
    ):
        # As if it had come after the look; the server waits for seconds before it says so.
        dropping.execute("SET statement_timeout = '300ms'")
        with pytest.raises(QueryCanceled):
            server._drop(dropping, place.name)
        session.execute("SELECT 1")
        # Meanwhile nobody else can connect, so it is not tried where the look shows a session.
        monkeypatch.setattr(server, "_drop", lambda *_: "dropped")
        assert server.drop(place.name, one.oid, live=shop.target.name) == "in use"


def test_a_replaced_database_is_listed_kept_and_dropped(place: Place) -> None:
    installation = place.installation
    live = installation.target.name
    job = installation.shop.run(
        "restore",
        {"target": str(installation.target), "in_place": True, "confirm": live},
        context={"into": f"{live}_copy"},
    )
    aside = job.result["replaced"]
    installation.copies.append(aside)
    listed = place.listed(aside)
    assert listed is not None
    assert (listed["origin"], listed["job"]) == ("replaced", str(job.id))
    assert listed["until"] is not None

    with installation.shop.work.database.transaction() as cursor:
        cursor.execute("UPDATE swap SET settled_at = settled_at - interval '8 days'")
    work = installation.shop.work
    (expired,) = work.swaps.expired(work.settings.keep_replaced)
    assert place.run("databases", "keep", aside).code == 0
    assert reconciler._drop(work, expired) == 0, "a tick that had listed it before"
    assert place.tick()["dropped"] == 0
    assert place.there(aside)
    kept = place.listed(aside)
    assert kept is not None
    assert kept["until"] is None
    assert kept["kept_because"].endswith("wanted that")

    waits, _ = installation.shop.work.ledger.request(
        "undo",
        target=str(installation.target),
        key="undo",
        request={"job": str(job.id)},
        requested_by="ana",
        published=True,
    )
    awaited = place.run("databases", "drop", aside, "--confirm", aside)
    assert (awaited.code, "an undo that needs it" in awaited.err) == (3, True)
    installation.shop.work.ledger.fail_unclaimed(
        waits.id, state="refused", error={"type": "RestoreRefused"}
    )
    assert place.run("databases", "drop", aside, "--confirm", aside).code == 0
    assert not place.there(aside)
    record = installation.shop.work.swaps.swap_of_job(job.id)
    assert record is not None
    assert record.state == "dropped"


def test_a_server_that_is_away_is_named_and_hides_nothing(place: Place) -> None:
    environment = {**place.installation.shop.environment, "PGBEN_DB_PORT": "1"}
    said = commands.run("databases", environment=environment)
    assert said.code == 75
    assert "was not examined" in said.err
    named = commands.run("databases", "drop", place.name, environment=environment)
    assert (named.code, "was not examined" in named.err) == (75, True)
