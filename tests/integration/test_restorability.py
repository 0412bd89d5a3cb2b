"""Nothing is called good that the workers that restore could not restore."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from pgben_tasks.adapters.catalog.absent import AbsentTrail, ForgetfulIndex, NoWorkers
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.workers import Workers
from pgben_tasks.domain.documents import CHAINED_STATEMENTS, Verification
from pgben_tasks.domain.failures import is_final
from pgben_tasks.domain.restorability import UNKNOWN_SITE, Client, RestoreSite
from pgben_tasks.domain.states import state_of
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import BackupNotFound, NotRestorable
from pgben_tasks.health import situation
from pgben_tasks.health.restorability import indexed_backups
from pgben_tasks.operations.repository.survey import survey
from pgben_tasks.operations.toolbox import Toolbox
from tests.support.installation import Installation

FIT = Client(version="17.10", major=17, compression="zstd:3")
PLAIN = Client(version="17.4", major=17, compression="none")
OLD = Client(version="15.18", major=15, compression="zstd:3")
AGED = "UPDATE worker SET heartbeat_at = heartbeat_at - %s WHERE name = %s"
NEEDED = "a PostgreSQL client of version 17 or newer built with zstd"


def publish(installation: Installation, *clients: Client, worker: str = "restore.one") -> None:
    """Let a worker of the site come alive with these clients."""
    workers = installation.shop.work.workers
    workers.register([worker])
    workers.publish([worker], clients)


def statements(installation: Installation, backup: str) -> list[Verification]:
    repository = installation.tools.repository
    return list(repository.verifications(installation.target, BackupId.parse(backup)))


def state_in_index(installation: Installation, backup: str) -> tuple[str, str | None]:
    rows = installation.shop.work.index.backups(installation.target)
    return next((row.state, row.needs) for row in rows if row.id == backup)


def newest_good(installation: Installation) -> str | None:
    found = survey(installation.tools.repository, installation.target).newest_good
    return None if found is None else found.manifest.backup


def back_up_without_a_fitting_client(installation: Installation) -> tuple[str, NotRestorable]:
    """Make a backup that nobody here can restore; return its id and what was raised."""
    chain = installation.chain("backup")
    with pytest.raises(NotRestorable) as failed:
        chain.rest()
    return str(chain.job.backup), failed.value


# A backup


def test_a_dump_that_nobody_here_can_restore_is_stored_and_fails(
    installation: Installation,
) -> None:
    publish(installation, OLD)
    good = installation.backups[1].backup
    backup, failed = back_up_without_a_fitting_client(installation)

    assert f"backup '{backup}'" in failed.sentence
    assert f"not restorable here: it needs {NEEDED}" in failed.sentence
    assert "postgresql-client-17" in failed.hint
    assert state_in_index(installation, backup) == ("not restorable here", NEEDED)
    # It is whole, says what it needs to whoever reads the repository alone, and never counts.
    (statement,) = statements(installation, backup)
    assert (statement.findings, statement.needs) == ((), NEEDED)
    assert newest_good(installation) == good


def test_another_dump_is_not_tried_for_it(installation: Installation) -> None:
    publish(installation, OLD)
    chain = installation.chain("backup")
    with pytest.raises(NotRestorable) as failed:
        chain.rest()
    assert is_final(chain.job, failed.value)


def test_a_dump_is_made_so_that_it_can_be_restored(installation: Installation) -> None:
    publish(installation, PLAIN)
    manifest = installation.backup()
    assert manifest.database.dump_compression == "none"
    assert state_in_index(installation, manifest.backup)[0] == "verified"


@pytest.mark.parametrize("clients", [(FIT,), (OLD, FIT)])
def test_one_fitting_client_of_one_worker_is_enough(
    installation: Installation, clients: tuple[Client, ...]
) -> None:
    for number, client in enumerate(clients):
        publish(installation, client, worker=f"restore.{number}")
    assert state_in_index(installation, installation.backup().backup)[0] == "verified"


def test_where_no_worker_ever_published_nothing_is_known_and_nothing_fails(
    installation: Installation,
) -> None:
    # Workers of other roles say nothing about restores.
    publish(installation, OLD, worker="backup.one")
    assert state_in_index(installation, installation.backup().backup)[0] == "verified"


def test_a_worker_that_is_down_is_judged_by_what_it_published_last(
    installation: Installation,
) -> None:
    publish(installation, OLD)
    with installation.shop.work.database.transaction() as cursor:
        cursor.execute("UPDATE worker SET heartbeat_at = heartbeat_at - interval '3 hours'")
    assert installation.shop.work.workers.restore_site().current is False
    backup, _ = back_up_without_a_fitting_client(installation)
    assert state_in_index(installation, backup)[0] == "not restorable here"


def test_a_silence_of_seconds_makes_no_good_backup_bad(installation: Installation) -> None:
    publish(installation, FIT, worker="restore.one")
    publish(installation, OLD, worker="restore.two")
    with installation.shop.work.database.transaction() as cursor:
        cursor.execute(AGED, (timedelta(seconds=40), "restore.one"))
    installation.chain("verify", level="quick").rest()
    backup = installation.backup().backup
    work = installation.shop.work
    shown = indexed_backups(work, installation.target)
    assert (shown[0].id, {row.state for row in shown}) == (backup, {"verified"})
    verdict = situation.gather(work).restorable
    reasons = {one.colour for one in verdict.reasons if "restored here" in one.text}
    assert reasons == {"yellow"}


# Verifications


def test_it_becomes_good_when_a_verification_sees_a_fitting_client(
    installation: Installation,
) -> None:
    publish(installation, OLD)
    backup, _ = back_up_without_a_fitting_client(installation)
    with pytest.raises(NotRestorable, match="not restorable here: 1,"):
        installation.chain("verify", level="quick", backup=backup).rest()

    publish(installation, FIT)
    assert state_in_index(installation, backup)[0] == "not restorable here"
    installation.chain("verify", level="quick", backup=backup).rest()
    assert state_in_index(installation, backup) == ("verified", None)
    assert newest_good(installation) == backup


def test_what_is_not_known_changes_no_verdict(installation: Installation) -> None:
    publish(installation, OLD)
    backup, _ = back_up_without_a_fitting_client(installation)
    with installation.shop.work.database.transaction() as cursor:
        cursor.execute("TRUNCATE worker")
    with pytest.raises(NotRestorable):
        installation.chain("verify", level="full", backup=backup).rest()
    assert state_in_index(installation, backup) == ("not restorable here", NEEDED)


def test_a_client_that_went_makes_good_backups_bad_and_is_news_once(
    installation: Installation,
) -> None:
    publish(installation, OLD)
    job = installation.chain("verify", level="full")
    with pytest.raises(NotRestorable, match="not restorable here: 2,"):
        job.rest()
    assert {one["needs"] for one in job.job.result["not_restorable"]} == {NEEDED}
    # The older one is known by now, and the newest is an alarm until it is good.
    with pytest.raises(NotRestorable, match="not restorable here: 1,"):
        installation.chain("verify", level="full").rest()
    with pytest.raises(BackupNotFound, match="no verified backup"):
        installation.restore().step()


def test_no_statement_is_stored_that_a_living_worker_could_not_read(
    installation: Installation,
) -> None:
    publish(installation, OLD)
    # A worker of the version before publishes nothing of what it reads.
    installation.shop.work.workers.register(["verify.older"])
    backup, _ = back_up_without_a_fitting_client(installation)
    assert statements(installation, backup) == []
    manifest = installation.tools.repository.manifest(installation.target, BackupId.parse(backup))
    assert not state_of(manifest, []).counts
    assert state_in_index(installation, backup) == ("not restorable here", NEEDED)


# Direct mode


class Bare(NoWorkers):
    """A machine without any PostgreSQL client."""

    def restore_site(self) -> RestoreSite:
        return RestoreSite(clients=(), current=True)


def on_a_machine(installation: Installation, workers: NoWorkers) -> Toolbox:
    """Return the tools of direct mode."""
    return replace(installation.tools, workers=workers, trail=AbsentTrail(), index=ForgetfulIndex())


@pytest.mark.parametrize("level", ["quick", "full"])
def test_direct_mode_makes_nothing_good_that_the_site_cannot_restore(
    installation: Installation, level: str
) -> None:
    publish(installation, OLD)
    backup, _ = back_up_without_a_fitting_client(installation)
    tools = on_a_machine(installation, NoWorkers())
    # This machine can restore it, and says so.
    job = installation.chain("verify", tools=tools, level=level).rest()
    assert (job.result["state"], job.result["not_restorable"]) == ("clean", [])
    *_, last = statements(installation, backup)
    assert (last.kind, last.needs) == (level, NEEDED)
    assert newest_good(installation) == installation.backups[1].backup

    publish(installation, FIT)
    installation.chain("verify", level="quick").rest()
    assert newest_good(installation) == backup


def test_direct_mode_on_a_machine_without_clients_makes_no_backup_bad(
    installation: Installation,
) -> None:
    tools = on_a_machine(installation, Bare())
    job = installation.chain("verify", tools=tools, level="full")
    with pytest.raises(NotRestorable, match="not restorable here: 2,"):
        job.rest()
    assert {one["needs"] for one in job.job.result["not_restorable"]} == {NEEDED}
    newest = installation.backups[1].backup
    assert statements(installation, newest)[-1].needs is None
    assert newest_good(installation) == newest


def test_a_restore_in_direct_mode_takes_the_newest_that_its_machine_can_restore(
    installation: Installation,
) -> None:
    publish(installation, OLD)
    backup, _ = back_up_without_a_fitting_client(installation)
    # The gate signs it of the older ones, too: the workers would restore none.
    with pytest.raises(NotRestorable):
        installation.chain("verify", level="quick").rest()

    def taken(workers: NoWorkers) -> str:
        into = installation.free_name()
        tools = on_a_machine(installation, workers)
        chain = installation.chain("restore", tools=tools, into=into)
        return str(chain.step().result["backup"])

    assert taken(NoWorkers()) == backup
    with pytest.raises(BackupNotFound, match="no verified backup"):
        taken(Bare())


# What lists and the verdict say of backups that exist already


def test_lists_say_it_of_backups_that_were_verified_before(installation: Installation) -> None:
    publish(installation, OLD)
    work = installation.shop.work
    # Rows of the version before do not say how their dump was made.
    with work.database.transaction() as cursor:
        cursor.execute(
            "UPDATE backup SET client_major = NULL, dump_compression = NULL, server_major = NULL"
        )
    shown = indexed_backups(work, installation.target)
    assert {(row.state, row.needs) for row in shown} == {("not restorable here", NEEDED)}
    verdict = situation.gather(work).restorable
    assert verdict.colour == "red"
    assert any("is not restorable here: it needs" in one.text for one in verdict.reasons)
    publish(installation, FIT)
    assert {row.state for row in indexed_backups(work, installation.target)} == {"verified"}


def test_a_verification_writes_what_the_index_of_before_does_not_know(
    installation: Installation,
) -> None:
    work = installation.shop.work
    with work.database.transaction() as cursor:
        cursor.execute("UPDATE backup SET client_major = NULL, dump_compression = NULL")
    installation.chain("verify", level="quick").rest()
    archives = {row.archive for row in work.index.backups(installation.target)}
    assert {(one.client_major, one.compression) for one in archives if one} == {(17, "zstd:3")}
    assert None not in archives


# What workers publish


@pytest.fixture
def workers(catalog: CatalogDatabase) -> Workers:
    return Workers(catalog)


def test_workers_that_were_seen_within_a_day_of_the_last_speak_for_the_site(
    workers: Workers, alter: Callable[..., None]
) -> None:
    assert workers.restore_site() == UNKNOWN_SITE
    for name, client in (("restore.a", FIT), ("restore.b", PLAIN), ("restore.c", OLD)):
        workers.register([name])
        workers.publish([name], [client])
    alter(AGED, timedelta(days=9), "restore.c")
    both = RestoreSite(clients=(FIT, PLAIN), living=(FIT, PLAIN), current=True)
    assert workers.restore_site() == both
    assert workers.clients_by_worker() == {"restore.a": (FIT,), "restore.b": (PLAIN,)}
    # Both went down in one night; the third was taken out of service long before.
    alter(AGED, timedelta(hours=2), "restore.a")
    alter(AGED, timedelta(hours=3), "restore.b")
    assert workers.restore_site() == RestoreSite(clients=(FIT, PLAIN), current=False)


def test_what_a_silent_worker_could_do_still_counts_for_a_day(
    workers: Workers, alter: Callable[..., None]
) -> None:
    for name, client in (("restore.a", FIT), ("restore.b", OLD)):
        workers.register([name])
        workers.publish([name], [client])
    alter(AGED, timedelta(seconds=40), "restore.a")
    with_silent = RestoreSite(clients=(OLD, FIT), living=(OLD,), current=False)
    assert workers.restore_site() == with_silent
    alter(AGED, timedelta(hours=23), "restore.a")
    assert workers.restore_site() == with_silent
    alter(AGED, timedelta(hours=1), "restore.a")
    assert workers.restore_site() == RestoreSite(clients=(OLD,), living=(OLD,), current=True)


def test_where_the_living_can_do_all_that_the_silent_could_it_is_known(
    workers: Workers, alter: Callable[..., None]
) -> None:
    for name, client in (("restore.a", PLAIN), ("restore.b", FIT)):
        workers.register([name])
        workers.publish([name], [client])
    alter(AGED, timedelta(minutes=1), "restore.a")
    site = workers.restore_site()
    assert (site.current, site.living) == (True, (FIT,))
    workers.send_heartbeat(["restore.a"])
    alter(AGED, timedelta(minutes=1), "restore.b")
    assert not workers.restore_site().current


def test_a_worker_that_dies_before_it_publishes_keeps_what_it_had_published(
    workers: Workers, alter: Callable[..., None]
) -> None:
    workers.register(["restore.a"])
    workers.publish(["restore.a"], [OLD])
    workers.register(["restore.a"])
    assert workers.restore_site() == RestoreSite(clients=(OLD,), living=(OLD,), current=True)
    # Which documents the new process reads, it has not said.
    assert not workers.may_use_new_fields(CHAINED_STATEMENTS, in_use=False)
    alter(AGED, timedelta(hours=2), "restore.a")
    assert workers.restore_site() == RestoreSite(clients=(OLD,), current=False)


def test_new_fields_wait_for_every_worker_that_was_seen_within_a_day(
    workers: Workers, alter: Callable[..., None]
) -> None:
    assert workers.may_use_new_fields(CHAINED_STATEMENTS, in_use=False)
    workers.register(["backup.new", "verify.old"])
    workers.publish(["backup.new"], [])
    assert not workers.may_use_new_fields(CHAINED_STATEMENTS, in_use=False)
    # It may only be restarted, or cut off from the catalog.
    alter(AGED, timedelta(hours=23), "verify.old")
    assert not workers.may_use_new_fields(CHAINED_STATEMENTS, in_use=False)
    alter(AGED, timedelta(hours=1), "verify.old")
    assert workers.may_use_new_fields(CHAINED_STATEMENTS, in_use=False)


def test_new_fields_begin_at_once_where_the_new_version_took_the_name(workers: Workers) -> None:
    workers.register(["verify.one"])
    assert not workers.may_use_new_fields(CHAINED_STATEMENTS, in_use=False)
    workers.register(["verify.one"])
    workers.publish(["verify.one"], [])
    assert workers.may_use_new_fields(CHAINED_STATEMENTS, in_use=False)
