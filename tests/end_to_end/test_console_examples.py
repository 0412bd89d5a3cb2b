"""The examples of docs/tasks.md that speak HTTP, run as they stand against a live console."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support import snippets
from tests.support.console import PASSWORDS, LiveConsole, start_console
from tests.support.deployment import DATABASE, Deployment, command_lines, eventually
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
