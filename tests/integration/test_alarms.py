"""Alarms from the ledger to a mailbox: real catalog, real tick, real mail server; no worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from pgben_tasks.adapters.catalog.workers import BEAT
from pgben_tasks.domain.alarm import MOST_IN_A_MAIL, Alarm, facts
from pgben_tasks.domain.episodes import CLEAR_AFTER
from pgben_tasks.domain.job import ATTEMPT_DELAYS, MOST_LOSSES
from pgben_tasks.errors import ConfigurationError, IntegrityError, RequestRefused
from pgben_tasks.health.looks import Look
from pgben_tasks.operations.alarms.send import send_alarms
from pgben_tasks.ports import Mail
from pgben_tasks.tasks import postgres, reconciler, repository
from tests.support.alarm_place import HOUR, MINUTE, Place, alarm_place, call
from tests.support.installation import Installation
from tests.support.timetables import daily

CANARY = "canary-Zq83hfPw"


@pytest.fixture
def place(installation: Installation) -> Iterator[Place]:
    with alarm_place(installation) as made:
        yield made


# Ends of jobs


def test_a_clean_backup_sends_nothing(place: Place) -> None:
    call(postgres.backup, {"target": place.target})
    call(repository.verify, {"level": "full"})
    assert place.tick() == (0, 0)
    assert place.alarms() == []


def test_a_wrong_password_is_told_once_with_everything_one_wants_to_know(place: Place) -> None:
    place = place.with_settings(db_pass=SecretStr(CANARY))
    with pytest.raises(ConfigurationError, match="does not accept the role"):
        call(postgres.backup, {"target": place.target, "requested_by": "ana"})
    assert place.tick() == (1, 1)
    assert place.tick() == (0, 0)
    (letter,) = place.server.letters
    job = place.work.ledger.jobs(limit=1)[0]
    newest = place.work.index.backups()[0]
    assert letter.subject == f"[pgben] ALARM: backup of {place.target} failed"
    for text in (
        "does not accept the role",
        str(job.id),
        "Asked for by: ana",
        f"backup {newest.id}, data as of",
        "Next attempt: none by itself",
        f"pgben jobs {str(job.id)[:8]}",
        "Maria da Conceição; maria@example.org; +55 84 99999-0000",
    ):
        assert text in letter.body
    assert CANARY not in letter.message.as_string()


def test_a_scheduled_job_is_told_at_its_first_failure_and_when_it_is_given_up(
    place: Place,
) -> None:
    job = place.job(window=place.work.database.now())
    told = []
    for attempt in range(1, len(ATTEMPT_DELAYS) + 2):
        last = attempt > len(ATTEMPT_DELAYS)
        place.sql("UPDATE job SET attempt = %s, state = 'queued' WHERE id = %s", attempt, job.id)
        place.fail(job, retry_at=None if last else place.work.database.now() + HOUR)
        told.append(place.tick())
    assert told == [(1, 1), (0, 0), (0, 0), (1, 1)]
    first, final = place.server.letters
    assert "Next attempt: none by itself" not in first.body
    assert "Next attempt: none by itself" in final.body


def test_a_failure_whose_next_attempt_is_due_is_told_before_that_forgets_it(place: Place) -> None:
    """No tick ran since it failed; this one queues it again."""
    job = place.job(window=place.work.database.now())
    place.fail(job, retry_at=place.work.database.now())
    assert place.tick() == (1, 1)
    assert place.work.ledger.job(job.id).state == "queued"


def test_a_job_that_costs_its_workers_their_lives_is_told(
    place: Place, installation: Installation
) -> None:
    chain = installation.chain("backup")
    place.sql(
        "UPDATE job SET losses = %s, step_due_at = clock_timestamp() WHERE id = %s",
        MOST_LOSSES,
        chain.ref.job,
    )
    assert place.tick() == (1, 1)
    assert "worker was lost" in place.server.letters[0].body


def test_a_refused_request_is_told(place: Place) -> None:
    with pytest.raises(RequestRefused):
        call(postgres.backup, {"target": "postgres/unknown", "requested_by": "bia"})
    assert place.tick() == (1, 1)
    (letter,) = place.server.letters
    assert letter.subject == "[pgben] ALARM: backup of postgres/unknown was refused"
    assert "Asked for by: bia" in letter.body


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"into": "postgres"}, "already a database 'postgres'"),
        ({"at": "2020-01-01T00:00:00Z"}, "the first backup of"),
        ({"at": "2999-01-01T00:00:00Z"}, "has not come yet"),
    ],
)
def test_a_typing_error_is_refused_and_nobody_else_is_told(
    place: Place, installation: Installation, asked: dict[str, Any], said: str
) -> None:
    chain = installation.restore(**asked)
    with pytest.raises(RequestRefused, match=said):
        chain.rest()
    assert chain.job.state == "refused"
    assert place.tick() == (0, 0)
    assert place.work.records.bad_ends(since=place.work.records.since()) == []


def test_a_storm_of_refusals_is_one_mail_and_the_next_waits(place: Place) -> None:
    for number in range(50):
        with pytest.raises(RequestRefused):
            call(postgres.backup, {"target": f"postgres/unknown{number}"})
    assert place.tick() == (50, 50)
    assert f"{50 - MOST_IN_A_MAIL} × a request was refused" in place.server.letters[0].body
    with pytest.raises(RequestRefused):
        call(postgres.backup, {"target": "postgres/unknown"})
    assert place.tick() == (1, 0)
    # Anything worse takes it along at once.
    place.fail(place.job())
    assert place.tick() == (1, 2)
    assert len(place.server.letters) == 2


def test_a_backup_of_an_emptied_table_is_told(place: Place, installation: Installation) -> None:
    installation.run_sql("TRUNCATE pedido")
    call(postgres.backup, {"target": place.target})
    assert place.tick() == (1, 1)
    (letter,) = place.server.letters
    assert letter.subject == f"[pgben] ALARM: backup of {place.target} is suspect"
    assert "rows" in letter.body


def test_a_swap_whose_command_afterwards_failed_is_told_once(place: Place) -> None:
    job = place.job("restore")
    place.sql(
        "UPDATE job SET state = 'succeeded', ended_at = clock_timestamp(),"
        " result = jsonb_build_object('after_swap_failed', %s::text) WHERE id = %s",
        "the command of PGBEN_AFTER_SWAP failed: 'start' ended with status 3: no answer",
        job.id,
    )
    assert place.tick() == (1, 1)
    assert place.tick() == (0, 0)
    (letter,) = place.server.letters
    assert letter.subject == (
        f"[pgben] ALARM: the command after the swap failed, restore of {place.target}"
    )
    assert "'start' ended with status 3: no answer" in letter.body
    assert "“Stopping the application for a swap”" in letter.body


def test_damage_is_told(place: Place, installation: Installation) -> None:
    pack = installation.pack_files(installation.backups[0])[0]
    pack.write_bytes(b"x" * pack.stat().st_size)
    with pytest.raises(IntegrityError):
        call(repository.verify, {"level": "full"})
    assert place.tick() == (1, 1)
    assert "damage found, verification of everything" in place.server.letters[0].subject


def test_what_failed_before_there_was_an_outbox_is_not_told(place: Place) -> None:
    job = place.job()
    place.fail(job)
    place.sql(
        "UPDATE job SET ended_at = %s WHERE id = %s", place.work.records.since() - HOUR, job.id
    )
    assert place.tick() == (0, 0)


# The outbox


def test_a_server_that_is_away_gets_the_mail_once_when_it_is_back(place: Place) -> None:
    place.server.stop()
    place.fail(place.job())
    assert place.tick() == (1, 0)
    (waiting,) = place.alarms()
    (mail,) = waiting.deliveries
    assert (waiting.sent_at, mail.tries) == (None, 1)
    assert "does not answer" in (mail.last_error or "")
    place.server.start()
    assert place.tick() == (0, 0), "it waits before it tries again"
    place.after(MINUTE)
    assert place.tick() == (0, 1)
    assert place.tick() == (0, 0)
    assert len(place.server.letters) == 1


def test_what_waits_goes_with_the_next_alarm(place: Place) -> None:
    place.server.stop()
    place.fail(place.job())
    place.tick()
    place.server.start()
    place.fail(place.job())
    assert place.tick() == (1, 2)
    assert len(place.server.letters) == 1


def test_a_recipient_that_was_refused_is_noted(place: Place) -> None:
    place.server.answers = {"bia@example.org": "550 no such mailbox"}
    place.fail(place.job())
    assert place.tick() == (1, 1)
    (sent,) = place.alarms()
    assert sent.sent_at is not None
    assert sent.deliveries[0].last_error == "not taken for bia@example.org"


def test_two_ticks_at_once_send_one_mail(place: Place) -> None:
    place.fail(place.job())
    assert reconciler._raise_alarms(place.work) == 1
    with place.work.outbox.sending(["mail"], now=place.now) as sending:
        assert len(sending.waiting("mail")) == 1
        assert place.tick() == (0, 0)
    assert place.tick() == (0, 1), "and when the other one died, the mail is sent"
    assert len(place.server.letters) == 1


class Died(BaseException):
    """The process ended here."""


def test_a_process_that_dies_after_the_server_took_the_mail_sends_it_again(place: Place) -> None:
    class Dying:
        name = "mail"

        def send(self, mail: Mail) -> tuple[str, ...]:
            assert place.work.mailer is not None
            place.work.mailer.send(mail)
            raise Died

    place.fail(place.job())
    reconciler._raise_alarms(place.work)
    with pytest.raises(Died):
        send_alarms(
            place.work.outbox,
            [Dying()],
            begin=Look,
            letterhead=place.work.letterhead,
            restorable=place.work.records.restorable,
            now=place.now,
        )
    assert place.tick() == (0, 1)
    one, other = place.server.letters
    assert one.message["Message-ID"] == other.message["Message-ID"], "readers can drop the second"


def test_without_a_mail_server_alarms_are_kept(place: Place) -> None:
    mute = place.with_settings(smtp_host=None)
    mute.fail(mute.job())
    assert mute.tick() == (1, 0)
    assert [one.deliveries for one in mute.alarms()] == [()]
    assert place.tick() == (0, 1), "and sent when one is set"


def test_an_occurrence_is_kept_once(place: Place) -> None:
    now = place.work.database.now()
    alarm = Alarm(key="one", kind="silent", target="", happened_at=now, facts=facts(a="é"))
    added = [place.work.outbox.add_all([alarm], now=now) for _ in range(3)]
    assert added == [[alarm], [], []]
    assert [one.alarm for one in place.alarms()] == [alarm]


# What did not happen


def test_a_window_that_no_worker_begins_is_told_once(place: Place) -> None:
    now = place.work.database.now()
    job = place.job(window=now.replace(second=0, microsecond=0))
    assert place.tick() == (0, 0)
    long_ago = now - place.work.settings.step_wait
    place.sql("UPDATE job SET created_at = %s, window_at = %s", long_ago, long_ago)
    assert place.tick() == (1, 1)
    assert place.tick() == (0, 0)
    (letter,) = place.server.letters
    assert letter.subject == f"[pgben] ALARM: backup of {place.target} is overdue"
    assert "no worker has begun it" in letter.body
    assert str(job.id) in letter.body


@pytest.fixture
def thirteen_hours_ago(place: Place) -> Place:
    """Return a place whose window was thirteen hours ago and which is two months old."""
    line = daily(place.work.database.now() - 13 * HOUR)
    made = place.with_settings(schedule_postgres=line)
    made.sql("UPDATE migration SET applied_at = now() - interval '60 days' WHERE version = 4")
    made.sql("INSERT INTO worker VALUES (%s, clock_timestamp(), clock_timestamp())", BEAT)
    return made


def test_a_window_that_passed_without_a_job_is_told_once(thirteen_hours_ago: Place) -> None:
    place = thirteen_hours_ago
    assert place.tick() == (1, 1)
    assert place.tick() == (0, 0)
    assert "its window passed without any job" in place.server.letters[0].body


def test_a_window_of_before_the_installation_is_not_told(thirteen_hours_ago: Place) -> None:
    place = thirteen_hours_ago
    place.sql("UPDATE migration SET applied_at = now() - interval '12 hours' WHERE version = 4")
    assert place.tick() == (0, 0)


def a_done_window(place: Place) -> None:
    """Let the job of the window have run well."""
    window = place.work.timed()[0].schedule.previous(place.work.database.now())
    job = place.job(window=window)
    place.sql(
        "UPDATE job SET state = 'succeeded', ended_at = clock_timestamp() WHERE id = %s", job.id
    )


def test_no_verified_backup_within_the_objective_is_told_once(thirteen_hours_ago: Place) -> None:
    place = thirteen_hours_ago
    a_done_window(place)
    assert place.tick() == (0, 0)
    place.sql("UPDATE backup SET snapshot_at = now() - interval '25 hours'")
    assert place.tick() == (1, 1)
    assert place.tick() == (0, 0)
    assert place.server.letters[0].subject == (
        f"[pgben] ALARM: {place.target} has no recent verified backup"
    )


@pytest.mark.parametrize("state", ["queued", "running", "failed"])
def test_a_backup_that_is_under_way_may_still_put_it_right(
    thirteen_hours_ago: Place, state: str
) -> None:
    place = thirteen_hours_ago
    a_done_window(place)
    place.sql("UPDATE backup SET snapshot_at = now() - interval '25 hours'")
    job = place.job()
    if state == "failed":
        place.fail(job, retry_at=place.work.database.now() + HOUR)
        assert place.tick() == (1, 1)
        assert "failed" in place.server.letters[0].subject
    else:
        place.sql("UPDATE job SET state = %s, step = 'x' WHERE id = %s", state, job.id)
        assert place.tick() == (0, 0)


def test_suspect_and_damaged_backups_do_not_count_as_restorable(place: Place) -> None:
    newest, older = place.work.index.backups()
    assert restorable(place) == newest.id
    place.sql("UPDATE backup SET suspect = 'rows' WHERE id = %s", newest.id)
    assert restorable(place) == older.id
    place.sql("UPDATE backup SET state = 'damaged' WHERE id = %s", older.id)
    assert restorable(place) is None
    place.sql("UPDATE backup SET acknowledged = true WHERE id = %s", newest.id)
    assert restorable(place) == newest.id


def restorable(place: Place) -> str | None:
    found = place.work.records.restorable(place.target)
    return found.backup if found else None


# Beat


def test_a_silent_beat_is_told_once_for_each_outage(place: Place) -> None:
    place.tick()
    for outage in (1, 2):
        silence = "UPDATE worker SET heartbeat_at = %s WHERE name = %s"
        place.sql(silence, place.now - 6 * MINUTE, BEAT)
        assert place.tick(stand_in=True) == (1, 1)
        assert place.tick(stand_in=True) == (0, 0)
        assert len(place.server.letters) == 2 * outage - 1
        place.after(MINUTE)
        assert place.tick() == (0, 0), "it is back"
        assert place.tick(stand_in=True) == (0, 0), "one that was late on its way"
        place.after(CLEAR_AFTER)
        assert place.tick() == (0, 1), "and that is told"
    assert [one.episode for one in place.alarms()] == [1, 2]
    first, last = place.server.letters[0].subject, place.server.letters[-1].subject
    assert first == "[pgben] ALARM: the scheduler (beat) is silent"
    assert last == "[pgben] RESOLVED: the scheduler (beat) is silent"


def test_signs_of_beat_are_no_workers(place: Place) -> None:
    place.tick()
    assert place.work.workers.living() == []
