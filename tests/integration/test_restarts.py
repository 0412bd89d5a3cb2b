"""Processes of `pgben up`: started again when they end, given up when they keep ending."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from pgben_tasks.cli.demo import environment, up
from pgben_tasks.cli.demo.restarts import PAUSES, STEADY, Processes, pause_before
from pgben_tasks.embedded.child import Child, Command, Supervisor, wait_until


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor.start() as running:
        yield running


def child(supervisor: Supervisor, script: str) -> Child:
    return supervisor.spawn("example", Command(argv=("/bin/sh", "-c", script), environment={}))


def test_the_first_start_of_a_row_is_at_once_and_the_row_has_an_end() -> None:
    assert [pause_before(starts) for starts in range(len(PAUSES) + 1)] == [*PAUSES, None]
    assert PAUSES[0] == 0
    assert list(PAUSES) == sorted(PAUSES)


def test_a_killed_process_is_started_again_and_that_is_said(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    running = child(supervisor, "echo begun; sleep 600")
    processes = Processes({"beat": running})
    processes.look()
    assert capsys.readouterr().err == ""

    first = running.pid
    running.kill()
    processes.look()
    assert capsys.readouterr().err == "beat was killed by SIGKILL; it is started again\n"
    assert running.alive
    assert running.pid != first
    assert wait_until(lambda: running.log.read_text() == "begun\nbegun\n", seconds=10)
    assert processes.given_up == []


def test_a_process_that_ends_at_once_each_time_is_given_up_with_its_log_and_others_go_on(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = child(supervisor, "exit 3")
    other = supervisor.spawn("other", Command(argv=("/bin/sleep", "600"), environment={}))
    processes = Processes({"beat": ending, "Redis": other}, pauses=(0, 0))
    assert wait_until(lambda: not ending.alive and look(processes), seconds=10)

    said = capsys.readouterr().err.splitlines()
    assert said == [
        "beat ended with status 3; it is started again",
        "beat ended with status 3; it is started again",
        "error: beat ended with status 3 again and again, and is given up; the others go on",
        f"HINT: its log: {ending.log}",
    ]
    assert processes.given_up == ["beat"]
    other.send(signal.SIGTERM)
    assert wait_until(lambda: not other.alive, seconds=10)
    processes.look()
    assert other.alive


def look(processes: Processes) -> bool:
    processes.look()
    return bool(processes.given_up)


def test_a_process_that_ran_for_long_begins_a_new_row(supervisor: Supervisor) -> None:
    now = 0.0
    running = child(supervisor, "sleep 600")
    processes = Processes({"beat": running}, pauses=(0,), clock=lambda: now)
    for _ in range(3):
        now += STEADY
        running.kill()
        processes.look()
        assert running.alive
    running.kill()
    processes.look()
    assert processes.given_up == ["beat"]


def test_a_pause_is_waited_for(supervisor: Supervisor) -> None:
    now = 0.0
    running = child(supervisor, "sleep 600")
    processes = Processes({"beat": running}, pauses=(5,), clock=lambda: now)
    running.kill()
    for moment, alive in ((0.0, False), (4.9, False), (5.0, True)):
        now = moment
        processes.look()
        assert running.alive is alive


def test_a_program_that_is_gone_is_given_up_like_one_that_ends(
    supervisor: Supervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    program.chmod(0o755)
    running = supervisor.spawn("example", Command(argv=(str(program),), environment={}))
    assert wait_until(lambda: not running.alive, seconds=10)
    program.unlink()
    processes = Processes({"beat": running}, pauses=(0,))
    processes.look()
    assert processes.given_up == ["beat"]
    assert "cannot be started (an embedded server cannot be handled" in capsys.readouterr().err


class Looked(Processes):
    """Starts nothing again, and requests the end of `pgben up` after the first look."""

    def __init__(self, children: Mapping[str, Child]) -> None:
        super().__init__(children, pauses=())

    def look(self) -> None:
        super().look()
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(("script", "code"), [("exit 3", 1), ("sleep 600", 0)])
def test_every_process_of_it_is_watched_and_its_exit_code_says_that_one_was_given_up(
    supervisor: Supervisor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
    code: int,
) -> None:
    children = [child(supervisor, script) for _ in range(7)]
    servers = [SimpleNamespace(child=one) for one in children[:4]]
    stack = SimpleNamespace(
        **dict(zip(("postgres", "redis", "documents", "s3"), servers, strict=True))
    )
    started = dict(zip(("the worker", "beat", "the console"), children[4:], strict=True))
    monkeypatch.setattr(environment, "start_servers", lambda: nullcontext(stack))
    for name in ("fill_database", "fill_bucket", "await_worker"):
        monkeypatch.setattr(environment, name, lambda *_: None)
    monkeypatch.setattr(environment, "install", lambda *_, **__: (None, {}))
    monkeypatch.setattr(up, "_start_processes", lambda *_: (started, ""))
    for name in ("_await_console", "_write_settings", "_addresses"):
        monkeypatch.setattr(up, name, lambda *_: None)
    monkeypatch.setattr(up, "_show", lambda *_, **__: None)
    monkeypatch.setattr(up, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(up, "Processes", Looked)
    if code:
        assert wait_until(lambda: not any(one.alive for one in children), seconds=10)
    assert up.up(1, as_json=True) == code
    said = capsys.readouterr().err
    assert said.count("is given up") == (len(children) if code else 0), said
