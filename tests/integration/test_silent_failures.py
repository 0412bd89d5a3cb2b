"""Failures that used to be silent, planted one by one: each is told within one simulated day.

And a month without any: nothing is told but its reports.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pgben_tasks.adapters.postgres import clients as pg_clients
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.runtime import postgres_servers
from tests.support.needs import needs
from tests.support.simulation import NIGHT, WEEK, Simulation

pytestmark = [pytest.mark.unmeasured, needs("cc"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulation]:
    with Simulation.begin(tmp_path_factory.mktemp("simulation") / "site") as made:
        yield made


@pytest.fixture
def site(begun: Simulation) -> Simulation:
    begun.reset()
    return begun


@dataclass(frozen=True, slots=True)
class Failure:
    """What is planted on a Sunday evening, and what somebody must read by Monday evening."""

    plant: Callable[[Simulation], None]
    told: str
    #: What the report of that Monday says: None where it cannot be made.
    report: str | None = r"\[CRITICAL\]"


# What is planted


def _newest(site: Simulation, folder: str) -> Path:
    return site.shop.repository / folder / str(site.shop.target) / site.newest_backup


def _pack(site: Simulation) -> Path:
    return min(_newest(site, "packs").iterdir())


def flip_a_bit(site: Simulation) -> None:
    data = bytearray(_pack(site).read_bytes())
    data[len(data) // 2] ^= 1
    _pack(site).write_bytes(data)


def truncate_a_pack(site: Simulation) -> None:
    _pack(site).write_bytes(_pack(site).read_bytes()[:-7])


def remove_a_pack(site: Simulation) -> None:
    _pack(site).unlink()


def forge_a_manifest(site: Simulation) -> None:
    manifest = _newest(site, "backups") / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    assert '"rows":400' in text
    manifest.write_text(text.replace('"rows":400', '"rows":401'), encoding="utf-8")


def remove_a_statement(site: Simulation) -> None:
    for file in _newest(site, "verifications").iterdir():
        file.unlink()


def dump_nothing(site: Simulation) -> None:
    """Let pg_dump end well with a file of 20 bytes, as the old script's pipe did."""
    programs = site.shop.folder / "programs"
    programs.mkdir(exist_ok=True)
    for real in site.shop.server.bin_dir.iterdir():
        with suppress(FileExistsError):
            (programs / real.name).symlink_to(real)
    program = programs / "pg_dump"
    program.unlink()
    real_one = site.shop.server.bin_dir / "pg_dump"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in --version) exec {real_one} --version ;; esac\n'
        'for word in "$@"; do case "$word" in --file=*) folder=${word#--file=} ;; esac; done\n'
        'mkdir -p "$folder" && printf 12345678901234567890 > "$folder/toc.dat"\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    client = pg_clients.inspect_client(programs, "bundled")
    assert client is not None
    target = site.shop.target
    source = PostgresSource(
        postgres_servers(site.shop.work.settings)[target],
        target.name,
        candidates=(client,),
        restore_site=site.shop.work.workers.restore_site,
    )
    site.use(replace(site.tools, sources={target: source}))


def empty_a_table(site: Simulation) -> None:
    with site.shop.server.connect(site.shop.target.name) as connection:
        connection.execute("TRUNCATE pedido")


def sleep_through_the_night(site: Simulation) -> None:
    """Let the machine be off from before the window until it is not made up for any more."""
    site.clock.set(site.at(16, 30))


def stop_beat(site: Simulation) -> None:
    site.beat = False


def stop_the_workers(site: Simulation) -> None:
    site.works = False


def fill_the_disk(site: Simulation) -> None:
    """Fill a small volume that the spool is on."""
    try:
        small = site.mount_spool(mebibytes=16)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here")
    # The disks of whoever runs this are full only from 99.9 % on.
    usage = shutil.disk_usage(small)
    (small / "somebody-elses").write_bytes(bytes(usage.free - usage.total // 2000))


def stop_the_mail_server(site: Simulation) -> None:
    site.mails.stop()
    flip_a_bit(site)


def change_the_mail_password(site: Simulation) -> None:
    site.mails.login = ("pgben", "another")
    flip_a_bit(site)


def stop_the_bucket(site: Simulation) -> None:
    site.documents.stop()


def let_the_identity_expire(site: Simulation) -> None:
    site.identity.write_text("# rotated away\n", encoding="utf-8")


def restore_an_old_catalog(site: Simulation) -> None:
    """Put a copy from the day before in the catalog's place, after that night's backups."""
    site.keep_catalog("catalog_of_yesterday")
    site.live(*NIGHT)
    site.bring_catalog_back("catalog_of_yesterday")


FAILURES = {
    "a flipped bit": Failure(flip_a_bit, "verification found faults.*damaged 'packs/"),
    "a truncated pack": Failure(truncate_a_pack, "verification found faults.*truncated 'packs/"),
    "a missing pack": Failure(remove_a_pack, "verification found faults.*missing 'packs/"),
    "a forged manifest": Failure(forge_a_manifest, "verification found faults.*manifest.json"),
    "a removed statement": Failure(
        remove_a_statement, "verification found faults.*statement.*cannot be found"
    ),
    "an empty dump": Failure(dump_nothing, "backup of postgres/pgben failed"),
    "an emptied table": Failure(
        empty_a_table, "backup of postgres/pgben is suspect.*rows shrank from 850 to 450"
    ),
    "a gap in the schedule": Failure(sleep_through_the_night, "its window passed without any job"),
    "a stopped beat": Failure(stop_beat, r"the scheduler \(beat\) is silent", r"\[ATTENTION\]"),
    "stopped workers": Failure(
        stop_the_workers, "backup of postgres/pgben is overdue.*no worker has begun it", None
    ),
    "a full disk": Failure(fill_the_disk, "is running out of room"),
    "a mail server that is down": Failure(stop_the_mail_server, "alarms do not go by 'mail'", None),
    "a wrong password of the mail server": Failure(
        change_the_mail_password, "the report could not be sent", None
    ),
    "a bucket that cannot be reached": Failure(
        stop_the_bucket, "backup of bucket/pgben-documents failed"
    ),
    "an identity file without an identity": Failure(
        let_the_identity_expire, "verification of everything did not take place.*no identity"
    ),
    "a catalog restored from an old copy": Failure(
        restore_an_old_catalog, "the audit trail cannot be continued.*from an older copy"
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_told_within_a_day(site: Simulation, name: str) -> None:
    failure = FAILURES[name]
    failure.plant(site)
    site.live_until_the_evening()
    mails = [f"{one.subject}\n{site.text_of(one)}" for one in site.letters()]
    chat = site.messages()
    # Whoever reads any of the channels knows.
    said = [" ".join(one.split()) for one in (*mails, *chat)]
    assert any(re.search(failure.told, one) for one in said), said
    reports = [one for one in mails if "weekly report" in one.partition("\n")[0]]
    if failure.report is not None:
        (report,) = reports
        assert re.match(failure.report, report)
    assert not any(one.startswith("[OK]") for one in reports)


@pytest.mark.timeout(900)
def test_a_clean_month_tells_nothing_but_its_reports(site: Simulation) -> None:
    reports: list[str] = []
    for day in range(4 * WEEK):
        # The first day is a Monday.
        site.live(*NIGHT, *(() if day % WEEK else ((8, 1),)))
        for letter in site.letters():
            assert "weekly report" in letter.subject, letter.subject
            reports.append(letter.subject)
    assert len(reports) == 4
    assert site.messages() == []
