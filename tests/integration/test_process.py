"""Claims about children: they never outlive us, and no failure of theirs is missed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from pgben_tasks.adapters.process import Completed, run
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.errors import CommandFailed, DatabaseUnavailable, FenceLost

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
MINUTE = timedelta(minutes=1)


def _shell(script: str, **options: object) -> Completed:
    arguments: dict[str, object] = {
        "env": ENVIRONMENT,
        "cwd": Path("/"),
        "timeout": MINUTE,
        **options,
    }
    return run(["/bin/sh", "-c", script], **arguments)  # type: ignore[arg-type]


def _dead(pid: int) -> bool:
    """Return whether a process is gone or only waits to be collected by its (new) parent."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def _pids(folder: Path, count: int) -> list[int]:
    def written() -> list[str]:
        return [path.read_text() for path in sorted(folder.glob("*.pid"))]

    assert wait_until(
        lambda: len([text for text in written() if text.endswith("\n")]) == count, seconds=20
    )
    return [int(text) for text in written()]


def _assert_all_die(folder: Path, count: int) -> None:
    """Expect every process to be gone a moment later; nobody waits for a grandchild."""
    pids = _pids(folder, count)
    assert wait_until(lambda: all(_dead(pid) for pid in pids), seconds=5)


#: A leader, a child that ignores the polite signal, and that child's child.
FAMILY = """
echo $$ > leader.pid
( trap '' TERM; sh -c 'echo $$ > grandchild.pid; exec sleep 600' & wait ) &
wait
"""


def test_a_child_that_ends_well_gives_its_output_and_last_words() -> None:
    lines: list[str] = []
    done = _shell("echo data; echo one >&2; echo two >&2", on_line=lines.append, stdout="capture")
    assert done == Completed(
        program="sh", returncode=0, stderr_tail=("one", "two"), stdout=b"data\n"
    )
    assert lines == ["one", "two"]


def test_any_status_but_zero_is_a_failure() -> None:
    with pytest.raises(CommandFailed, match="'sh' ended with status 3: it broke"):
        _shell("echo it broke >&2; exit 3")


def test_a_killed_child_is_a_failure() -> None:
    with pytest.raises(CommandFailed, match="killed by SIGKILL"):
        _shell("kill -9 $$")


def test_a_program_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(CommandFailed, match="cannot start /nowhere/pg_dump"):
        run(["/nowhere/pg_dump"], env=ENVIRONMENT, cwd=Path("/"), timeout=MINUTE)


def test_the_caller_may_put_a_failure_into_better_words() -> None:
    with pytest.raises(DatabaseUnavailable, match="gone"):
        _shell("exit 1", explain=lambda _: DatabaseUnavailable("the server is gone"))


def test_a_lost_exit_status_is_a_failure_and_not_a_zero() -> None:
    script = textwrap.dedent(
        """
        import signal, sys
        from datetime import timedelta
        from pathlib import Path
        from pgben_tasks.adapters.process import run
        from pgben_tasks.errors import CommandFailed
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            run(["/bin/sh", "-c", "exit 1"], env={}, cwd=Path("/"), timeout=timedelta(seconds=30))
        except CommandFailed as exc:
            print(exc.sentence)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert "was lost" in done.stdout


def test_the_deadline_kills_the_group_with_grandchildren(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="did not end within"):
        _shell(FAMILY, cwd=tmp_path, timeout=timedelta(seconds=1))
    _assert_all_die(tmp_path, 2)


def test_a_lost_fence_stops_the_child_and_its_group(tmp_path: Path) -> None:
    def check() -> None:
        if len(list(tmp_path.glob("*.pid"))) == 2:
            raise FenceLost("another attempt owns the job")

    with pytest.raises(FenceLost):
        _shell(FAMILY, cwd=tmp_path, check=check)
    _assert_all_die(tmp_path, 2)


def test_what_a_finished_child_left_running_is_killed(tmp_path: Path) -> None:
    _shell("sleep 600 & echo $! > left.pid", cwd=tmp_path)
    _assert_all_die(tmp_path, 1)


def test_a_callback_that_raises_stops_the_child(tmp_path: Path) -> None:
    def on_line(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="hello"):
        _shell("echo $$ > leader.pid; echo hello >&2; sleep 600", cwd=tmp_path, on_line=on_line)
    _assert_all_die(tmp_path, 1)


def test_a_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from datetime import timedelta
        from pathlib import Path
        from pgben_tasks.adapters.process import run
        run(["/bin/sh", "-c", "echo $$ > leader.pid; exec sleep 600"],
            env={"PATH": "/usr/bin:/bin"}, cwd=Path(sys.argv[1]), timeout=timedelta(minutes=5))
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        (child,) = _pids(tmp_path, 1)
        assert not _dead(child)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(timeout=20)
    died = wait_until(lambda: _dead(child), seconds=20)
    if not died:
        os.kill(child, signal.SIGKILL)
    assert died


def test_a_child_whose_parent_is_already_gone_does_not_start(tmp_path: Path) -> None:
    wrapper = Path(sys.modules[run.__module__].__file__ or "").with_name("process_exec.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", wrapper, "1", "/bin/sh", "-c", "echo ran > ran"],
        cwd=tmp_path,
        timeout=30,
        check=False,
    )
    assert done.returncode == 127
    assert not (tmp_path / "ran").exists()


def test_a_child_gets_exactly_the_environment_it_is_given() -> None:
    done = run(
        ["/usr/bin/env"],
        env={"LC_ALL": "C", "PGPASSWORD": "x"},
        cwd=Path("/"),
        timeout=MINUTE,
        stdout="capture",
    )
    assert sorted(done.stdout.decode().split()) == ["LC_ALL=C", "PGPASSWORD=x"]


def test_signals_that_python_ignores_are_normal_again_in_the_child() -> None:
    done = _shell("grep SigIgn /proc/self/status", stdout="capture")
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))


def test_a_password_in_the_environment_never_shows_in_the_last_words() -> None:
    secret = "Senha-Muito-Secreta"
    lines: list[str] = []
    with pytest.raises(CommandFailed) as failed:
        _shell(
            'echo "cannot connect with $PGPASSWORD" >&2; exit 1',
            env={**ENVIRONMENT, "PGPASSWORD": secret},
            on_line=lines.append,
        )
    assert secret not in str(failed.value)
    assert lines == ["cannot connect with ***"]


def test_a_flood_of_output_neither_blocks_nor_fills_memory() -> None:
    done = _shell("i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done")
    assert len(done.stderr_tail) == 200
    assert done.stderr_tail[-1] == "line 19999"


def test_output_may_be_joined_and_then_comes_in_its_order() -> None:
    done = _shell("for i in $(seq 1 90); do echo $i; echo e$i >&2; done", stdout="join")
    assert list(done.stderr_tail) == [f"{e}{i}" for i in range(1, 91) for e in ("", "e")]
    assert done.stdout == b""


def test_who_writes_without_end_is_stopped_at_the_deadline() -> None:
    with pytest.raises(CommandFailed, match="did not end within"):
        _shell("yes", stdout="join", timeout=timedelta(seconds=1))


def test_the_rest_of_an_endless_line_is_left_out() -> None:
    lines: list[str] = []
    _shell("printf '%0200000d' 7; echo; echo last", stdout="join", on_line=lines.append)
    assert lines == ["0" * 2000, "last"]


def test_a_child_in_a_thread_of_its_own_lives_as_long_as_it_needs() -> None:
    """The parent-death signal follows the starting thread, which waits in ``run``."""
    results: list[Completed] = []
    thread = threading.Thread(target=lambda: results.append(_shell("sleep 0.5; echo ok >&2")))
    thread.start()
    thread.join(timeout=30)
    assert [done.stderr_tail for done in results] == [("ok",)]
