"""The report of a week: made by its step, mailed over real SMTP, kept, and begun by the tick."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty
from typing import Any

import pytest

from pgben_tasks import canvases, runtime
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON, ReportRequest
from pgben_tasks.domain.job import EVERYTHING, Job, window_key
from pgben_tasks.domain.report_due import WAIT
from pgben_tasks.errors import ConfigurationError, IntegrityError, TransientError
from pgben_tasks.health.report import reporting
from pgben_tasks.runtime import process
from pgben_tasks.settings import Settings
from pgben_tasks.tasks import reconciler, repository
from tests.support.installation import Chain, Crash, Installation
from tests.support.mailbox import Letter, MailServer, self_made_certificate
from tests.support.timetables import daily

CANARY = "canary-Zq83hfPw"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

MakeSite = Callable[..., runtime.Workplace]


@pytest.fixture
def make_site(installation: Installation) -> Iterator[MakeSite]:
    """Return a function that makes the process's workplace, with more settings."""
    app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    made: list[runtime.Workplace] = []

    def make(**settings: str) -> runtime.Workplace:
        environment = {**installation.shop.environment, **settings}
        site = runtime.Workplace(Settings.load(environment))
        process._workplace = site
        made.append(site)
        return site

    yield make
    for site in made:
        for name in {"tools", "tools_for_reports"} & set(vars(site)):
            getattr(site, name).codec.close()
    for queue in ("verify", "maintenance", "backup"):
        _empty(queue)
    runtime.forget()


def _empty(queue: str) -> None:
    with app.connection() as connection, connection.SimpleQueue(queue) as waiting:
        try:
            while True:
                waiting.get_nowait().ack()
        except Empty:
            return


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_made_certificate(tmp_path_factory.mktemp("mail"))


def report(**request: Any) -> JSON:
    """Have a report made, as a worker does, and return the result of its job."""
    outcome = repository.report.apply(args=(request,), throw=True).get()
    return outcome["result"]  # type: ignore[no-any-return]


def newest(site: runtime.Workplace) -> Job:
    return next(job for job in site.ledger.jobs(limit=5) if job.kind == "report")


def only(server: MailServer) -> Letter:
    (letter,) = server.letters
    return letter


def text_of(letter: Letter) -> str:
    part = letter.message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def audit(site: runtime.Workplace) -> list[str]:
    rows = site.database.fetch_all(
        "SELECT detail FROM audit WHERE action = 'report' AND result = 'kept'"
    )
    return [row["detail"] for row in rows]


# The step


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_a_report_is_mailed_as_text_and_page_and_kept_in_catalog_and_repository(
    make_site: MakeSite, installation: Installation, certificate: Path, security: str
) -> None:
    held = None if security == "none" else certificate
    with MailServer(security, held, login=("pgben", CANARY)) as server:
        site = make_site(**server.settings())
        result = report(requested_by="ana")
    letter = only(server)
    assert letter.protected == (security != "none")
    assert letter.recipients == ("ana@example.org", "bia@example.org")
    assert letter.message["Message-ID"] == f"<report.{newest(site).id}@example.org>"
    assert letter.message.get_content_type() == "multipart/alternative"
    text = letter.message.get_body(("plain",))
    page = letter.message.get_body(("html",))
    assert text is not None
    assert page is not None
    # Nothing was verified by a job yet, and nothing restored.
    assert result["colour"] == "red"
    assert letter.subject.startswith("[CRÍTICO]")
    # Lines of a text are short.
    assert "nunca foi medid" in " ".join(text.get_content().split())
    assert "nunca foi medid" in " ".join(page.get_content().split())
    pictures = [part for part in letter.message.walk() if part.get_content_maintype() == "image"]
    assert pictures
    for picture in pictures:
        assert f"cid:{picture['Content-ID'].strip('<>')}" in page.get_content()
    assert CANARY not in letter.message.as_string()
    assert result["mailed"]

    kept = installation.repository / result["file"]
    assert result["file"] == f"audit/reports/{result['report']}.html"
    digest = hashlib.sha256(kept.read_bytes()).hexdigest()
    assert audit(site) == [f"{result['file']} {digest}"]
    document = site.reports.document(result["report"])
    assert document is not None
    assert [one.target for one in document.targets] == [str(installation.target)]
    assert len(document.targets[0].trend) == 2
    assert site.reports.page(result["report"], "pt_BR") != site.reports.page(result["report"], "en")


def test_a_week_that_was_verified_and_restored_says_so(
    make_site: MakeSite, installation: Installation
) -> None:
    site = make_site()
    repository.verify.apply(args=({"level": "full"},), throw=True).get()
    installation.restore().rest()
    held, ended = (each.backup for each in installation.backups)
    asked: dict[str, Any] = {"requested_by": "ana", "reason": "a reason that nobody else reads"}
    hold = installation.chain("hold", backup=held, keep_for="14d", label="release-42", **asked)
    until = hold.rest().result["hold"]["until"]
    installation.chain("hold", backup=ended, keep_for="14d", **asked).rest()
    installation.chain("hold", backup=ended, release=True, **asked).rest()
    result = report(mail=False)
    document = site.reports.document(result["report"])
    assert document is not None
    (one,) = document.targets
    assert [each.model_dump(mode="json") for each in one.holds] == [
        {"backup": held, "label": "release-42", "until": until, "who": "ana"}
    ]
    assert asked["reason"] not in (site.reports.page(result["report"], "en") or asked["reason"])
    stored = sum(each.stat().st_size for each in installation.repository.rglob("packs/**/*.age"))
    assert one.bytes_reread == stored
    assert one.within_rto
    assert one.last_restore_at is not None
    assert document.answers.measured == "sum"
    assert document.answers.to == one.last_good
    assert result["not_mailed"] == "nobody asked for a mail"

    # What was waited before the last attempt is no part of how long a restore takes.
    target = str(installation.target)
    took = site.records.target_record(target).last_restore
    assert took == timedelta(seconds=one.last_restore_seconds or 0)
    change = "UPDATE job SET {} WHERE kind = 'restore'"
    site.database.execute(change.format("started_at = started_at - interval '1 day'").encode())
    assert site.records.target_record(target).last_restore == took
    # Nor is it measured by what brought only some of it back.
    for some in ('{"keys": ["a"]}', '{"prefix": "a/"}', '{"in_place": true}'):
        added = change.format(f"request = request || '{some}'")
        with site.database.transaction() as cursor:
            cursor.execute(added.encode())
        assert site.records.target_record(target).last_restore is None
        taken = change.format("request = request - 'keys' - 'prefix' - 'in_place'")
        site.database.execute(taken.encode())


def test_without_mail_settings_the_report_is_kept_and_says_that_nobody_was_told(
    make_site: MakeSite, installation: Installation
) -> None:
    site = make_site()
    result = report()
    assert not result["mailed"]
    assert "no mail server or no recipient" in result["not_mailed"]
    assert (installation.repository / result["file"]).exists()
    assert newest(site).state == "succeeded"


def test_a_wrong_password_fails_the_job_and_the_report_is_kept_all_the_same(
    make_site: MakeSite, installation: Installation
) -> None:
    with MailServer(login=("pgben", "right")) as server:
        site = make_site(**server.settings(PGBEN_SMTP_PASS=CANARY))
        with pytest.raises(ConfigurationError, match="does not accept the user 'pgben'"):
            report()
    job = newest(site)
    assert job.state == "failed"
    assert CANARY not in str(job.error)
    assert len(list((installation.repository / "audit/reports").iterdir())) == 1


def test_a_mail_server_that_is_away_gets_the_same_report_when_it_is_back(
    make_site: MakeSite,
) -> None:
    server = MailServer()
    site = make_site(**server.settings())
    # Its step is tried again, as often as other passing failures are.
    with pytest.raises(TransientError, match="does not answer"):
        report()
    job = newest(site)
    assert job.state == "failed"
    assert site.ledger.queue_again(job.id)
    with server:
        result = report(**job.request_again)
    assert result["report"] == job.context["report"]
    assert only(server).message["Message-ID"] == f"<report.{job.id}@example.org>"
    assert len(site.reports.newest(5)) == 1


def test_a_crash_between_sending_and_recording_sends_the_same_mail_once_more(
    make_site: MakeSite,
) -> None:
    with MailServer() as server:
        site = make_site(**server.settings())
        job, _ = site.ledger.request(
            "report",
            target=EVERYTHING,
            key="one",
            request=ReportRequest().model_dump(mode="json"),
            requested_by="ana",
        )
        ref = site.ledger.claim(
            job.id,
            node="workshop",
            first_step=canvases.first_step("report"),
            lease=(str(job.id), "report"),
            context={},
            root_task="root",
            wait=HOUR,
        )
        chain = Chain(
            tools=replace(site.tools, reporting=reporting(site)), ledger=site.ledger, ref=ref
        )
        keep = chain.row.keep

        def crash(*, context: JSON, backup: str | None = None) -> None:
            if "mailed" in context:
                raise Crash
            keep(context=context, backup=backup)

        chain.row.keep = crash  # type: ignore[method-assign]  # the process dies here
        with pytest.raises(Crash):
            chain.step()
        chain.row.keep = keep  # type: ignore[method-assign]  # it is started again
        chain.step()
        # What was recorded is not sent again, whatever is repeated.
        assert chain.job.context["mailed"]
    first, second = server.letters
    assert first.message["Message-ID"] == second.message["Message-ID"]
    assert text_of(first) == text_of(second)


def test_a_repository_that_is_away_keeps_no_report_from_being_mailed(
    make_site: MakeSite, installation: Installation
) -> None:
    away = installation.repository.with_name("away")
    with MailServer() as server:
        site = make_site(**server.settings())
        installation.repository.rename(away)
        try:
            with pytest.raises(ConfigurationError):
                report()
        finally:
            away.rename(installation.repository)
    assert only(server).subject.startswith("[CRÍTICO]")
    assert newest(site).state == "failed"


def test_a_report_is_mailed_before_the_repository_is_waited_for(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that hangs keeps the job, and not the mail."""
    mailed: list[int] = []
    with MailServer() as server:
        site = make_site(**server.settings())
        repository = site.tools.repository
        real = repository.store_report

        def noted(*arguments: Any) -> str:
            mailed.append(len(server.letters))
            return real(*arguments)

        monkeypatch.setattr(repository, "store_report", noted)
        report()
    assert mailed == [1]


def test_a_report_file_that_was_changed_or_removed_is_a_finding(
    make_site: MakeSite, installation: Installation
) -> None:
    site = make_site()
    file = installation.repository / report()["file"]
    site.trail.store_missing()
    page = file.read_bytes()

    def verify() -> list[tuple[str, str]]:
        with suppress(IntegrityError):
            repository.verify.apply(args=({"level": "full"},), throw=True).get()
        job = next(job for job in site.ledger.jobs(limit=3) if job.kind == "verify")
        return [(one["kind"], one["path"]) for one in job.result["findings"]]

    path = str(file.relative_to(installation.repository))
    assert verify() == []
    file.write_bytes(page.replace(b"<html", b"<html lang=xx", 1))
    assert verify() == [("damaged", path)]
    file.unlink()
    assert verify() == [("missing", path)]


# The tick


@contextmanager
def _weeks_since(site: runtime.Workplace, moment: datetime) -> Iterator[None]:
    """Pretend that the catalog has kept reports since then."""
    was = site.reports.since()
    sql = "UPDATE migration SET applied_at = %s WHERE version = 20"
    site.database.execute(sql, (moment,))
    try:
        yield
    finally:
        site.database.execute(sql, (was,))


def _site_with_window(make_site: MakeSite, ago: timedelta) -> runtime.Workplace:
    at = datetime.now(UTC) - ago
    return make_site(PGBEN_SCHEDULE_VERIFY=daily(at), PGBEN_TIMEZONE="UTC")


def _reports(site: runtime.Workplace) -> list[Job]:
    return [job for job in site.ledger.jobs() if job.kind == "report"]


@pytest.mark.usefixtures("installation")
def test_the_tick_begins_one_report_when_the_verification_of_the_window_has_ended(
    make_site: MakeSite,
) -> None:
    site = _site_with_window(make_site, 2 * HOUR)
    with _weeks_since(site, datetime.now(UTC) - 30 * DAY):
        done = reconciler.tick(site, app)
        # It wrote the verification, which is waited for.
        assert (done["windows"], done["reports"]) == (1, 0)
        (verification,) = [job for job in site.ledger.jobs() if job.kind == "verify"]
        assert verification.window is not None
        end = "UPDATE job SET state = %s, retry_at = %s, ended_at = clock_timestamp()"
        site.database.execute(end, ("failed", datetime.now(UTC) + HOUR))
        assert reconciler.tick(site, app)["reports"] == 0
        site.database.execute(end, ("succeeded", None))
        with ThreadPoolExecutor(4) as pool:
            ticks = list(pool.map(lambda _: reconciler.tick(site, app), range(4)))
        assert sum(one["reports"] for one in ticks) == 1
        (job,) = _reports(site)
        assert job.key == window_key("report", EVERYTHING, verification.window)
        assert (job.window, job.requested_by) == (verification.window, "schedule")
        # Whatever became of it, it is not begun again.
        site.database.execute("UPDATE job SET state = 'failed' WHERE id = %s", (job.id,))
        assert reconciler.tick(site, app)["reports"] == 0


@pytest.mark.usefixtures("installation")
def test_the_report_comes_without_its_verification_and_not_before_new_workers(
    make_site: MakeSite,
) -> None:
    site = _site_with_window(make_site, WAIT + HOUR)
    assert reconciler.tick(site, app)["reports"] == 0, "a new installation owes no report"
    with _weeks_since(site, datetime.now(UTC) - 30 * DAY):
        site.workers.send_heartbeat(["maintenance.old"])
        assert reconciler.tick(site, app)["reports"] == 0, "an old worker could not publish it"
        site.database.execute("DELETE FROM worker WHERE name = 'maintenance.old'")
        assert reconciler.tick(site, app)["reports"] == 1
