"""Stacks of embedded servers run side by side and leave nothing behind, however they end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import redis

import pgben_tasks
from pgben_tasks.embedded.accounts import NOBODY
from pgben_tasks.embedded.child import Command, Supervisor, wait_until
from pgben_tasks.embedded.stack import EmbeddedStack
from pgben_tasks.errors import CommandFailed, ConfigurationError
from tests.support.deployment import command_lines

#: A parent that holds a stack until its standard input ends, without closing anything itself
#: unless it is interrupted.
HOLDER: Final = """
import json, os, sys
from pgben_tasks.embedded.stack import EmbeddedStack
with EmbeddedStack.start() as stack:
    if "fork" in sys.argv:
        if os.fork() == 0:
            stack.close()
            os._exit(0)
        os.wait()
        if os.fork() == 0:
            sys.stdin.read()
            os._exit(0)
    print(json.dumps({"folder": str(stack.folder), "url": stack.postgres.url()}), flush=True)
    sys.stdin.read()
    if "exit" in sys.argv:
        os._exit(0)
"""
#: Generous, because the machine may be busy; the usual is well under a second.
PATIENCE: Final = 30.0


@pytest.fixture
def base() -> Iterator[Path]:
    """Yield a folder that every user can use, however private pytest's own folders are."""
    folder = Path(tempfile.mkdtemp(prefix="pgben-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def surroundings(base: Path) -> dict[str, str]:
    packages = (Path(pgben_tasks.__file__).parents[1], Path(sysconfig.get_path("purelib")))
    inherited = ("PATH", "LD_LIBRARY_PATH")
    return {
        **{name: os.environ[name] for name in inherited if name in os.environ},
        "HOME": str(base),
        "TMPDIR": str(base),
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
    }


def holder(
    base: Path, *arguments: str, python: str = sys.executable, user: int | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-c", HOLDER, *arguments],
        env=surroundings(base),
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        # Ctrl-C reaches a whole process group; ours must not be in it.
        start_new_session=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


def announced(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return dict(json.loads(process.stdout.readline()))


def processes_of(base: Path) -> set[int]:
    """Every process whose arguments, environment or working folder name ``base``."""
    found = set()
    name = os.fsencode(base)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if name in words or name in os.fsencode((process / "cwd").readlink()):
                found.add(int(process.name))
    return found


def shared_memory_made_by(pids: set[int]) -> list[str]:
    lines = Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()[1:]
    return [line for line in lines if int(line.split()[4]) in pids]


def assert_gone(base: Path, pids: set[int]) -> None:
    assert wait_until(lambda: not any(base.iterdir()), seconds=PATIENCE), list(base.rglob("*"))
    assert wait_until(lambda: not processes_of(base), seconds=PATIENCE), processes_of(base)
    assert shared_memory_made_by(pids) == []


def interrupt(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)


def terminate(process: subprocess.Popen[str]) -> None:
    process.terminate()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()


def kill_the_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()


ENDS: Final = [interrupt, terminate, kill, kill_the_group, let_go]


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_when_the_parent_ends(
    base: Path, end: Callable[[subprocess.Popen[str]], None]
) -> None:
    with holder(base, "exit") as parent:
        url = announced(parent)["url"]
        with psycopg.connect(url) as session:
            pids = processes_of(base)
            assert len(pids) > 8
            assert shared_memory_made_by(pids)
            end(parent)
            parent.wait(PATIENCE)
            assert_gone(base, pids)
            with pytest.raises(psycopg.OperationalError):
                session.execute("SELECT 1")


@pytest.mark.parametrize("end", [interrupt, kill])
def test_nothing_is_left_when_the_parent_ends_while_servers_start(
    base: Path, end: Callable[[subprocess.Popen[str]], None]
) -> None:
    with holder(base) as parent:
        assert wait_until(lambda: any(base.iterdir()), seconds=PATIENCE)
        pids = processes_of(base)
        end(parent)
        parent.wait(PATIENCE)
        assert_gone(base, pids)


def test_forked_children_neither_end_the_stack_nor_keep_it(base: Path) -> None:
    with holder(base, "fork") as parent:
        stack = announced(parent)
        folder = Path(stack["folder"])
        with psycopg.connect(stack["url"]) as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
        assert folder.is_dir()
        parent.kill()
        parent.wait(PATIENCE)
        assert wait_until(lambda: not folder.exists(), seconds=PATIENCE)


def python_for(user: int, base: Path) -> str | None:
    """Find a Python that ``user`` can run and that can import our packages there."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/local/bin/{version}", f"/usr/bin/{version}"):
        with suppress(OSError):
            tried = subprocess.run(
                [python, "-c", "import pgben_tasks.embedded.stack"],
                env=surroundings(base),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                user=user,
                group=user,
                extra_groups=[],
                check=False,
                timeout=PATIENCE,
            )
            if tried.returncode == 0:
                return python
    return None


def test_an_ordinary_user_runs_a_stack_and_leaves_nothing(base: Path) -> None:
    python, user = sys.executable, None
    if os.geteuid() == 0:
        found = python_for(NOBODY, base)
        if found is None:
            pytest.skip("the user 'nobody' can run no Python with these packages")
        python, user = found, NOBODY
    with holder(base, python=python, user=user) as parent:
        url = announced(parent)["url"]
        with psycopg.connect(url) as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
        pids = processes_of(base)
        parent.kill()
        parent.wait(PATIENCE)
        assert_gone(base, pids)


def test_two_stacks_run_side_by_side_and_end_one_by_one(base: Path) -> None:
    with EmbeddedStack.start(base) as first:
        with EmbeddedStack.start(base) as second:
            assert first.folder != second.folder
            ports = {
                server.port
                for stack in (first, second)
                for server in (stack.postgres, stack.redis, stack.s3)
            }
            assert len(ports) == 6
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(**{**first.postgres.dsn(), "password": second.postgres.password})
        with first.postgres.connect() as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
    assert_gone(base, set())


def test_the_environment_leads_to_the_servers(base: Path) -> None:
    with EmbeddedStack.start(base) as stack:
        environment = stack.environment(database="postgres", node="node-1")
        with psycopg.connect(
            host=environment["PGBEN_DB_HOST"],
            port=int(environment["PGBEN_DB_PORT"]),
            user=environment["PGBEN_DB_USER"],
            password=environment["PGBEN_DB_PASS"],
            dbname=environment["PGBEN_DB_NAME"],
        ) as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
        with redis.Redis.from_url(environment["PGBEN_REDIS_URL"]) as client:
            assert client.ping()
        bucket = environment["PGBEN_REPOSITORY"].removeprefix("s3://")
        assert stack.s3.client().bucket_exists(bucket)
        for name in ("PGBEN_SPOOL_DIR", "PGBEN_BACKUP_DIR", "PGBEN_MINIO_BACKUP_DIR"):
            folder = Path(environment[name])
            assert folder.is_relative_to(stack.folder)
            assert folder.stat().st_mode & 0o777 == 0o700
        assert all(name.startswith("PGBEN_") for name in environment)
    assert_gone(base, set())


def test_closing_twice_is_no_error(base: Path) -> None:
    stack = EmbeddedStack.start(base)
    stack.close()
    stack.close()
    assert_gone(base, set())


def test_a_killed_supervisor_takes_its_servers_along(base: Path) -> None:
    with EmbeddedStack.start(base) as stack:
        pids = processes_of(base)
        # A server's helper may have ended since it was listed.
        lines = command_lines()
        (supervisor,) = (pid for pid in pids if "supervisor.py" in lines.get(str(pid), ""))
        os.kill(supervisor, signal.SIGKILL)
        assert wait_until(lambda: not processes_of(base), seconds=PATIENCE)
        with pytest.raises(CommandFailed, match="supervisor"):
            stack.redis.restart()
    assert_gone(base, pids)


def test_a_stubborn_program_and_its_children_are_killed(base: Path) -> None:
    script = "trap '' TERM; (trap '' TERM; sleep 600) & sleep 600"
    with Supervisor.start(base) as supervisor:
        environment = {"PATH": os.environ["PATH"], "HOME": str(base)}
        child = supervisor.spawn(
            "stubborn", Command(argv=("/bin/sh", "-c", script), environment=environment)
        )
        assert wait_until(lambda: len(processes_of(base)) >= 4, seconds=PATIENCE)
        child.stop(seconds=0.2)
        assert child.status == -signal.SIGKILL
        assert wait_until(lambda: len(processes_of(base)) == 1, seconds=PATIENCE)
    assert_gone(base, set())


def test_a_program_that_fails_is_reported_with_its_last_words(base: Path) -> None:
    with Supervisor.start(base) as supervisor:
        command = Command(argv=("/bin/sh", "-c", "echo no such thing; exit 3"), environment={})
        with pytest.raises(CommandFailed, match="'probe' ended with status 3: no such thing"):
            supervisor.run("probe", command)


def test_a_program_that_does_not_exist_is_reported(base: Path) -> None:
    with Supervisor.start(base) as supervisor, pytest.raises(CommandFailed, match="No such file"):
        supervisor.spawn("missing", Command(argv=(str(base / "missing"),), environment={}))


def test_a_base_that_does_not_exist_is_refused(base: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot keep their files"):
        EmbeddedStack.start(base / "missing")
