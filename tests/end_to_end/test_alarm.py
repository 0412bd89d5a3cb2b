"""The alarm arrives for each planted failure, through real processes and SMTP; not otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from psycopg import sql

from pgben_tasks import names
from pgben_tasks.adapters.catalog.workers import BEAT
from pgben_tasks.app import configuration
from pgben_tasks.client import Client
from pgben_tasks.embedded.child import Child
from tests.support.deployment import DATABASE, TARGET, Deployment, eventually
from tests.support.mailbox import Letter, MailServer
from tests.support.timetables import daily, never
from workers.presence import Presence

pytestmark = pytest.mark.unmeasured

CANARY = "canary-Zq83hfPw"
SMTP_CANARY = "canary-mail-77"


@dataclass
class Watched:
    """A deployment with a worker and a beat, whose alarms go to a mail server in this process."""

    deployment: Deployment
    mails: MailServer
    worker: Child
    beat: Child
    app: Celery

    def nudge(self) -> None:
        """Send a tick now, as beat does every minute, and wait until it has run."""
        done = self.ticks()
        self.app.send_task(names.TICK, queue=names.QUEUE_MAINTENANCE)
        eventually(lambda: self.ticks() > done, seconds=60, what="a tick runs")

    def ticks(self) -> int:
        return self.worker.log.read_text().count(f"Task {names.TICK}[")

    def letter(self, words: str) -> Letter:
        """Return the mail with these words; beat's next tick sends it at the latest."""
        self.nudge()
        return self.mails.await_letter(words, seconds=70)

    def sql(self, statement: str, *values: object) -> None:
        """Change the catalog behind everybody's back, as time would."""
        with self.deployment.work.database.transaction() as cursor:
            cursor.execute(statement.encode(), values)


@contextmanager
def watched(*, backup: str) -> Iterator[Watched]:
    with MailServer(login=("pgben", SMTP_CANARY)) as mails:
        settings = mails.settings(
            PGBEN_SCHEDULE_POSTGRES=backup,
            PGBEN_TIMEZONE="UTC",
            PGBEN_LANGUAGE="pt_BR",
        )
        with Deployment.build(megabytes=3, bucket=False, version=None, **settings) as deployment:
            app = Celery("nudge")
            app.conf.update(configuration(deployment.environment["PGBEN_REDIS_URL"]))
            with closing(app):
                worker = deployment.start("all", name="worker")
                yield Watched(deployment, mails, worker, deployment.start("beat", name="beat"), app)


@pytest.fixture(scope="module")
def place() -> Iterator[Watched]:
    with watched(backup=never()) as made:
        assert made.deployment.pgben("backup", DATABASE).code == 0
        yield made


def test_a_wrong_password_arrives(place: Watched) -> None:
    server = place.deployment.stack.postgres
    change = sql.SQL("ALTER ROLE postgres PASSWORD {}").format
    with server.connect() as connection:
        connection.execute(change(sql.Literal(CANARY)))
        try:
            ran = place.deployment.pgben("backup", DATABASE)
        finally:
            connection.execute(change(sql.Literal(server.password)))
    assert ran.code == 2
    letter = place.letter("não aceita o papel")

    (newest,) = place.deployment.work.index.backups(TARGET)
    assert letter.subject == f"[pgben] ALARME: backup de {TARGET} falhou"
    assert f"Pode ser restaurado: backup {newest.id}" in letter.body
    assert "Maria da Conceição; maria@example.org; +55 84 99999-0000" in letter.body
    assert letter.recipients == ("ana@example.org", "bia@example.org")
    for secret in (CANARY, SMTP_CANARY, server.password):
        assert secret not in letter.message.as_string()
        assert secret not in place.worker.log.read_text()


def test_a_refused_request_arrives(place: Watched) -> None:
    Client(place.deployment.environment["PGBEN_REDIS_URL"]).backup(
        "postgres/unknown", requested_by="month-end closing"
    )
    eventually(
        lambda: any(job.state == "refused" for job in place.deployment.jobs()),
        seconds=30,
        what="the request is refused",
    )
    letter = place.letter("postgres/unknown")
    assert letter.subject == "[pgben] ALARME: pedido recusado, backup de postgres/unknown"
    assert "Pedido por: month-end closing" in letter.body


def test_a_server_that_is_down_arrives(place: Watched) -> None:
    server = place.deployment.stack.postgres
    server.stop()
    try:
        ran = place.deployment.pgben("backup", DATABASE)
        assert ran.code == 75
        letter = place.letter("não responde")
    finally:
        server.restart()
    assert letter.subject == f"[pgben] ALARME: backup de {TARGET} falhou"
    assert "pgben.backup.postgres.dump" in letter.body


def test_a_silent_beat_arrives_once(place: Watched) -> None:
    place.nudge()
    place.beat.stop()
    try:
        # Five minutes, for the catalog as for the worker that looks after beat.
        place.sql("UPDATE worker SET heartbeat_at = now() - interval '6 min' WHERE name = %s", BEAT)
        observer = Presence(
            place.deployment.work,
            ["maintenance.observer"],
            app=place.app,
            beat_silence=timedelta(seconds=1),
        )
        try:
            letter = place.mails.await_letter("agendador (beat) não dá sinal", seconds=60)
            ticks = place.ticks()
            eventually(lambda: place.ticks() > ticks, seconds=60, what="it stands in again")
        finally:
            observer.leave()
    finally:
        place.beat = place.deployment.start("beat", name="beat-again")
    assert "Último sinal de vida" in letter.body
    assert [one.subject for one in place.mails.letters].count(letter.subject) == 1


def test_a_worker_says_once_that_it_has_no_mail_server_and_what_is_odd_in_its_settings(
    place: Watched,
) -> None:
    spool = place.deployment.stack.folder / "mute"
    changed = {
        "PGBEN_SMTP_HOST": "",
        "PGBEN_DRILL_URL": "x",
        "PGBEN_SMTP_FROM": "pgben@intranet",
        "PGBEN_NODE": "mute",
        "PGBEN_SPOOL_DIR": str(spool),
    }
    mute = place.deployment.start("maintenance", name="mute", changed=changed)
    mute.stop()
    said = mute.log.read_text()
    for once in ("alarms_have_no_channel", "settings_retired", "settings_doubtful"):
        assert said.count(once) == 1
        assert once not in place.worker.log.read_text()
    (retired,) = (line for line in said.splitlines() if "settings_retired" in line)
    assert "PGBEN_DRILL_URL" in retired
    (doubtful,) = (line for line in said.splitlines() if "settings_doubtful" in line)
    assert "PGBEN_SMTP_FROM" in doubtful


def test_an_emptied_table_arrives(place: Watched) -> None:
    assert place.deployment.pgben("backup", DATABASE).code == 0
    with place.deployment.stack.postgres.connect(DATABASE) as connection:
        row = connection.execute(
            "SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables"
            " ORDER BY n_live_tup DESC LIMIT 1"
        ).fetchone()
        assert row is not None
        connection.execute(f"TRUNCATE {row[0]} CASCADE".encode())
    ran = place.deployment.pgben("backup", DATABASE)
    assert ran.code == 4
    letter = place.letter("suspeito")
    assert letter.subject == f"[pgben] ALARME: backup de {TARGET} é suspeito"


@pytest.mark.timeout(280)
def test_a_clean_night_sends_nothing() -> None:
    # The tick begins what is due, whatever the minute.
    window = datetime.now(UTC).replace(second=0, microsecond=0)
    with watched(backup=daily(window)) as place:
        deployment = place.deployment
        eventually(lambda: bool(deployment.jobs("backup")), seconds=60, what="the night begins")
        job = deployment.wait_for(deployment.jobs("backup")[0], seconds=60)
        assert (job.state, job.window) == ("succeeded", window)
        ticks = place.ticks()
        eventually(lambda: place.ticks() > ticks, seconds=80, what="beat's next tick runs")

        assert deployment.work.outbox.newest(1) == []
        assert place.mails.letters == []
        # And not because no mail could have come.
        Client(deployment.environment["PGBEN_REDIS_URL"]).backup("postgres/unknown")
        eventually(lambda: len(deployment.jobs("backup")) == 2, seconds=30, what="it is refused")
        assert "postgres/unknown" in place.letter("recusado").subject
