"""A chain in one process: what passes is tried again, what fails is undone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from pgben_tasks import runtime
from pgben_tasks.adapters.keys.signatures import Trust
from pgben_tasks.adapters.postgres.destination import PostgresDestination
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.cli.view.screen import Screen
from pgben_tasks.contracts import RestoreRequest
from pgben_tasks.direct import chain as in_process
from pgben_tasks.direct.place import spool_folder
from pgben_tasks.domain.job import RETRY_DELAYS, Job
from pgben_tasks.errors import (
    CommandFailed,
    ConfigurationError,
    DatabaseUnavailable,
    StoreUnavailable,
)
from pgben_tasks.operations.toolbox import NoProgress, Toolbox
from tests.support.installation import Installation


class Flaky(DirectoryObjectStore):
    """A store that is away for some reads of packs; ``below`` says of what else."""

    def __init__(self, root: Path, *, away: int, below: str = "packs/") -> None:
        super().__init__(root)
        self.away = away
        self.below = below

    def stream(self, key: str) -> Iterator[bytes]:
        self._fail(key)
        return super().stream(key)

    def get(self, key: str, *, limit: int) -> bytes:
        self._fail(key)
        return super().get(key, limit=limit)

    def _fail(self, key: str) -> None:
        if key.startswith(self.below) and self.away:
            self.away -= 1
            raise StoreUnavailable(f"'{key}' cannot be read now", "it is tried again")


class Dying(PostgresDestination):
    """A server that dies while a database is loaded."""

    died = False

    def load(self, *_args: object, **_options: object) -> None:
        self.died = True
        raise CommandFailed("'pg_restore' was killed by SIGKILL")

    def abandon(self, name: str, *, marker: str) -> bool:
        if self.died:
            raise DatabaseUnavailable("the server does not answer")
        return super().abandon(name, marker=marker)


def a_job(installation: Installation, into: str) -> Job:
    return in_process.new_job(
        "restore",
        RestoreRequest(target=str(installation.target), into=into),
        target=str(installation.target),
        node="here",
        now=installation.tools.clock.now(),
        context={"into": into},
    )


def flaky(installation: Installation, *, away: int, below: str = "packs/") -> Toolbox:
    store = Flaky(installation.repository, away=0, below=below)
    trust = Trust.load(installation.shop.keys.trusted_keys)
    repository = StoreRepository.open(store, signer=None, trust=trust)
    store.away = away
    return replace(installation.tools, repository=repository)


def shown(installation: Installation, tools: Toolbox) -> tuple[in_process.Chain, list[float], str]:
    """Run a restore as the command does; give the chain, its waits, and what was written."""
    waits: list[float] = []
    written = io.StringIO()
    screen = Screen(Console(file=written, width=200), wait=waits.append)
    job = a_job(installation, installation.free_name())
    row = in_process.MemoryRow(job, tools.clock)
    chain = in_process.Chain(row, tools, screen, on_change=screen.show_steps, retry=screen.retry)
    with screen.showing(chain):
        try:
            chain.run()
        except StoreUnavailable:
            written.write("raised")
    return chain, waits, written.getvalue()


def test_a_step_that_fails_in_passing_is_tried_again(installation: Installation) -> None:
    chain, waits, written = shown(installation, flaky(installation, away=1))
    assert chain.job.state == "succeeded"
    assert waits == [RETRY_DELAYS[0]]
    assert "trying again in 3 s" in written
    assert [step.name.rpartition(".")[2] for step in chain.steps] == [
        "select",
        "fetch",
        "load",
        "check",
        "finish",
    ]


def test_a_step_is_not_tried_for_ever(installation: Installation) -> None:
    chain, waits, written = shown(installation, flaky(installation, away=10_000))
    assert waits == list(RETRY_DELAYS)
    assert written.endswith("raised")
    assert [step.state for step in chain.steps] == ["done", "failed"]
    assert chain.job.state == "failed"
    assert (chain.job.error or {})["type"] == "StoreUnavailable"
    assert not chain.removed


def test_what_cannot_even_begin_is_told_at_once(installation: Installation) -> None:
    chain, waits, written = shown(installation, flaky(installation, away=10_000, below="backups/"))
    assert waits == []
    assert written.endswith("raised")
    assert [step.state for step in chain.steps] == ["failed"]


def test_the_first_error_is_told_also_when_the_copy_cannot_be_removed(
    installation: Installation,
) -> None:
    server = runtime.first_server(installation.shop.work.settings)
    destination = Dying(server)
    tools = replace(installation.tools, destinations={installation.target: destination})
    into = installation.free_name()
    row = in_process.MemoryRow(a_job(installation, into), tools.clock)
    chain = in_process.Chain(row, tools, NoProgress())
    with pytest.raises(CommandFailed, match="SIGKILL"):
        chain.run()
    assert isinstance(chain.left, DatabaseUnavailable)
    assert not chain.removed
    assert into in installation.databases()
    assert not chain.folder.exists()


def test_files_on_their_way_lie_apart_in_the_spool_and_private(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with spool_folder(spool, usual=tmp_path / "other") as folder:
        assert folder.parent == spool
        assert (spool.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o700, 0o700)


def test_only_the_usual_spool_gives_way_to_a_temporary_folder(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with spool_folder(blocked, usual=blocked) as folder:
        (folder / "sealed").write_bytes(b"pack")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    with (
        pytest.raises(ConfigurationError, match="is not a folder"),
        spool_folder(blocked, usual=tmp_path / "other"),
    ):
        pass
