"""Commands of a site around a swap: what they get, what stops a swap, what is told of them."""

from __future__ import annotations

import secrets
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import sql
from structlog.testing import capture_logs

from pgben_tasks import names
from pgben_tasks.adapters.hooks import SwapHooks
from pgben_tasks.adapters.postgres.swap import PostgresSwap
from pgben_tasks.contracts import REQUESTS
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.job import Job
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import (
    CommandFailed,
    ConfigurationError,
    FenceLost,
    PermanentError,
    RestoreRefused,
    TransientError,
)
from pgben_tasks.operations import hooks
from pgben_tasks.operations.toolbox import NoProgress, Run
from pgben_tasks.ports import Moment
from pgben_tasks.runtime import swap_hooks
from pgben_tasks.settings import Settings
from tests.support.workshop import Workshop

CANARY = "c4n4ry-h7Gq"
JOB = uuid4()
SWAP = names.RESTORE_POSTGRES_SWAP


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a shell script and names it."""

    def write(script: str, *, mode: int = 0o755, interpreter: str = "/bin/sh") -> str:
        path = tmp_path / f"program-{secrets.token_hex(4)}"
        path.write_text(f"#!{interpreter}\n{script}\n", encoding="utf-8")
        path.chmod(mode)
        return str(path)

    return write


def ran(words: Sequence[str], *databases: str, **options: Any) -> list[str]:
    """Run a command as the one before a swap of databases; return what it said."""
    lines: list[str] = []
    check: Callable[[], None] = options.pop("check", lambda: None)
    made = SwapHooks(before=tuple(words), timezone="America/Fortaleza", **options)
    made.run(
        "before", job=JOB, databases=databases or ("pgben",), check=check, on_line=lines.append
    )
    return lines


# What a command gets


def test_a_command_gets_a_small_environment_and_nothing_of_the_workers_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PGBEN_DB_PASS", "PGPASSWORD", "LD_PRELOAD_NOT", "HOME"):
        monkeypatch.setenv(name, CANARY)
    # One value has a line break, so the end of each is a zero here.
    said = "\n".join(ran(["/bin/sh", "-c", "tr '\\0' '~' < /proc/self/environ"], "pgben", "folha"))
    found = dict(one.split("=", 1) for one in said.split("~") if one)
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "America/Fortaleza",
        "PGBEN_JOB": str(JOB),
        "PGBEN_MOMENT": "before",
        "PGBEN_DATABASES": "pgben\nfolha",
    }
    assert CANARY not in said


def test_a_command_reads_nothing_works_at_the_root_and_what_it_says_anywhere_is_heard() -> None:
    assert ran(["/bin/sh", "-c", "cat; pwd; echo trouble >&2"]) == ["/", "trouble"]


def test_no_shell_reads_a_command(tmp_path: Path) -> None:
    loaded = Settings.load({"PGBEN_BEFORE_SWAP": f"/bin/echo '$HOME  x' >{tmp_path}/no; false"})
    assert loaded.before_swap is not None
    assert ran(loaded.before_swap.words) == [f"$HOME  x >{tmp_path}/no; false"]
    assert list(tmp_path.iterdir()) == []


# How it fails


@pytest.mark.parametrize("mode", [None, 0o644, stat.S_IFDIR])
def test_a_program_that_cannot_be_started_is_one_sentence(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "pause"
    if mode == stat.S_IFDIR:
        path.mkdir()
    elif mode is not None:
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(mode)
    with pytest.raises(ConfigurationError) as caught:
        ran([str(path)])
    assert caught.value.sentence == (
        f"PGBEN_BEFORE_SWAP names '{path}', which is no program that this user may run"
    )
    assert "chmod 755" in caught.value.hint
    after = SwapHooks(before=("/bin/true",), after=(str(path),), timezone="UTC")
    with pytest.raises(ConfigurationError, match="PGBEN_AFTER_SWAP names"):
        after.check()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo one; echo 'the queue is full'; exit 3", "ended with status 3: the queue is full"),
        ("exit 4", "ended with status 4 without a word"),
        ("kill -9 $$", "was killed by SIGKILL without a word"),
        (
            f"echo 'password={CANARY}'; exit 5",
            "ended with status 5: its last line may hold a secret and is not shown",
        ),
        (r"printf 'red \033[31m alert\n'; exit 6", "ended with status 6: red [31m alert"),
    ],
)
def test_a_failure_says_the_status_and_the_last_line_unless_that_looks_like_a_secret(
    script: str, said: str
) -> None:
    with pytest.raises(CommandFailed) as caught:
        ran(["/bin/sh", "-c", script])
    assert caught.value.sentence == f"'sh' {said}"


def test_a_script_whose_interpreter_is_missing_is_a_failure(program: Callable[..., str]) -> None:
    with pytest.raises(CommandFailed, match="status 127: cannot start"):
        ran([program("true", interpreter="/nowhere/sh")])


def test_a_command_that_takes_too_long_ends_with_all_that_it_began(tmp_path: Path) -> None:
    script = f"echo begun; sleep 600 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(CommandFailed, match="did not end within 0:00:01 and was stopped"):
        ran(["/bin/sh", "-c", script], timeout=timedelta(seconds=1))
    pid = (tmp_path / "pid").read_text("ascii").strip()

    def gone() -> bool:
        with suppress(FileNotFoundError):
            return ") Z " in Path(f"/proc/{pid}/stat").read_text("ascii")
        return True

    assert wait_until(gone, seconds=5)


def test_a_command_ends_when_its_step_is_taken_away() -> None:
    def taken() -> None:
        raise FenceLost("another attempt owns the job")

    with pytest.raises(FenceLost):
        ran(["/bin/sleep", "600"], check=taken)


def test_a_site_has_five_minutes_and_its_time_zone() -> None:
    made = swap_hooks(
        Settings.load({"PGBEN_AFTER_SWAP": "/opt/pgben/resume a", "PGBEN_TIMEZONE": "UTC"})
    )
    assert made == SwapHooks(
        after=("/opt/pgben/resume", "a"), timezone="UTC", timeout=timedelta(minutes=5)
    )
    assert (made.has("before"), made.has("after")) == (False, True)


# What is logged


@dataclass(frozen=True)
class Bench:
    """A workshop whose database differs from its backup, and the record of its two commands."""

    shop: Workshop
    record: Path

    def began(self) -> list[list[str]]:
        """Return moment, job, databases and arguments of every command that was begun."""
        if not self.record.exists():
            return []
        return [line.split("|") for line in self.record.read_text("utf-8").splitlines()]

    def fail(self, moment: Moment, code: int = 3) -> None:
        """Let the command of a moment fail from now on."""
        self.record.with_name(f"fail-{moment}").write_text(f"{code}", encoding="ascii")

    @property
    def live(self) -> str:
        """The protected database."""
        return self.shop.target.name

    def rows(self) -> int:
        """Count the rows of the live database: 300 in the backup, 100 since."""
        with self.shop.server.connect(self.live) as connection:
            ((count,),) = connection.execute("SELECT count(*) FROM pedido").fetchall()
        return int(count)

    def databases(self) -> set[str]:
        """Name the databases that belong to the live one."""
        with self.shop.server.connect() as connection:
            found = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{self.live}%",)
            ).fetchall()
        return {name for (name,) in found}

    def chain(self, *, tools: Any = None) -> in_process.Chain:
        """Ask for a restore in place."""
        request = {"target": str(self.shop.target), "swap": True, "confirm": self.live}
        job = in_process.new_job(
            "restore",
            REQUESTS["restore"].parse(request),
            target=str(self.shop.target),
            node=self.shop.tools.node,
            now=self.shop.tools.clock.now(),
            context={"into": f"{self.live}_copy"},
        )
        tools = tools or self.shop.tools
        row = in_process.MemoryRow(job, tools.clock)
        return in_process.Chain(row, tools, NoProgress())

    def undo(self, job: Job) -> Job:
        """Turn a swap back."""
        asked = {"target": str(self.shop.target), "job": str(job.id), "confirm": self.live}
        return self.shop.run("undo", asked)


SCRIPT = """
echo "$PGBEN_MOMENT|$PGBEN_JOB|$PGBEN_DATABASES|$*" >> {record}
echo "{said} password={canary}"
fail={folder}/fail-$PGBEN_MOMENT
if [ -f $fail ]; then echo 'the queue does not answer'; exit $(cat $fail); fi
"""


#: Counts the rows of the live database.
LOOK = """#!{python}
import os, psycopg

with psycopg.connect(**{dsn}) as one:
    ((rows,),) = one.execute("SELECT count(*) FROM pedido").fetchall()
with open({record}, "a") as file:
    told = [os.environ[f"PGBEN_{{name}}"] for name in ("MOMENT", "JOB", "DATABASES")]
    print(*told, rows, sep="|", file=file)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.start() as started:
        yield started


@pytest.fixture
def bench(server: EmbeddedPostgres, tmp_path: Path, program: Callable[..., str]) -> Iterator[Bench]:
    name = f"vivo_{secrets.token_hex(4)}"
    record = tmp_path / "record"
    script = program(
        SCRIPT.format(record=record, said="hello from", canary=CANARY, folder=tmp_path)
    )
    with server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with server.connect(name) as connection:
        connection.execute("CREATE TABLE pedido AS SELECT g AS id FROM generate_series(1, 300) g")
    settings = {
        "PGBEN_BEFORE_SWAP": f"{script} stop 'two words'",
        "PGBEN_AFTER_SWAP": f"{script} start",
    }
    with Workshop.open(tmp_path / "shop", server, name, settings=settings) as opened:
        address = opened.tools.swapping[opened.target]
        assert isinstance(address, PostgresSwap)
        quick = PostgresSwap(address._server, grace=timedelta(seconds=1))
        shop = replace(opened, tools=replace(opened.tools, swapping={opened.target: quick}))
        shop.backup()
        with server.connect(name) as connection:
            connection.execute("DELETE FROM pedido WHERE id > 100")
        made = Bench(shop, record)
        yield made
    for one in made.databases():
        with server.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(one)))


def test_what_a_command_prints_is_in_the_jobs_log_bounded_and_without_secrets(
    bench: Bench, program: Callable[..., str]
) -> None:
    noisy = program(
        f"for i in $(seq 1 90); do echo line $i; done; echo 'token: {CANARY}'; printf '%0900d' 7"
    )
    tools = replace(bench.shop.tools, hooks=SwapHooks(before=(noisy,), timezone="UTC"))
    chain = bench.chain()
    run = Run(
        job=chain.job,
        ledger=chain.row,
        progress=NoProgress(),
        folder=chain.folder,
        try_lock=chain.row.try_lock,
    )
    with capture_logs() as logs:
        hooks.before_swap(run, tools, ["pgben", "folha"])
    assert {one["job"] for one in logs} == {str(chain.job.id)}
    assert {one["moment"] for one in logs} == {"before"}
    assert [one["event"] for one in (logs[0], logs[-1])] == ["hook_began", "hook_ended"]
    assert logs[0]["databases"] == ["pgben", "folha"]
    said = [one["line"] for one in logs if one["event"] == "hook_said"]
    assert len(said) == 50
    assert said[0] == "line 43"
    assert (said[-2], len(said[-1])) == ("token: ••••", 500)
    assert CANARY not in repr(logs)


# Around a swap


def test_one_command_runs_before_a_swap_and_one_after_it_and_so_with_an_undo(
    bench: Bench,
) -> None:
    # Each looks at the live database itself.
    looking = bench.record.with_name("look")
    looking.write_text(
        LOOK.format(
            python=sys.executable,
            dsn=repr(bench.shop.server.dsn(bench.live)),
            record=repr(str(bench.record)),
        ),
        encoding="utf-8",
    )
    looking.chmod(0o755)
    words = (str(looking),)
    tools = replace(bench.shop.tools, hooks=SwapHooks(before=words, after=words, timezone="UTC"))
    looked = Bench(replace(bench.shop, tools=tools), bench.record)

    job = looked.chain().run()
    back = looked.undo(job)

    assert (job.result["state"], back.result["state"]) == ("swapped", "undone")
    assert "after_swap_failed" not in {**job.result, **back.result}
    assert looked.began() == [
        ["before", str(job.id), looked.live, "100"],
        ["after", str(job.id), looked.live, "300"],
        ["before", str(back.id), looked.live, "300"],
        ["after", str(back.id), looked.live, "100"],
    ]


def test_a_command_that_fails_before_keeps_the_database_and_removes_the_copy(
    bench: Bench,
) -> None:
    bench.fail("before")
    chain = bench.chain()

    with capture_logs() as logs, pytest.raises(PermanentError) as caught:
        chain.run()

    assert caught.value.sentence.startswith(
        "the command of PGBEN_BEFORE_SWAP failed, so nothing was replaced: 'program-"
    )
    assert caught.value.sentence.endswith("ended with status 3: the queue does not answer")
    assert "log of the restore worker" in caught.value.hint
    assert (bench.rows(), bench.databases()) == (100, {bench.live})
    assert chain.job.state == "failed"
    assert bench.shop.tools.swaps.swap_of_job(chain.job.id) is None
    assert [one[0] for one in bench.began()] == ["before"]
    assert bench.began()[0][3] == "stop two words"
    said = [one["line"] for one in logs if one["event"] == "hook_said"]
    assert said == ["hello from password=••••", "the queue does not answer"]
    assert [one["log_level"] for one in logs if one["event"] == "hook_failed"] == ["error"]


def test_a_command_that_fails_before_an_undo_leaves_the_restored_database(bench: Bench) -> None:
    job = bench.chain().run()
    bench.fail("before")
    with pytest.raises(CommandFailed, match="so nothing was replaced"):
        bench.undo(job)
    assert bench.rows() == 300


def test_a_command_that_fails_after_fails_no_job_and_is_told_in_its_result(bench: Bench) -> None:
    bench.fail("after", 9)

    job = bench.chain().run()
    back = bench.undo(job)

    for one in (job, back):
        assert one.state == "succeeded"
        said = one.result["after_swap_failed"]
        assert said.startswith("the command of PGBEN_AFTER_SWAP failed: 'program-")
        assert said.endswith("ended with status 9: the queue does not answer")
    assert [one[0] for one in bench.began()] == ["before", "after"] * 2


def test_a_command_that_is_gone_after_the_swap_is_told_as_well(bench: Bench) -> None:
    whole: Any = bench.shop.tools.hooks

    class Vanishing:
        """Both commands, of which one is removed while the databases are swapped."""

        def run(self, moment: Moment, **options: Any) -> None:
            chosen = whole if moment == "before" else replace(whole, after=("/nowhere/start",))
            chosen.run(moment, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(whole, name)

    job = bench.chain(tools=replace(bench.shop.tools, hooks=Vanishing())).run()
    assert job.state == "succeeded"
    assert "PGBEN_AFTER_SWAP names '/nowhere/start'" in job.result["after_swap_failed"]
    assert bench.rows() == 300


def test_a_command_that_cannot_be_started_refuses_a_restore_before_any_work(bench: Bench) -> None:
    missing = SwapHooks(before=("/bin/true",), after=("/nowhere/start",), timezone="UTC")
    chain = bench.chain(tools=replace(bench.shop.tools, hooks=missing))
    with pytest.raises(ConfigurationError, match="PGBEN_AFTER_SWAP names '/nowhere/start'"):
        chain.step()
    # Also one that goes missing while the copy is made.
    chain = bench.chain().until("swap")
    chain.tools = replace(bench.shop.tools, hooks=missing)
    with pytest.raises(ConfigurationError, match="PGBEN_AFTER_SWAP names '/nowhere/start'"):
        chain.step()
    assert bench.rows() == 100
    assert bench.began() == []


def test_a_restore_beside_runs_no_command(bench: Bench) -> None:
    bench.shop.restore(f"{bench.live}_beside")
    assert bench.began() == []


def test_an_installation_without_commands_swaps_as_ever(bench: Bench) -> None:
    none = replace(bench.shop.tools, hooks=SwapHooks(timezone="UTC"))
    with capture_logs() as logs:
        job = bench.chain(tools=none).run()
    assert "after_swap_failed" not in job.result
    assert not [one for one in logs if one["event"].startswith("hook_")]


# Steps that run again


class Crash(BaseException):
    """The worker died here."""


class Dying:
    """The commands of a bench, until the process dies instead of running one."""

    def __init__(self, hooks: Any, moment: Moment) -> None:
        """Die at a moment."""
        self._hooks, self._moment = hooks, moment

    def run(self, moment: Moment, **options: Any) -> None:
        """Run a command, or die."""
        if moment == self._moment:
            raise Crash
        self._hooks.run(moment, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hooks, name)


def test_after_a_crash_between_swap_and_command_only_the_command_runs(bench: Bench) -> None:
    chain = bench.chain().until("swap")
    chain.tools = replace(bench.shop.tools, hooks=Dying(bench.shop.tools.hooks, "after"))
    with pytest.raises(Crash):
        chain.step()
    assert bench.rows() == 300
    assert [one[0] for one in bench.began()] == ["before"]

    chain.tools = bench.shop.tools
    job = chain.rest()

    assert job.result["state"] == "swapped"
    assert [one[0] for one in bench.began()] == ["before", "after"]


def test_an_undo_that_died_before_its_last_command_runs_only_that(bench: Bench) -> None:
    swapped = bench.chain().run()
    asked = {"target": str(bench.shop.target), "job": str(swapped.id), "confirm": bench.live}
    job = in_process.new_job(
        "undo",
        REQUESTS["undo"].parse(asked),
        target=str(bench.shop.target),
        node=bench.shop.tools.node,
        now=bench.shop.tools.clock.now(),
        context={},
    )
    dying = replace(bench.shop.tools, hooks=Dying(bench.shop.tools.hooks, "after"))
    chain = in_process.Chain(in_process.MemoryRow(job, bench.shop.tools.clock), dying, NoProgress())
    with pytest.raises(Crash):
        chain.step()
    assert bench.rows() == 100

    chain.tools = bench.shop.tools
    assert chain.rest().result["state"] == "undone"

    assert [one[0] for one in bench.began()] == ["before", "after"] * 2


def test_a_swap_that_did_not_happen_says_what_has_run_and_is_tried_with_both(
    bench: Bench,
) -> None:
    swapping = bench.shop.tools.swapping[bench.shop.target]

    class Held:
        """The real server, on which the exchange is held up once."""

        def exchange(self, *_swap: Any, **_options: Any) -> None:
            raise TransientError("somebody holds the database", "look who")

        def __getattr__(self, name: str) -> Any:
            return getattr(swapping, name)

    chain = bench.chain().until("swap")
    chain.tools = replace(bench.shop.tools, swapping={bench.shop.target: Held()})
    with pytest.raises(TransientError) as caught:
        chain.step()
    assert caught.value.hint == (
        "look who; the command of PGBEN_BEFORE_SWAP has run and that of PGBEN_AFTER_SWAP has not: "
        "start again what it stopped"
    )
    assert bench.rows() == 100

    chain.tools = bench.shop.tools
    chain.step(SWAP)

    assert bench.rows() == 300
    assert [one[0] for one in bench.began()] == ["before", "before", "after"]


def test_who_lost_the_job_runs_no_command(bench: Bench) -> None:
    chain = bench.chain().until("swap")

    class Lost(in_process.MemoryRow):
        """A job that somebody else owns by now."""

        def hold(self) -> None:
            raise FenceLost("another attempt owns the job")

    chain.row = Lost(chain.job, bench.shop.tools.clock)
    with pytest.raises(FenceLost):
        chain.step(SWAP)
    assert bench.began() == []
    assert bench.rows() == 100


def test_a_job_that_has_swapped_is_refused_and_runs_no_command_again(bench: Bench) -> None:
    chain = bench.chain()
    job = chain.run()
    with pytest.raises(RestoreRefused, match="has swapped"):
        chain.step(names.RESTORE_POSTGRES_SELECT)
    assert isinstance(job.id, UUID)
    assert len(bench.began()) == 2
