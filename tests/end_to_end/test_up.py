"""`pgben up`: usable from a second terminal, and gone without a trace, however it ends."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.embedded.child import wait_until
from tests.support.deployment import ROOT, command_lines, left

pytestmark = pytest.mark.unmeasured

#: The machine's own disk may be fuller than an installation's should be.
ROOMY = {"PGBEN_DISK_CRITICAL": "0.999", "PGBEN_LANGUAGE": "en"}


def started(folder: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start it, and give the process with what it says to machines once everything is up."""
    running = subprocess.Popen(
        [sys.executable, "-m", "pgben_tasks.cli.main", "up", "--size", "3", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    said = ""
    while not said.endswith("\n}\n"):
        line = running.stdout.readline()
        assert line, running.communicate(timeout=60)[1]
        said += line
    return running, json.loads(said)


def in_a_second_terminal(about: dict[str, Any], command: str) -> Any:
    """Read the file of settings as a shell does, and run a command of pgben."""
    done = subprocess.run(
        ["/bin/sh", "-c", f". '{about['settings_file']}' && exec '{sys.executable}' -m {command}"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **ROOMY},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def console_answers(about: dict[str, Any], login: str) -> int:
    address = about["servers"]["Console"]["address"]
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    request = urllib.request.Request(address, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code


@pytest.mark.timeout(180)
def test_an_installation_for_trying_out_works_and_leaves_nothing(reachable: Path) -> None:
    running, about = started(reachable)
    file = Path(about["settings_file"])
    assert file.stat().st_mode & 0o777 == 0o600
    assert (file.parent / "console-users").stat().st_mode & 0o777 == 0o600

    code, document, said = in_a_second_terminal(about, "pgben_tasks.cli.main backup pgben --json")
    assert code == 0, said
    assert document["jobs"][0]["result"]["state"] == "verified"
    command = "pgben_tasks.cli.main backup bucket/pgben-documents --json"
    code, document, said = in_a_second_terminal(about, command)
    assert code == 0, said
    assert document["jobs"][0]["result"]["state"] == "verified"
    assert document["jobs"][0]["result"]["objects"] > 300
    code, document, said = in_a_second_terminal(about, "pgben_tasks.cli.main status --json")
    assert code in {0, 4}, said
    assert [one["within_rpo"] for one in document["targets"]] == [True, True]
    assert len(document["workers"]) == 4
    code, document, said = in_a_second_terminal(about, "pgben_tasks.cli.main doctor --json")
    assert code == 0, [one for one in document["checks"] if one["status"] == "error"]
    assert document["counts"]["ok"] > 15

    console = about["servers"]["Console"]
    assert console_answers(about, f"{console['user']}:{console['password']}") == 200
    assert console_answers(about, f"{console['user']}:wrong") == 401
    lines = "\n".join(command_lines().values())
    shown = [name for name, one in about["servers"].items() if one["password"] in lines]
    assert shown == []

    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert "everything vanishes" in err
    assert wait_until(lambda: left(reachable) == [], seconds=20), left(reachable)


@pytest.mark.timeout(120)
def test_nothing_is_left_when_it_is_killed(reachable: Path) -> None:
    running, _ = started(reachable)
    running.kill()
    running.communicate(timeout=60)
    assert running.returncode == -signal.SIGKILL
    assert wait_until(lambda: left(reachable) == [], seconds=30), left(reachable)


@pytest.mark.timeout(240)
def test_what_is_killed_comes_back_and_the_lines_for_a_second_terminal_work_as_pasted(
    reachable: Path, tmp_path: Path
) -> None:
    folder = reachable / "it's here"
    folder.mkdir()
    folder.chmod(0o777)
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as output, err.open("w") as complaints:
        running = subprocess.Popen(
            [sys.executable, "-m", "pgben_tasks.cli.main", "up", "--size", "3"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
            cwd=folder,
            stdout=output,
            stderr=complaints,
            start_new_session=True,
        )
    try:
        wait_until(
            lambda: "everything vanishes" in err.read_text() or running.poll() is not None,
            seconds=120,
        )
        assert "everything vanishes" in err.read_text()
        lines = [line for line in out.read_text().splitlines() if line.startswith("    ")]
        pasted("sh", lines)

        for name in ("Redis", "the worker"):
            os.kill(main_process(folder, name), signal.SIGKILL)
            said = f"{name} was killed by SIGKILL; it is started again\n"
            assert wait_until(lambda: said in err.read_text(), seconds=30), err.read_text()  # noqa: B023
        pasted("bash", lines)
        assert "given up" not in err.read_text()
    finally:
        running.terminate()
        running.wait(timeout=60)
    assert running.returncode == 0
    assert wait_until(lambda: left(folder) == [], seconds=30), left(folder)


def pasted(shell: str, lines: list[str]) -> None:
    """Paste lines into a shell that knows nothing of this checkout; the first failure ends it."""
    done = subprocess.run(
        [shell],
        input="\n".join(["set -e", *lines, ""]),
        env={"PATH": "/usr/bin:/bin", "HOME": "/", **ROOMY},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # The last line is `pgben status`, which is yellow where the machine's own disk is full.
    assert done.returncode in {0, 4}, done.stderr
    assert "recovery point of everything" in done.stdout


def main_process(folder: Path, name: str) -> int:
    """Return the process that the supervisor of ``folder`` started for one part."""
    sign = {"Redis": "redis-server", "the worker": "--hostname=all@"}[name]
    lines = command_lines()
    (supervisor,) = [
        one for one, line in lines.items() if "supervisor.py" in line and str(folder) in line
    ]
    below = Path("/proc", supervisor, "task", supervisor, "children").read_text().split()
    (process,) = [one for one in below if sign in lines[one]]
    return int(process)
