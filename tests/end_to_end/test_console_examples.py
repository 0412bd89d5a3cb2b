"""The examples of docs/tasks.md that speak HTTP, run as they stand against a live console."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from pgben_tasks.adapters.catalog.locks import holding, target_lock
from tests.support import snippets
from tests.support.console import PASSWORDS, LiveConsole, start_console
from tests.support.deployment import DATABASE, TARGET, Deployment, command_lines, eventually
from tests.support.needs import needs
from tests.support.npm import installed_package

#: The compiler, which takes the types away: Node does so by itself from 22.18 on.
TYPESCRIPT: Final = (
    "5.9.3",
    "jl1vZzPDinLr9eUt3J/t7V6FgNEw9QjvBPdysz9KfQDD41fQrC2Y4vKQdiaUpFT4bXlb1RHhLpp8wtm6M5TgSw==",
)
COMPILE: Final = """
const [compiler, source, target] = process.argv.slice(1);
const typescript = require(compiler);
const options = { module: "esnext", target: "es2022", strict: true };
const text = require("fs").readFileSync(source, "utf8");
const asked = { compilerOptions: options, reportDiagnostics: true };
const made = typescript.transpileModule(text, asked);
if (made.diagnostics.length) throw new Error(made.diagnostics[0].messageText);
require("fs").writeFileSync(target, made.outputText);
"""


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with Deployment.build() as built:
        built.start("all", name="worker")
        assert built.pgben("backup", DATABASE).code == 0
        yield built


@pytest.fixture(scope="module")
def console(deployment: Deployment) -> LiveConsole:
    return start_console(deployment)


def run(console: LiveConsole, *command: str, folder: Path, user: str = "ana") -> tuple[str, str]:
    """Run an example; return what it wrote. No list of processes shows the password meanwhile."""
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "CONSOLE": console.url,
        "CONSOLE_USER": user,
        "CONSOLE_PASSWORD": PASSWORDS[user],
    }
    with subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        shown: list[str] = []

        def ended() -> bool:
            shown.extend(command_lines().values())
            return process.poll() is not None

        eventually(ended, seconds=80, what="the example ends")
        out, err = process.communicate(timeout=10)
    assert PASSWORDS[user] not in "\n".join(shown)
    return out, err


@needs("curl")
def test_the_example_with_curl_restores(
    deployment: Deployment, console: LiveConsole, tmp_path: Path
) -> None:
    (example,) = snippets.restores("sh")
    out, err = run(console, "sh", "-c", example, folder=tmp_path)
    assert out.strip() in deployment.databases() - {DATABASE}, err
    (job,) = [one for one in deployment.jobs("restore") if one.result["database"] == out.strip()]
    assert job.requested_by == "ana", "whatever the request says"


@needs("curl")
def test_the_example_with_curl_fails_for_whoever_may_only_watch(
    deployment: Deployment, console: LiveConsole, tmp_path: Path
) -> None:
    before = deployment.databases()
    (example,) = snippets.restores("sh")
    out, err = run(console, "sh", "-c", example, folder=tmp_path, user="olga")
    assert (out, "403" in err) == ("", True)
    assert deployment.databases() == before


@needs("npm", "node", "tar")
def test_the_example_in_typescript_restores(
    deployment: Deployment, console: LiveConsole, tmp_path: Path
) -> None:
    compiler = installed_package("typescript", *TYPESCRIPT) / "package" / "lib" / "typescript.js"
    (example,) = snippets.restores("typescript")
    (tmp_path / "restore.mts").write_text(example, encoding="utf-8")
    subprocess.run(
        ["node", "-e", COMPILE, str(compiler), "restore.mts", "restore.mjs"],
        cwd=tmp_path,
        check=True,
        timeout=120,
    )
    out, err = run(console, "node", "restore.mjs", folder=tmp_path)
    assert out.strip() in deployment.databases() - {DATABASE}, err


def test_a_service_sees_how_far_it_is_then_the_end_and_what_is_wrong(
    deployment: Deployment, console: LiveConsole
) -> None:
    name = "pgben.backup.postgres"
    asked = console.ask(f"/api/task/async-apply/{name}", {"target": f"postgres/{DATABASE}"}).json
    seen: list[dict[str, object]] = []

    def ended() -> bool:
        seen.append(console.ask(f"/api/task/result/{asked['task-id']}", user="olga").json)
        return seen[-1]["state"] in {"SUCCESS", "FAILURE"}

    eventually(ended, seconds=60, what="it ends")
    progress = [one["progress"] for one in seen if one["state"] == "PROGRESS"]
    assert progress
    job = deployment.jobs("backup")[0]
    assert {one["job"] for one in progress} == {str(job.id)}  # type: ignore[index]  # JSON
    assert seen[-1]["result"]["result"]["state"] == "verified"  # type: ignore[index]  # JSON

    whole = console.ask(
        "/api/task/apply/pgben.restore.postgres",
        {"target": f"postgres/{DATABASE}", "into": DATABASE, "timeout": 60},
    ).json
    assert (whole["state"], whole["error"]["code"]) == ("FAILURE", "RequestMistaken")
    assert whole["error"]["sentence"]
    assert "traceback" not in whole


def failures(console: LiveConsole) -> float:
    """Return how many failed tasks Flower has counted."""
    lines = console.ask("/metrics", user="olga").text.splitlines()
    counted = [one for one in lines if one.startswith("flower_events_total{")]
    return sum(float(one.rpartition(" ")[2]) for one in counted if '"task-failed"' in one)


def test_a_failed_job_counts_once_and_whoever_cancels_is_no_worker(
    deployment: Deployment, console: LiveConsole
) -> None:
    before = failures(console)
    path = "/api/task/apply/pgben.restore.postgres?timeout=60"
    failed = console.ask(path, {"target": f"postgres/{DATABASE}", "into": DATABASE}).json
    assert failed["state"] == "FAILURE"
    eventually(lambda: failures(console) > before, seconds=20, what="it is counted")
    row = f"/api/task/info/{failed['task-id']}"
    eventually(lambda: console.ask(row).json["state"] == "FAILURE", seconds=20, what="it is red")
    assert failures(console) == before + 1
    with holding(deployment.work.database, [target_lock("write", str(TARGET), shared=False)]):
        path = "/api/task/async-apply/pgben.backup.postgres"
        asked = console.ask(path, {"target": str(TARGET)}).json
        eventually(
            lambda: deployment.jobs("backup")[0].state == "waiting", seconds=30, what="it waits"
        )
        assert deployment.pgben("cancel", str(deployment.jobs("backup")[0].id)).code == 0
    row = f"/api/task/info/{asked['task-id']}"
    eventually(lambda: console.ask(row).json["state"] == "FAILURE", seconds=20, what="it is red")
    listed = console.ask("/workers?json=1").json["data"]
    assert [one["status"] for one in listed] == [True], "no worker that is none"


def test_a_key_that_has_a_job_answers_with_that_job(
    deployment: Deployment, console: LiveConsole
) -> None:
    body = {"target": f"postgres/{DATABASE}", "idempotency_key": "one-key-of-a-service"}
    path = "/api/task/apply/pgben.verify.run?timeout=60"
    first, second = console.ask(path, body).json, console.ask(path, body).json
    assert first["state"] == second["state"] == "SUCCESS"
    assert first["result"]["job"] == second["result"]["job"]
    assert (
        len([one for one in deployment.jobs("verify") if one.key == body["idempotency_key"]]) == 1
    )


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "the body is no JSON"),
        (b"{", "the body is no JSON"),
        (b"[]", "the body is no JSON object"),
        (b"null", "the body is no JSON object"),
        (b'{"args": 1}', "`args` is no list"),
        (b'{"kwargs": {"target": "postgres/pgben", "queue": "x"}}', "`queue`"),
        (b'{"target": "postgres/pgben", "timeout": "soon"}', "`timeout`"),
        (b'{"target": "postgres/pgben", "timeout": NaN}', "`timeout`"),
        (b"{}", "`target`"),
        (b'{"target": "bucket/papers"}', "is not for this target"),
        (b"\xff", "the body is no JSON"),
        (b"[" * 100_000, "the body is no JSON"),
        (b'{"target": "\\ud800"}', "malformed"),
    ],
)
def test_a_wrong_body_is_answered_with_a_sentence(
    console: LiveConsole, deployment: Deployment, raw: bytes, says: str
) -> None:
    before = len(deployment.jobs())
    for way in ("apply", "async-apply"):
        answer = console.ask(f"/api/task/{way}/pgben.backup.postgres", raw=raw)
        assert answer.status == 400
        assert says in answer.json["error"]["sentence"]
        assert answer.json["error"]["hint"]
    assert len(deployment.jobs()) == before


@pytest.mark.parametrize(
    "name", ["pgben.maintenance.tick", "pgben.backup.postgres.dump", "celery.ping", "x/y", "%2e%2e"]
)
def test_a_task_that_is_not_public_is_not_started(console: LiveConsole, name: str) -> None:
    answer = console.ask(f"/api/task/async-apply/{name}", {})
    assert (answer.status, answer.json["error"]["code"]) == (404, "RequestRefused")


def test_a_broker_that_is_away_is_said(deployment: Deployment) -> None:
    gone = start_console(deployment, changed={"PGBEN_REDIS_URL": "redis://:x@127.0.0.1:1/0"})
    answer = gone.ask("/api/task/async-apply/pgben.backup.postgres", {"target": "postgres/pgben"})
    assert (answer.status, answer.json["error"]["code"]) == (503, "TransientError")
    assert gone.ask("/api/task/result/x").status == 503
    assert gone.ask("/healthcheck", user=None).text == "OK"
    gone.process.stop()


def test_without_users_it_watches_only_and_only_on_this_machine(deployment: Deployment) -> None:
    open_to_all = start_console(deployment, users=False)
    assert open_to_all.ask("/pgben/jobs", user=None).status == 200
    assert open_to_all.ask("/metrics", user=None).status == 200
    path = "/api/task/async-apply/pgben.backup.postgres"
    for sent in (path, "/pgben/do/backup"):
        assert open_to_all.ask(sent, {"target": str(TARGET)}, user=None).status == 403
    # A name server can point any name at this machine.
    assert open_to_all.ask("/pgben/jobs", user=None, Host="evil.example").status == 403
    open_to_all.process.stop()


def test_users_of_flowers_own_file_may_watch(deployment: Deployment) -> None:
    file = deployment.stack.folder / "flower_login.py"
    file.write_text("basic_auth = ['olga:olga looks on']\n", encoding="utf-8")
    old = start_console(deployment, f"--conf={file}", users=False)
    assert old.ask("/pgben/jobs", user=None).status == 302
    assert old.ask("/pgben/jobs", user="olga").status == 200
    assert old.ask("/pgben/jobs", user="olga", password="wrong").status == 401
    path = "/api/task/async-apply/pgben.backup.postgres"
    assert old.ask(path, {"target": str(TARGET)}, user="olga").status == 403
    old.process.stop()


@pytest.mark.parametrize(
    ("flags", "environment", "says"),
    [
        (["--address=0.0.0.0"], {}, "no login is set up, and '0.0.0.0' can be reached by others"),
        (["--address="], {}, "no login is set up"),
        (["--prot=1"], {}, "did you mean `--port`"),
        (["--auth=.*"], {}, "the option 'auth' has no place here"),
        (["--persistent"], {}, "the option 'persistent' has no place here"),
        (["--port=x"], {}, "an option of Flower is wrong"),
        (["--port=99999"], {}, "'99999' is no port"),
        (["--loglevel", "DEBUG"], {}, "flags are written like"),
        (["--certfile=/nonexistent", "--keyfile=/nonexistent"], {}, "cannot be listened on"),
        (["--conf=/nonexistent"], {}, "is not there"),
        (["--loglevel=LOUD"], {}, "is no level of a log"),
        ([], {"PGBEN_CONSOLE_USERS_FILE": "/nonexistent"}, "file of the console's users"),
        ([], {"PGBEN_REDIS_URL": "http://x"}, "PGBEN_REDIS_URL is not the URL"),
        (["--port=1"], {"FLOWER_PORT": "x"}, "an option of Flower is wrong"),
    ],
)
def test_what_it_cannot_be_started_with_is_said_in_a_sentence(
    deployment: Deployment, flags: list[str], environment: dict[str, str], says: str
) -> None:
    with pytest.raises(AssertionError) as failed:
        start_console(deployment, *flags, users=False, changed=environment)
    assert f"error: {says}" in str(failed.value) or says in str(failed.value)
    assert "Traceback" not in str(failed.value)
    assert "HINT" in str(failed.value)


def test_while_workers_are_silent_pages_are_read_and_no_cancellation_comes_later(
    deployment: Deployment, console: LiveConsole
) -> None:
    worker = deployment.processes[0]
    with holding(deployment.work.database, [target_lock("write", str(TARGET), shared=False)]):
        path = "/api/task/async-apply/pgben.backup.postgres"
        console.ask(path, {"target": str(TARGET)})
        eventually(
            lambda: deployment.jobs("backup")[0].state == "waiting", seconds=30, what="it waits"
        )
        job = deployment.jobs("backup")[0]
        worker.send(signal.SIGSTOP)
        try:
            answers: list[int] = []
            asked = [
                threading.Thread(target=lambda: answers.append(console.ask("/pgben/points").status))
                for _ in range(12)
            ]
            for one in asked:
                one.start()
            assert console.ask("/pgben/jobs").status == 200
            assert answers == [], "who only reads does not wait for those who ask workers"
            cancelled = console.ask(
                "/pgben/do/cancel",
                raw=f"_xsrf=abcdef01&job={job.id}".encode(),
                Content_Type="application/x-www-form-urlencoded",
                Cookie="_xsrf=abcdef01",
            )
            assert cancelled.status == 503
            for one in asked:
                one.join(timeout=60)
            assert answers == [503] * 12
        finally:
            worker.send(signal.SIGCONT)
        answered = console.ask("/api/task/apply/pgben.catalog.status?timeout=60", {})
        assert answered.json["state"] == "SUCCESS"
        # Whoever was told that it did not work may have decided otherwise since.
        assert deployment.work.ledger.job(job.id).state == "waiting"
        assert deployment.pgben("cancel", str(job.id)).code == 0
