"""The console as people and programs use it: a real browser, a live console, broker and worker."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from celery import Celery
from playwright.sync_api import Browser, Page, expect

from pgben_tasks import canvases, names
from pgben_tasks.adapters.catalog.locks import holding, target_lock
from pgben_tasks.console.api import KINDS
from pgben_tasks.domain.job import Job
from pgben_tasks.embedded.data.compare import contents
from pgben_tasks.runtime.places import bucket_at
from tests.support.browser import chromium, visit
from tests.support.console import PASSWORDS, LiveConsole, start_console
from tests.support.deployment import BUCKET, DATABASE, TARGET, Deployment, eventually, papers
from tests.support.needs import needs

pytestmark = needs("chromium-headless-shell")

#: A job is begun, done and shown.
DONE = 60_000
#: What stands at the end of a job's page.
ENDED = ".state[data-state=succeeded]"
#: The addresses of Flower that may be looked at, with an example of what they take.
LOOKED_AT = (
    "/",
    "/workers",
    "/worker/all@x",
    "/task/x",
    "/tasks",
    "/tasks/datatable?draw=1&start=0&length=1&order[0][column]=0",
    "/broker",
    "/api/workers",
    "/api/tasks",
    "/api/task/types",
    "/api/queues/length",
    "/api/task/info/x",
    "/api/task/result/x",
    "/metrics",
    "/static/css/flower.css",
    "/nothing",
)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("console")
    with papers(folder, 30, megabytes=3) as built:
        built.start("all", name="worker")
        assert built.pgben("backup", "--all").code == 0
        yield built


@pytest.fixture(scope="module")
def console(deployment: Deployment) -> LiveConsole:
    return start_console(deployment)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def ana(browser: Browser, console: LiveConsole) -> Iterator[Page]:
    """Yield the page of somebody who may operate."""
    with visit(browser, language="en-US") as context:
        yield log_in(context.new_page(), console, "ana")


def log_in(page: Page, console: LiveConsole, name: str) -> Page:
    """Log in as a person does; return the first page."""
    page.goto(f"{console.url}/pgben")
    assert "/pgben/login?next=" in page.url
    page.get_by_role("textbox", name=re.compile("^(Name|Nome)$")).fill(name)
    page.locator("#password").fill(PASSWORDS[name])
    page.locator("main button").click()
    expect(page.locator("dl.answers")).to_be_visible(timeout=DONE)
    return page


def press(page: Page, button: str) -> None:
    page.get_by_role("button", name=button).click()


def job_on(page: Page, deployment: Deployment) -> Job:
    """Return the job whose page is shown, once it is."""
    page.wait_for_url(re.compile(r"/pgben/jobs/[0-9a-f-]{36}$"), timeout=DONE)
    return deployment.work.ledger.find(page.url.rpartition("/")[2])


def to_the_end(page: Page, deployment: Deployment) -> Job:
    """Follow the job whose page is shown to its good end."""
    job = job_on(page, deployment)
    expect(page.locator(ENDED)).to_be_visible(timeout=DONE)
    return deployment.work.ledger.job(job.id)


def test_nobody_passes_without_a_login_but_probes(console: LiveConsole) -> None:
    assert console.ask("/healthcheck", user=None).text == "OK"
    for path in LOOKED_AT:
        answer = console.ask(path, user=None)
        if path.startswith("/api/") or path == "/metrics":
            assert (answer.status, "Basic" in answer.headers["WWW-Authenticate"]) == (401, True)
        else:
            assert answer.status == 302, path
            assert answer.headers["Location"].startswith("/pgben/login?next=")
    missing = console.ask("/pgben/nothing")
    assert (missing.status, "<h1>" in missing.text) == (404, True)
    for path in (
        "/pgben",
        "/pgben/nothing",
        "/pgben/live",
        "/pgben/jobs",
        "/pgben/history",
        "/pgben/history.csv",
        "/pgben/do/backup",
        "/pgben/points",
    ):
        assert console.ask(path, user=None).status == 302, path
    for path in ("/api/task/async-apply/pgben.backup.all", "/pgben/do/backup", "/pgben/logout"):
        assert console.ask(path, {}, user=None).status in {401, 403}, path
    assert console.ask("/metrics", user="ana", password="wrong").status == 401


def test_every_address_of_flower_is_behind_the_login_and_none_changes_anything(
    deployment: Deployment, console: LiveConsole
) -> None:
    """The routes are Flower's own: one that a later version brings is tried as well."""
    from flower.urls import handlers  # noqa: PLC0415 - it configures itself when it is loaded

    patterns = [one.regex.pattern if hasattr(one, "regex") else one[0] for one in handlers]
    assert len(patterns) > 30
    eventually(lambda: console.ask("/api/workers").json, seconds=20, what="a worker is known")
    (worker,) = console.ask("/api/workers").json
    for pattern in patterns:
        path = pattern.removesuffix("$").replace("(.+)", worker).replace("(.*)", worker)
        path = path.replace("/?", "").replace(".*", "/nothing")
        if path in {"/healthcheck", "/login", "/logout"}:
            continue
        assert console.ask(path, user=None).status in {302, 401, 403}, path
        changing = console.ask(path, {"n": 1}, user="ana")
        assert changing.status in {400, 403, 404, 405} or path == "/tasks/datatable", path
    assert console.ask("/api/workers").json.keys() == {worker}
    assert all(process.alive for process in deployment.processes)


def test_a_key_of_another_job_is_not_answered_with_its_success(
    deployment: Deployment, console: LiveConsole
) -> None:
    key = {"idempotency_key": "a-key-of-two-services"}
    first = console.ask(
        "/api/task/apply/pgben.verify.run?timeout=60", {"target": str(TARGET), **key}
    )
    assert first.json["state"] == "SUCCESS"
    for way in ("apply", "async-apply"):
        path = f"/api/task/{way}/pgben.backup.postgres"
        second = console.ask(path, {"target": str(TARGET), **key})
        assert (second.status, "belongs to a verify" in second.text) == (400, True)
    tomorrow = {"idempotency_key": f"backup:{TARGET}:2030-01-01T05:00Z"}
    taken = console.ask(path, {"target": str(TARGET), **tomorrow})
    assert (taken.status, "scheduled window" in taken.text) == (400, True)


def test_who_has_not_logged_in_can_neither_fill_the_memory_nor_hold_connections(
    console: LiveConsole,
) -> None:
    host, _, port = console.url.removeprefix("http://").partition(":")
    with ExitStack() as open_connections:
        for _ in range(400):
            one = open_connections.enter_context(socket.create_connection((host, int(port)), 10))
            # Where too many are open already, the console has hung up.
            with suppress(OSError):
                one.sendall(b"G")
        one.settimeout(10)
        with suppress(OSError):
            assert one.recv(1) == b""

    def answers() -> bool:
        # Until it has seen that the others are gone, it hangs up on everybody.
        with suppress(OSError):
            return console.ask("/healthcheck", user=None).text == "OK"
        return False

    eventually(answers, seconds=20, what="it answers")
    with socket.create_connection((host, int(port)), 10) as one:
        head = f"POST /pgben/login HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99614720\r\n\r\n"
        one.sendall(head.encode())
        assert one.recv(100).startswith(b"HTTP/1.1 400")
    assert len(console.log) < 200_000


def test_many_guesses_at_the_same_time_are_slowed_down(deployment: Deployment) -> None:
    slow = start_console(deployment)
    statuses: list[int] = []

    def guess(number: int) -> None:
        statuses.append(slow.ask("/metrics", user="ana", password=f"guess {number}").status)

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    # Those that are free, and as many more as a machine that stalls outlasts their waits.
    assert statuses.count(401) <= 10
    assert statuses.count(401) + statuses.count(429) == 40
    assert slow.ask("/metrics", user="olga").status == 200, "another name from the same address"
    slow.process.stop()


def test_pages_of_other_sites_can_neither_send_nor_frame_anything(
    deployment: Deployment, console: LiveConsole
) -> None:
    before = len(deployment.jobs())
    path = "/api/task/async-apply/pgben.backup.postgres"
    body = {"target": str(TARGET)}
    assert console.ask(path, body, Sec_Fetch_Site="cross-site").status == 403
    assert console.ask(path, body, Origin="https://evil.example").status == 403
    for site in ("same-site", "cross-site"):
        forged = console.ask(
            "/pgben/do/backup",
            raw=f"_xsrf=abcdef01&target={TARGET}".encode(),
            Content_Type="application/x-www-form-urlencoded",
            Cookie="_xsrf=abcdef01",
            Sec_Fetch_Site=site,
        )
        assert forged.status == 403
    form = console.ask(path, body, Content_Type="text/plain")
    assert (form.status, form.json["error"]["code"]) == (400, "RequestRefused")
    headers = console.ask("/pgben").headers
    assert headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "no-store" in headers["Cache-Control"]
    assert len(deployment.jobs()) == before


def test_failed_logins_are_refused_then_slowed_down(
    deployment: Deployment, browser: Browser
) -> None:
    # Of its own: this address is everybody's here.
    slow = start_console(deployment)
    with visit(browser, language="pt-BR") as context:
        page = context.new_page()
        page.goto(f"{slow.url}/pgben/login")
        # A machine that stalls outlasts the first waits, of seconds, but none of a minute.
        for _ in range(12):
            page.locator("#name").fill("ana")
            page.locator("#password").fill("canary-password")
            page.locator("main button").click()
            page.wait_for_load_state()
            if re.search(r"\d+ s", page.get_by_role("alert").inner_text()):
                break
        expect(page.get_by_role("alert")).to_contain_text(re.compile(r"\d+ s"))
    answers = [slow.ask("/metrics", user="ana", password="canary-password") for _ in range(12)]
    refused = [one for one in answers if one.status == 429]
    assert refused
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert "login_slowed_down" in slow.log
    assert "canary-password" not in slow.log
    slow.process.stop()


def test_whoever_watches_sees_everything_and_starts_nothing(
    deployment: Deployment, browser: Browser, console: LiveConsole
) -> None:
    before = deployment.jobs()
    with visit(browser, language="en-US") as context:
        page = log_in(context.new_page(), console, "olga")
        expect(page.get_by_text("may watch")).to_be_visible()
        expect(page.get_by_text("Can we restore today?")).to_be_visible()
        assert page.get_by_role("link", name="Back up now").count() == 0
        page.goto(f"{console.url}/pgben/backups?target=postgres/pgben")
        expect(page.get_by_text("verified").first).to_be_visible()
        assert page.get_by_role("link", name="Restore in place").count() == 0
        token = page.locator("input[name=_xsrf]").first.get_attribute("value") or ""
        for action in ("backup", "verify", "restore", "restore_all", "undo", "cancel"):
            answer = page.goto(f"{console.url}/pgben/do/{action}?target=postgres/pgben")
            assert answer is not None
            assert answer.status == 403
            expect(page.get_by_role("alert")).to_contain_text("may watch")
            sent = context.request.post(
                f"{console.url}/pgben/do/{action}",
                form={"_xsrf": token, "target": str(TARGET), "job": str(before[0].id)},
                max_redirects=0,
            )
            assert sent.status == 403
    for name in names.ENTRY_TASKS:
        for way in ("apply", "async-apply"):
            told = console.ask(f"/api/task/{way}/{name}", {"target": str(TARGET)}, user="olga")
            assert (told.status, told.json["error"]["code"]) == (403, "RequestRefused")
    assert [one.id for one in deployment.jobs()] == [one.id for one in before]


def test_a_backup_is_made_and_followed_to_its_end(ana: Page, deployment: Deployment) -> None:
    ana.get_by_role("link", name="Back up now").click()
    ana.get_by_label("Target").select_option(str(TARGET))
    press(ana, "Back up now")
    job = to_the_end(ana, deployment)
    assert (job.kind, job.target, job.requested_by) == ("backup", str(TARGET), "ana")
    assert job.result["state"] == "verified"
    expect(ana.get_by_role("cell", name="dumping")).to_be_visible()
    expect(ana.get_by_text("pgben.backup.postgres.record")).to_be_visible()
    with deployment.work.database.transaction() as cursor:
        rows = cursor.execute("SELECT who FROM audit WHERE job = %s", (str(job.id),)).fetchall()
    assert {row["who"] for row in rows} == {"ana"}
    # The row of the job in Flower.
    ana.get_by_role("link", name="pgben.backup.postgres.record").click()
    expect(ana.get_by_text("SUCCESS").first).to_be_visible()
    expect(ana.locator("body")).not_to_contain_text("requested_by")
    ana.get_by_role("link", name="pgben", exact=True).click()
    expect(ana.locator("dl.answers")).to_be_visible()


def test_a_restore_beside_shows_its_plan_first_and_leaves_the_original(
    ana: Page, deployment: Deployment
) -> None:
    before = contents(deployment.stack.postgres.dsn(), DATABASE)
    ana.get_by_role("link", name=f"Backups of {TARGET}").click()
    ana.get_by_role("link", name="Restore beside").first.click()
    expect(ana.get_by_text("nothing stands in the way")).to_be_visible(timeout=DONE)
    ana.get_by_label("Into").fill("Bad Name\x07")
    press(ana, "Restore")
    expect(ana.get_by_role("alert")).to_contain_text("“Into”")
    ana.get_by_label("Into").fill("copy_of_the_page")
    press(ana, "Restore")
    to_the_end(ana, deployment)
    expect(ana.get_by_text("copy_of_the_page")).to_be_visible()
    assert contents(deployment.stack.postgres.dsn(), "copy_of_the_page") == before
    assert contents(deployment.stack.postgres.dsn(), DATABASE) == before


def test_a_restore_in_place_wants_the_name_and_is_undone(ana: Page, deployment: Deployment) -> None:
    with deployment.stack.postgres.connect(DATABASE) as connection:
        connection.execute("CREATE TABLE made_after_the_backup ()")
    changed = contents(deployment.stack.postgres.dsn(), DATABASE)
    ana.get_by_role("link", name=f"Backups of {TARGET}").click()
    ana.get_by_role("link", name="Restore in place").first.click()
    expect(ana.get_by_text("is kept under another name")).to_be_visible(timeout=DONE)
    confirm = ana.get_by_label(f"Type “{DATABASE}”")
    confirm.fill("something_else")
    press(ana, "Restore")
    before = len(deployment.jobs())
    expect(ana.get_by_role("alert")).to_contain_text(f"not confirmed: {DATABASE}", timeout=DONE)
    assert len(deployment.jobs()) == before
    ana.get_by_label(f"Type “{DATABASE}”").fill(DATABASE)
    press(ana, "Restore")
    to_the_end(ana, deployment)
    assert "made_after_the_backup" not in str(contents(deployment.stack.postgres.dsn(), DATABASE))
    ana.get_by_role("link", name="Undo").click()
    expect(ana.get_by_text(f"takes the name '{DATABASE}' again")).to_be_visible()
    ana.get_by_label(f"Type “{DATABASE}”").fill(DATABASE)
    press(ana, "Undo a restore in place")
    undo = to_the_end(ana, deployment)
    assert (undo.kind, undo.requested_by) == ("undo", "ana")
    assert contents(deployment.stack.postgres.dsn(), DATABASE) == changed


def test_everything_is_restored_beside_from_a_point_of_the_list(
    ana: Page, deployment: Deployment
) -> None:
    ana.get_by_role("link", name="Recovery points").click()
    ana.get_by_role("link", name="Restore beside").first.click()
    expect(ana.get_by_text("nothing stands in the way")).to_be_visible(timeout=DONE)
    press(ana, "Restore everything beside")
    job = to_the_end(ana, deployment)
    assert job.kind == "restore_all"
    assert set(job.result["databases"]) == {str(TARGET)}
    assert set(job.result["buckets"]) == {str(BUCKET)}


def test_a_suspect_backup_is_acknowledged_with_a_reason(ana: Page, deployment: Deployment) -> None:
    every = (
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    with deployment.stack.postgres.connect(DATABASE) as connection:
        tables = ", ".join(name for (name,) in connection.execute(every).fetchall())
        connection.execute(f"TRUNCATE {tables} CASCADE".encode())
    assert deployment.pgben("backup", DATABASE).code == 4
    ana.get_by_role("link", name=f"Backups of {TARGET}").click()
    expect(ana.get_by_text("shrank from").first).to_be_visible(timeout=DONE)
    ana.get_by_role("link", name="Acknowledge").first.click()
    reason = ana.get_by_label("Reason")
    assert reason.get_attribute("required") is not None
    reason.fill("the papers were moved")
    ana.get_by_role("button", name="Acknowledge backup").click()
    job = to_the_end(ana, deployment)
    assert (job.kind, job.request["reason"]) == ("acknowledge", "the papers were moved")
    expect(ana.locator("main")).not_to_contain_text("the papers were moved")


def test_a_backup_is_held_and_released(ana: Page, deployment: Deployment) -> None:
    def of_target() -> None:
        ana.goto(f"{ana.url.partition('/pgben')[0]}/pgben")
        ana.get_by_role("link", name=f"Backups of {TARGET}").click()

    of_target()
    expect(ana.get_by_role("link", name="Release")).to_have_count(0)
    ana.get_by_role("link", name="Hold").first.click()
    reason, length = ana.get_by_label("Reason"), ana.get_by_label("Keep it for")
    assert [one.get_attribute("required") is not None for one in (reason, length)] == [True, True]
    length.fill("30d")
    reason.fill("the audit office asked for it")
    ana.locator("main form button").click()
    job = to_the_end(ana, deployment)
    assert (job.kind, job.request["keep_for"], job.requested_by) == ("hold", "P30D", "ana")
    of_target()
    expect(ana.get_by_text("held until")).to_have_count(1)
    expect(ana.locator("main")).not_to_contain_text("the audit office")
    ana.get_by_role("link", name="Release").click()
    ana.get_by_label("Reason").fill("the audit is over")
    ana.locator("main form button").click()
    assert to_the_end(ana, deployment).request["release"]
    of_target()
    expect(ana.get_by_text("held until")).to_have_count(0)


def test_a_report_is_made_and_shown_as_a_page(
    ana: Page, deployment: Deployment, console: LiveConsole
) -> None:
    ana.get_by_role("link", name="Report", exact=True).click()
    ana.get_by_role("link", name="Make a report now").click()
    ana.get_by_label("Send it by mail").uncheck()
    press(ana, "Make a report now")
    job = to_the_end(ana, deployment)
    assert (job.kind, job.result["mailed"]) == ("report", False)
    expect(ana.get_by_text("nobody asked for a mail")).to_be_visible()
    ana.goto(f"{console.url}/pgben/report/{job.result['report']}")
    expect(ana.locator(".report")).to_contain_text(str(TARGET))
    assert ana.goto(f"{console.url}/pgben/report/20200101T000000Z-abcdef").status == 404  # type: ignore[union-attr]


def test_whoever_logs_out_is_out(ana: Page, console: LiveConsole) -> None:
    session = next(one for one in ana.context.cookies() if one["name"] == "pgben_session")
    ana.goto(f"{console.url}/pgben/logout")
    ana.locator("main").get_by_role("button", name="Log out").click()
    assert ana.url == f"{console.url}/pgben/login"
    cookie = f"pgben_session={session['value']}"
    assert console.ask("/pgben", user=None, Cookie=cookie).status == 302
    # A link of another site must not log anybody out, nor choose a language that there is none.
    assert console.ask("/pgben/language/xx", user=None).status == 404
    assert console.ask("/pgben/nights/2026-99-99").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/pgben/backups",
        "/pgben/backups?target=postgres/other",
        "/pgben/do/restore?target=%00",
        f"/pgben/do/restore?target={TARGET}&backup=../x",
        "/pgben/do/restore_all?point=zz",
        "/pgben/do/acknowledge?target=postgres/pgben",
        "/pgben/do/verify?target=postgres/pgben&backup=zz",
        "/pgben/do/undo",
        "/pgben/do/cancel?job=",
    ],
)
def test_a_wrong_address_is_answered_with_a_sentence(console: LiveConsole, path: str) -> None:
    answer = console.ask(path)
    assert answer.status == 400
    assert 'role="alert"' in answer.text
    assert "Traceback" not in answer.text


def test_a_job_that_waits_is_cancelled(ana: Page, deployment: Deployment) -> None:
    with holding(deployment.work.database, [target_lock("write", str(TARGET), shared=False)]):
        ana.goto(f"{ana.url.partition('/pgben')[0]}/pgben/do/backup?target={TARGET}")
        press(ana, "Back up now")
        job = job_on(ana, deployment)
        eventually(
            lambda: deployment.work.ledger.job(job.id).state == "waiting",
            seconds=30,
            what="it waits",
        )
        ana.get_by_role("link", name="Cancel this job").click()
        press(ana, "Cancel this job")
        expect(ana.locator(".state[data-state=cancelled]")).to_be_visible(timeout=DONE)
    ended = deployment.work.ledger.job(job.id)
    assert ended.state == "cancelled"
    assert "'ana'" in str(ended.error)
    # Too late: the form says so.
    ana.goto(f"{ana.url.partition('/pgben')[0]}/pgben/do/cancel?job={job.id}")


def test_a_form_without_its_token_is_refused(
    ana: Page, deployment: Deployment, console: LiveConsole
) -> None:
    before = len(deployment.jobs())
    for form in ({}, {"_xsrf": "2|00000000|00|1"}):
        answer = ana.context.request.post(
            f"{console.url}/pgben/do/backup",
            form={"target": str(TARGET), **form},
            max_redirects=0,
        )
        assert answer.status == 403
    assert len(deployment.jobs()) == before


def test_a_double_click_and_a_second_tab_are_one_job(
    ana: Page, deployment: Deployment, console: LiveConsole
) -> None:
    before = len(deployment.jobs("verify"))
    second = ana.context.new_page()
    for page in (ana, second):
        page.goto(f"{console.url}/pgben/do/verify?target={TARGET}")
    # As fast as two clicks of one hand, then in the other tab.
    button = ana.get_by_role("button", name="Verify now")
    button.evaluate("one => { one.click(); one.click(); }")
    press(second, "Verify now")
    first_job, second_job = (to_the_end(page, deployment) for page in (ana, second))
    assert first_job.id == second_job.id
    assert len(deployment.jobs("verify")) == before + 1


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("pt-BR", "Podemos restaurar hoje?"),
        ("en-US", "Can we restore today?"),
    ],
)
@pytest.mark.parametrize("width", [1280, 360])
def test_pages_fit_speak_one_language_and_load_nothing_from_outside(
    browser: Browser, console: LiveConsole, language: str, question: str, width: int
) -> None:
    with visit(browser, language=language, width=width) as context:
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        log_in(page, console, "ana")
        expect(page.get_by_text(question)).to_be_visible()
        other = page.locator(".who a[lang]")
        for path in (
            "/pgben",
            "/pgben/jobs",
            "/pgben/history",
            f"/pgben/backups?target={TARGET}",
            "/pgben/points",
            "/pgben/report",
            "/pgben/do/restore_all?in_place=true",
            f"/pgben/do/restore?target={BUCKET}",
            "/pgben/nights/2026-11-30",
            page.url.partition("/pgben")[0] and "/pgben/do/verify",
        ):
            page.goto(f"{console.url}{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            text = page.locator("main").inner_text()
            strange = (
                "Podemos|Backup de|Restaurar" if language == "en-US" else r"\b(the|of|Verify)\b"
            )
            assert not re.search(strange, text), (path, text)
        assert problems == []
        assert {one.partition("/")[2].split("/")[1] for one in asked} == {
            console.url.partition("/")[2].split("/")[1]
        }
        other.click()
        expect(page.locator("html")).to_have_attribute(
            "lang", "en" if language == "pt-BR" else "pt-BR"
        )


def test_the_history_is_shown_and_downloaded_as_the_command_prints_it(
    ana: Page, console: LiveConsole, deployment: Deployment
) -> None:
    ana.goto(f"{console.url}/pgben/jobs")
    ana.get_by_role("link", name="History").click()
    newest = deployment.jobs("backup")[0]
    expect(ana.locator(f"main a[href='/pgben/jobs/{newest.id}']").first).to_be_visible()
    answer = console.ask("/pgben/history.csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert 'filename="backup-history.csv"' in answer.headers["Content-Disposition"]
    assert answer.text == deployment.pgben("history", "--csv").out


def test_pages_are_used_by_keyboard_alone(browser: Browser, console: LiveConsole) -> None:
    with visit(browser, language="en-US") as context:
        page = context.new_page()
        page.goto(f"{console.url}/pgben/login")
        # What is typed earlier goes nowhere.
        expect(page.locator("#name")).to_be_focused()
        page.keyboard.type("ana")
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORDS["ana"])
        page.keyboard.press("Enter")
        expect(page.locator("dl.answers")).to_be_visible(timeout=DONE)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Back up now")).to_be_focused()


def test_without_a_script_the_job_still_reaches_its_end(
    browser: Browser, console: LiveConsole, deployment: Deployment
) -> None:
    with visit(browser, language="en-US", javascript=False) as context:
        page = log_in(context.new_page(), console, "ana")
        page.goto(f"{console.url}/pgben/do/verify?target={TARGET}")
        press(page, "Verify now")
        assert to_the_end(page, deployment).kind == "verify"


def test_the_url_may_begin_with_a_prefix(browser: Browser, deployment: Deployment) -> None:
    behind = start_console(deployment, "--url_prefix=backups", "--xheaders=true")
    prefixed = LiveConsole(f"{behind.url}/backups", behind.process)
    with visit(browser, language="en-US") as context:
        page = log_in(context.new_page(), prefixed, "ana")
        assert page.url == f"{behind.url}/backups/pgben"
        page.get_by_role("link", name="Jobs", exact=True).click()
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        cookies = {one["name"]: one for one in context.cookies()}
        session = cookies["pgben_session"]
        assert (session["httpOnly"], session["sameSite"]) == (True, "Lax")
        assert session["path"] == "/backups/"
        assert session["expires"] > 0
    # A proxy that speaks TLS says so; then no cookie goes over a line in the clear.
    answer = prefixed.ask("/pgben/login", user=None, X_Forwarded_Proto="https")
    assert "Secure" in answer.headers["Set-Cookie"]
    assert prefixed.ask("/metrics").status == 200
    assert prefixed.ask("/healthcheck", user=None).text == "OK"
    behind.process.stop()


def test_without_a_worker_the_page_says_so_and_what_the_catalog_knows(
    browser: Browser, deployment: Deployment
) -> None:
    alone = start_console(
        deployment,
        changed={
            "PGBEN_REDIS_URL": f"{deployment.environment['PGBEN_REDIS_URL'].rpartition('/')[0]}/9"
        },
    )
    with visit(browser, language="en-US") as context:
        page = context.new_page()
        page.goto(f"{alone.url}/pgben")
        page.locator("#name").fill("ana")
        page.locator("#password").fill(PASSWORDS["ana"])
        page.locator("main button").click()
        expect(page.get_by_text("Nobody answers")).to_be_visible(timeout=DONE)
        expect(page.get_by_text("no maintenance worker has answered")).to_be_visible()
        expect(page.get_by_role("heading", name="Newest jobs")).to_be_visible()
    alone.process.stop()


#: A citizen's number, as keys, prefixes and reasons may hold one.
CITIZEN = "529.982.247-25"


def test_no_page_answer_or_log_has_a_secret_or_a_citizens_number(
    deployment: Deployment, console: LiveConsole
) -> None:
    """Asked for by a program that is not ours, whose own events would show what it sends."""
    settings, stack = deployment.work.settings, deployment.stack
    bucket = bucket_at(settings, BUCKET.name)
    key = f"{CITIZEN}/rg.jpg"
    bucket.put(key, iter([b"paper"]), size=5, headers={}, metadata={}, tags={})
    assert deployment.pgben("backup", str(BUCKET)).code == 0
    foreign = Celery(
        "foreign", broker=deployment.environment["PGBEN_REDIS_URL"], set_as_current=False
    )
    foreign.conf.update(
        result_backend=deployment.environment["PGBEN_REDIS_URL"].rpartition("/")[0] + "/1",
        task_send_sent_event=True,
    )
    target, newest = str(BUCKET), str(deployment.work.repository.backups(BUCKET)[-1])
    asked: list[tuple[str, dict[str, object]]] = [
        (names.RESTORE_BUCKET, {"target": target, "keys": [key], "into": "papers-of-one"}),
        (names.RESTORE_BUCKET, {"target": target, "prefix": f"{CITIZEN}/none"}),
        (names.RESTORE_BUCKET, {"target": target, "put_below": CITIZEN, "into": "papers-of-one"}),
        (names.RESTORE_BUCKET, {"target": target, "put_below": CITIZEN, "into": "papers-of-one"}),
        (names.ACKNOWLEDGE_RUN, {"target": target, "backup": newest, "reason": CITIZEN}),
        (names.ACKNOWLEDGE_RUN, {"target": CITIZEN, "reason": CITIZEN}),
        (names.BACKUP_BUCKET, {"target": target, CITIZEN: CITIZEN}),
    ]
    ids = []
    for name, request in asked:
        queue = canvases.entry_queue(KINDS[name])
        sent = foreign.send_task(name, args=(request,), queue=queue)
        ids.append(sent.id)
        with suppress(Exception):
            sent.get(timeout=60)
    for way in (
        {"args": [asked[1][1]], "kwargs": {}, "queue": "evil"},
        {**asked[1][1], "idempotency_key": "canary:1"},
        {"target": CITIZEN, "reason": CITIZEN},
    ):
        name = names.RESTORE_BUCKET
        answer = console.ask(f"/api/task/apply/{name}?timeout=60", way)
        assert answer.status in {200, 400}, answer.text
        assert CITIZEN not in answer.text
        ids.append(answer.json.get("task-id", "x"))
    (worker,) = console.ask("/api/workers?refresh=true").json
    jobs = deployment.jobs()
    columns = "&".join(f"columns[{n}][data]={one}" for n, one in enumerate(("args", "name")))
    pages = [
        *("/pgben", "/pgben/live", "/pgben/jobs", "/pgben/points", "/tasks", "/broker", "/metrics"),
        *("/pgben/history", "/pgben/history.csv"),
        f"/pgben/backups?target={target}",
        *(f"/pgben/jobs/{job.id}" for job in jobs),
        *(f"/task/{one}" for one in ids),
        *(f"/api/task/info/{one}" for one in ids),
        *(f"/api/task/result/{one}" for one in ids),
        *("/workers", f"/worker/{worker}", "/api/workers", f"/api/workers?workername={worker}"),
        *("/api/tasks", "/api/tasks?search=args:529"),
        f"/tasks/datatable?draw=1&start=0&length=500&search[value]=&order[0][column]=0&{columns}",
    ]
    password = settings.db_pass
    assert password is not None
    secrets = [
        password.get_secret_value(),
        stack.redis.password,
        stack.documents.secret_key,
        stack.s3.secret_key,
        deployment.catalog.password,
        *PASSWORDS.values(),
        CITIZEN,
    ]
    seen = {path: console.ask(path) for path in pages}
    failed = {path for path, answer in seen.items() if answer.status not in {200, 404}}
    assert failed == set(), console.log[-3000:]
    found = "".join(answer.text for answer in seen.values())
    assert str(jobs[0].id) in found
    assert "papers-of-one" in found
    texts = {path: answer.text for path, answer in seen.items()} | {"the log": console.log}
    hits = {path for path, text in texts.items() for one in secrets if one in text}
    assert hits == set()
    # Answers of workers, which the API hands on.
    for name in names.READ_ONLY_TASKS:
        answer = console.ask(f"/api/task/apply/{name}?timeout=60", {}, user="olga")
        assert answer.json["state"] == "SUCCESS", answer.text
        assert not [one for one in secrets if one in answer.text], name
