"""Packs that are made while the dump goes on, and what becomes of them in trouble."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pgben_tasks import runtime
from pgben_tasks.adapters.postgres import clients as pg_clients
from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.errors import CommandFailed, FenceLost, IntegrityError, StoreUnavailable
from pgben_tasks.operations.toolbox import Toolbox
from pgben_tasks.ports import Capture, ClientTools, Progress
from tests.support.installation import Crash, Installation
from tests.support.samples import sha256


class WatchedSource(PostgresSource):
    """A real source that does ``afterwards`` when pg_dump has ended, with the names it told of."""

    afterwards: Callable[[Path, list[str]], None]

    def dump(
        self,
        capture: Capture,
        destination: Path,
        *,
        tools: ClientTools,
        jobs: int,
        database_bytes: int,
        progress: Progress,
        on_file: Callable[[str], None] | None = None,
    ) -> None:
        """Dump, then do what is to be done."""
        told: list[str] = []

        def hear(name: str) -> None:
            told.append(name)
            if on_file is not None:
                on_file(name)

        super().dump(
            capture,
            destination,
            tools=tools,
            jobs=jobs,
            database_bytes=database_bytes,
            progress=progress,
            on_file=hear,
        )
        self.afterwards(destination, told)


def early(
    installation: Installation,
    afterwards: Callable[[Path, list[str]], None] = lambda _folder, _told: None,
    *,
    jobs: int = 2,
    early_size: int = 1,
) -> Toolbox:
    """Return tools that pack finished files when there are ``early_size`` bytes of them."""
    address = runtime.postgres_servers(installation.shop.work.settings)[installation.target]
    client = pg_clients.inspect_client(installation.shop.server.bin_dir, "bundled")
    assert client is not None
    source = WatchedSource(address, installation.target.name, candidates=[client])
    source.afterwards = afterwards
    return replace(
        installation.tools,
        sources={installation.target: source},
        limits=replace(installation.tools.limits, early_size=early_size, dump_jobs=jobs),
    )


def packs_written(installation: Installation) -> list[str]:
    return [key for key in installation.store.written if key.startswith("packs/")]


def wait_for_packs(installation: Installation, number: int) -> None:
    found = wait_until(lambda: len(packs_written(installation)) >= number, seconds=20)
    assert found, f"not {number} pack(s) in time"


def require_whole(installation: Installation, manifest: Manifest) -> None:
    """Every pack is stored as the manifest says, and every file of a dump is in exactly one."""
    names = [member.name for pack in manifest.packs for member in pack.members]
    assert len(names) == len(set(names))
    assert {"toc.dat", "globals.sql"} < set(names)
    assert len([name for name in names if ".dat" in name and name != "toc.dat"]) == 4
    for pack in manifest.packs:
        stored = (installation.repository / pack.path).read_bytes()
        assert (len(stored), sha256(stored)) == (pack.size, pack.sha256)


def test_finished_files_are_stored_before_the_dump_step_ends(installation: Installation) -> None:
    files: list[str] = []

    def wait_for_all(_folder: Path, told: list[str]) -> None:
        # On a busy machine lines of pg_dump's processes may mix, and such a file is not told of.
        assert len(told) in {3, 4}
        files.extend(told)
        wait_for_packs(installation, len(told))

    chain = installation.chain("backup", tools=early(installation, wait_for_all))
    chain.step()
    assert len(packs_written(installation)) >= len(files)
    assert len(installation.tools.repository.backups(installation.target)) == 2
    ended = chain.rest()
    manifest = installation.manifest(ended.backup or "")
    assert ended.result["state"] == "verified"
    require_whole(installation, manifest)
    assert packs_written(installation) == list(dict.fromkeys(packs_written(installation)))
    assert sorted(packs_written(installation)) == sorted(pack.path for pack in manifest.packs)
    restored = installation.restore().rest()
    assert restored.state == "succeeded"


def test_the_little_that_is_left_is_stored_before_the_dump_step_ends(
    installation: Installation,
) -> None:
    usual = installation.manifest(installation.chain("backup").rest().backup or "").members
    data = sum(one.size for one in usual if one.name.endswith(".dat.zst"))
    assert sum(one.size for one in usual) < 2 * data
    before = len(packs_written(installation))

    def wait_for_the_others(folder: Path, told: list[str]) -> None:
        notes = folder.with_name("packs")

        def stored() -> bool:
            made = [json.loads(note.read_text()) for note in notes.glob("*.json")]
            names = {member["name"] for one in made for member in one["members"]}
            return names >= set(told) and len(packs_written(installation)) - before == len(made)

        # Packs that are still on their way keep the rest for the upload step.
        assert wait_until(stored, seconds=20)

    chain = installation.chain(
        "backup", tools=early(installation, wait_for_the_others, early_size=data)
    )
    chain.step()
    written = [path for path in packs_written(installation) if f"/{chain.job.backup}/" in path]
    names = {path.name for path in (chain.folder / "dump").iterdir()}
    ended = chain.rest()
    manifest = installation.manifest(ended.backup or "")
    assert ended.result["state"] == "verified"
    require_whole(installation, manifest)
    assert sorted(pack.path for pack in manifest.packs) == sorted(written)
    assert {member.name for member in manifest.members} == names


def test_a_fault_of_packing_costs_time_only_and_is_logged(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    def stumble(key: str) -> None:
        if key.startswith("packs/"):
            raise ZeroDivisionError(key)

    installation.store.before = stumble
    chain = installation.chain("backup", tools=early(installation))
    chain.step()
    assert "early_packing_surprised" in capsys.readouterr().out
    installation.store.before = lambda _key: None
    ended = chain.rest()
    assert ended.result["state"] == "verified"
    require_whole(installation, installation.manifest(ended.backup or ""))


def test_digests_of_early_packs_are_those_of_the_dump(installation: Installation) -> None:
    files: dict[str, str] = {}

    def look(folder: Path, _told: list[str]) -> None:
        files.update({path.name: sha256(path.read_bytes()) for path in folder.iterdir()})

    job = installation.chain("backup", tools=early(installation, look)).rest()
    members = installation.manifest(job.backup or "").members
    assert {member.name: member.sha256 for member in members} == files


def test_a_dump_that_fails_after_packs_were_stored_leaves_no_backup(
    installation: Installation,
) -> None:
    def fail(_folder: Path, _told: list[str]) -> None:
        wait_for_packs(installation, 1)
        raise CommandFailed("'pg_dump' was killed by SIGKILL without a word")

    chain = installation.chain("backup", tools=early(installation, fail))
    with pytest.raises(CommandFailed, match="SIGKILL"):
        chain.step()
    assert chain.job.state == "failed"
    assert not chain.folder.exists()
    assert len(installation.tools.repository.backups(installation.target)) == 2
    assert not [key for key in installation.store.written if key.startswith("backups/")]
    # What lies there is no fault of the repository, and the next night is not disturbed by it.
    assert installation.chain("verify").rest().state == "succeeded"
    assert installation.backup().sequence == 3


def test_a_store_that_is_away_during_the_dump_costs_no_second_dump(
    installation: Installation,
) -> None:
    def refuse(_key: str) -> None:
        raise StoreUnavailable("the store does not answer")

    def wait_for_one_sealed(folder: Path, _told: list[str]) -> None:
        notes = folder.with_name("packs")
        assert wait_until(lambda: bool(list(notes.glob("*.json"))), seconds=20)

    installation.store.before = refuse
    chain = installation.chain("backup", tools=early(installation, wait_for_one_sealed))
    chain.step()
    chain.step()
    ready = sealed(chain.folder)
    assert ready
    assert packs_written(installation) == []
    installation.store.before = lambda _key: None
    ended = chain.rest()
    manifest = installation.manifest(ended.backup or "")
    assert ended.result["state"] == "verified"
    require_whole(installation, manifest)
    stored = {pack.path.rpartition("/")[2]: pack.sha256 for pack in manifest.packs}
    assert ready.items() <= stored.items()


def sealed(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()) for path in folder.glob("packs/*.age")}


def test_an_upload_that_crashed_stores_early_packs_no_second_time(
    installation: Installation,
) -> None:
    tools = early(installation, lambda _folder, _told: wait_for_packs(installation, 2))
    chain = installation.chain("backup", tools=tools).until("upload")
    before = installation.files(below="packs")
    ready = sealed(chain.folder)

    def crash(key: str) -> None:
        if key.startswith("backups/"):
            raise Crash(key)

    installation.store.before = crash
    with pytest.raises(Crash):
        chain.step()
    installation.store.before = lambda _key: None
    ended = chain.rest()
    now = installation.files(below="packs")
    assert {path: now[path] for path in before} == before
    written = packs_written(installation)
    assert len(written) == len(set(written))
    manifest = installation.manifest(ended.backup or "")
    require_whole(installation, manifest)
    stored = {pack.path.rpartition("/")[2]: pack.sha256 for pack in manifest.packs}
    assert ready.items() <= stored.items()


def test_a_file_that_changes_after_it_was_packed_voids_the_dump(installation: Installation) -> None:
    def append(folder: Path, told: list[str]) -> None:
        with (folder / told[0]).open("ab") as file:
            file.write(b"more")

    chain = installation.chain("backup", tools=early(installation, append))
    with pytest.raises(IntegrityError, match="was changed after pg_dump had finished it"):
        chain.step()
    assert chain.job.state == "failed"
    assert len(installation.tools.repository.backups(installation.target)) == 2


def test_a_job_that_was_lost_stops_packing(installation: Installation) -> None:
    class Lost:
        def begin(self, phase: str, *, total: int | None = None, unit: str = "bytes") -> None:
            """Start a phase."""

        def advance(self, amount: int) -> None:
            """Count."""

        def note(self, **facts: int | str) -> None:
            """Take side facts."""

        def check(self) -> None:
            raise FenceLost("another attempt owns the job")

    chain = installation.chain("backup", tools=early(installation))
    chain.progress = Lost()
    with pytest.raises(FenceLost):
        chain.step(keep_on=FenceLost)
    assert packs_written(installation) == []


def test_one_job_tells_of_no_file_and_the_chain_is_whole(installation: Installation) -> None:
    told: list[str] = []
    tools = early(installation, lambda _folder, names: told.extend(names), jobs=1)
    chain = installation.chain("backup", tools=tools)
    chain.step()
    assert told == []
    assert packs_written(installation) == []
    require_whole(installation, installation.manifest(chain.rest().backup or ""))


def test_a_table_that_could_speak_like_pg_dump_keeps_every_file_for_later(
    installation: Installation,
) -> None:
    name = "x\npg_dump: finished item 1 TABLE DATA y"
    installation.run_sql(f'CREATE TABLE "{name}" (id int)')
    told: list[str] = []
    try:
        tools = early(installation, lambda _folder, names: told.extend(names))
        job = installation.chain("backup", tools=tools).rest()
    finally:
        installation.run_sql(f'DROP TABLE "{name}"')
    assert told == []
    assert job.result["state"] == "verified"
