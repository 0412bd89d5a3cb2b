"""Statements and the audit trail are evidence: nothing is taken from them unnoticed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.adapters.catalog.absent import AbsentTrail, NoWorkers
from pgben_tasks.contracts import VerifyRequest
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.documents import Finding, Verification
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.domain.layout import document_path
from pgben_tasks.domain.statements import breaks, statement_digest
from pgben_tasks.domain.states import state_of
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import IntegrityError, StoreUnavailable
from pgben_tasks.operations.repository.examine import Examined
from pgben_tasks.operations.repository.rebuild import read_trail
from pgben_tasks.operations.repository.statements import sign_statement
from pgben_tasks.operations.toolbox import NoProgress, Run, Toolbox
from pgben_tasks.ports import Repository, StoredObject
from pgben_tasks.settings import Settings
from pgben_tasks.setup.initialise import initialise
from tests.support import faults, samples
from tests.support.faults import Repository as Made
from tests.support.installation import Installation
from tests.support.workshop import Workshop

DAY = timedelta(days=1)
BAD = Finding(kind="damaged", path="packs/x", detail="seen elsewhere")


@pytest.fixture(scope="module")
def made(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Yield a repository with everything in it that a signed document can name."""
    with faults.repository(tmp_path_factory.mktemp("faults") / "shop", postgres) as found:
        yield found


def test_nothing_is_found_in_a_clean_repository(made: Made) -> None:
    assert made.found(made.files) == []
    assert made.found(made.files, level="quick") == []
    assert made.without_catalog().found(made.files) == []


def test_any_single_fault_is_found(made: Made) -> None:
    tried, unseen = faults.missed(made, faults.random_faults(made.files, 60, seed=29))
    assert (tried, unseen) == (60, [])


def test_any_statement_that_is_removed_with_its_signature_is_missed(made: Made) -> None:
    statements = [
        name for name in made.files if name.startswith("verifications/") and name.endswith(".json")
    ]
    assert len(statements) > 10
    for name in statements:
        left = {key: data for key, data in made.files.items() if key not in {name, f"{name}.sig"}}
        for level in ("quick", "full"):
            assert made.found(left, level=level), (name, level)


def test_a_file_of_the_trail_that_is_removed_is_missed_by_a_quick_look(made: Made) -> None:
    trail = [name for name in made.files if name.startswith("audit/")]
    for name in trail:
        left = {key: data for key, data in made.files.items() if key != name}
        assert made.found(left, level="quick"), name


def test_a_file_of_the_trail_of_another_size_is_found_by_a_quick_look(made: Made) -> None:
    trail = [name for name in made.files if name.startswith("audit/")]
    for number, name in enumerate(trail):
        data = made.files[name]
        changed = (b"", data[:-1], data + b" ")[number % 3]
        found = made.found({**made.files, name: changed}, level="quick")
        assert [one.path for one in found] == [name], (name, len(changed))


def test_an_entry_of_the_trail_in_another_place_is_found_by_a_quick_look(made: Made) -> None:
    names = [one for one in made.files if one.startswith("audit/") and one.endswith(".json")]
    for name in (names[0], names[5], names[-1]):
        elsewhere = f"audit/2019/01/{name.rpartition('/')[2]}"
        copied = {
            **made.files,
            elsewhere: made.files[name],
            f"{elsewhere}.sig": made.files[f"{name}.sig"],
        }
        moved = {key: data for key, data in copied.items() if key not in {name, f"{name}.sig"}}
        of_copy = made.found(copied, level="quick")
        assert [(one.kind, one.path) for one in of_copy] == [("extra", elsewhere)]
        of_move = made.found(moved, level="quick")
        assert {(one.kind, one.path) for one in of_move} == {
            ("extra", elsewhere),
            ("missing", name),
        }
        assert made.without_catalog().found(copied, level="quick"), "one of the two is too many"


@pytest.mark.parametrize("left", ["nothing", "statements", "packs"])
def test_everything_of_a_target_that_settings_no_longer_name_is_missed(
    made: Made, left: str
) -> None:
    retired = replace(made, tools=replace(made.tools, protected=frozenset({_database(made)})))
    assert retired.found(made.files) == []
    assert retired.found(made.files, level="quick") == []
    kept = {"nothing": "-", "statements": "verifications/", "packs": "packs/"}[left]
    files = {
        name: data
        for name, data in made.files.items()
        if "/bucket/documentos/" not in name or name.startswith(kept)
    }
    for known in (retired, retired.without_catalog()):
        for level in ("quick", "full"):
            found = known.found(files, level=level)
            # Without a catalog nothing quick reads what the trail names.
            blind = known.record is None and level == "quick" and left != "statements"
            assert bool(found) is not blind, (level, found)


def test_a_retired_target_that_only_the_index_knows_is_missed(everything: Installation) -> None:
    work = everything.shop.work
    with work.database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO backup (repository, target, id, state, started_at) SELECT repository,"
            " 'postgres/antigo', id, state, started_at FROM backup LIMIT 1"
        )
    for level in ("quick", "full"):
        told = verify(everything, level)["findings"]
        assert [one["path"].split("/")[:3] for one in told] == [["backups", "postgres", "antigo"]]


def test_a_retired_target_that_retention_removed_is_not_missed(everything: Installation) -> None:
    repository = everything.tools.repository
    other = protect_another(everything)
    for manifest in everything.backups:
        sign_statement(run_of(everything), everything.tools, manifest, "prune", reasons=("old",))
        repository.remove_manifest(everything.target, manifest.backup_id)
    for path in list(repository.packs(everything.target)):
        repository.remove_pack(path)
    tools = replace(everything.tools, protected=frozenset({other}))
    for level in ("quick", "full"):
        result = verify(everything, level, tools)
        assert (result["findings"], result["findings_known"]) == ([], [])
        assert str(everything.target) in result["targets"]


def protect_another(installation: Installation) -> Target:
    """Store a backup of another database, which is a copy of the oldest one."""
    manifest, other = installation.backups[0], Target("postgres", "outra")
    for path in installation.pack_files(manifest):
        copy = installation.repository / f"packs/{other}" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    packs = tuple(
        pack.model_copy(update={"path": pack.path.replace(manifest.target, str(other))})
        for pack in manifest.packs
    )
    installation.tools.repository.commit(
        manifest.model_copy(update={"target": str(other), "packs": packs})
    )
    return other


def _database(made: Made) -> Target:
    return next(one for one in made.tools.protected if one.kind == "postgres")


def test_what_was_cut_off_last_is_known_to_the_catalog_only(made: Made) -> None:
    numbers = sorted(
        int(name.rpartition("/")[2].removesuffix(".json"))
        for name in made.files
        if name.startswith("audit/") and name.endswith(".json")
    )
    newest = f"/{numbers[-1]}.json"
    left = {key: data for key, data in made.files.items() if newest not in key}
    assert {one.kind for one in made.found(left)} >= {"missing"}
    assert made.found(left, level="quick")
    assert made.without_catalog().found(left) == []


# Told once, and healed


@pytest.fixture
def everything(installation: Installation) -> Installation:
    """Return the installation, whose verifications look at everything and enter what they find."""
    verify(installation)
    return installation


def verify(
    installation: Installation, level: str = "full", tools: Toolbox | None = None
) -> dict[str, Any]:
    """Verify everything and store the audit trail; return the result of the look."""
    request = VerifyRequest.parse({"level": level, "requested_by": "ana"})
    job = in_process.new_job(
        "verify", request, target=EVERYTHING, node="x", now=datetime.now(UTC), context={}
    )
    row = in_process.MemoryRow(job, installation.tools.clock)
    chain = in_process.Chain(row, tools or installation.tools, NoProgress())
    result: dict[str, Any] = chain.step().result
    with suppress(IntegrityError):
        chain.rest()
    installation.shop.work.trail.store_missing()
    return result


def statements(installation: Installation) -> list[Verification]:
    repository = installation.tools.repository
    return repository.verifications(installation.target, installation.backups[1].backup_id)


def trail_files(installation: Installation) -> list[Path]:
    return sorted(installation.repository.glob("audit/*/*/*.json"), key=lambda path: int(path.stem))


def store_is_away() -> None:
    raise StoreUnavailable("the store does not answer")


def remove(document: Path) -> None:
    document.unlink()
    document.with_name(f"{document.name}.sig").unlink()


def test_a_break_in_the_trail_is_told_once_and_hides_no_other(everything: Installation) -> None:
    assert verify(everything)["findings"] == []
    first, second, *_ = trail_files(everything)
    remove(second)
    told = verify(everything)["findings"]
    assert any("cannot be found" in one["detail"] for one in told)
    later = verify(everything)
    assert (later["findings"], later["findings_known"]) == ([], told)
    remove(first)
    assert verify(everything)["findings"]


def test_a_break_in_the_trail_is_told_by_the_job_that_was_interrupted_when_it_saw_it(
    everything: Installation,
) -> None:
    remove(trail_files(everything)[0])
    trail = everything.shop.work.trail
    asked = VerifyRequest.parse({"level": "full", "requested_by": "ana"})
    job = in_process.new_job(
        "verify", asked, target=EVERYTHING, node="x", now=datetime.now(UTC), context={}
    )
    away = Beside(everything.tools.repository, "packs", store_is_away)

    def chain(repository: Repository) -> in_process.Chain:
        tools = replace(everything.tools, repository=repository)
        return in_process.Chain(in_process.MemoryRow(job, tools.clock), tools, NoProgress())

    def entered() -> int:
        trail.store_missing()
        return sum(entry.action == "finding" for entry in trail.record().entries)

    with pytest.raises(StoreUnavailable):
        chain(away).step()
    assert entered() == 0, "it could still fail for another reason, and tell nothing"
    tried_again = chain(everything.tools.repository)
    told = tried_again.step().result
    assert told["findings_known"] == []
    assert any("cannot be found" in one["detail"] for one in told["findings"])
    with pytest.raises(IntegrityError, match="verification found"):
        tried_again.step()
    count = entered()
    assert count == told["findings_total"]
    # Its worker died before the ledger knew that it had failed.
    tried_again = chain(everything.tools.repository)
    assert tried_again.step().result["findings"] == told["findings"]
    with pytest.raises(IntegrityError, match="verification found"):
        tried_again.step()
    assert entered() == count
    assert verify(everything)["findings"] == []


def test_a_break_in_a_backups_statements_is_recorded_and_a_full_verification_heals_it(
    everything: Installation,
) -> None:
    backup = everything.backups[1]
    gone = next(one for one in statements(everything) if one.kind == "full")
    remove(everything.repository / f"verifications/{backup.target}/{backup.backup}/{gone.id}.json")
    told = verify(everything, "quick")["findings"]
    assert any("audit entry" in one["detail"] for one in told)
    assert everything.state(backup.backup) == "damaged"
    assert verify(everything)["findings"] == []
    assert everything.state(backup.backup) == "verified"
    assert verify(everything, "quick")["findings"] == []


@pytest.mark.parametrize("level", ["quick", "full"])
def test_a_statement_that_is_removed_with_its_entry_is_missed_by_a_look_at_its_target(
    everything: Installation, level: str
) -> None:
    verify(everything, "quick")
    newest = max(statements(everything), key=lambda one: one.number or 0)
    digest = statement_digest(newest)
    (entry,) = (
        one for one in everything.shop.work.trail.record().entries if one.statement == digest
    )
    for document in (document_path(newest), document_path(entry)):
        remove(everything.repository / document)
    with pytest.raises(IntegrityError, match=f"audit entry {entry.sequence}"):
        everything.shop.verify(level=level)


def test_repository_json_is_anchored_in_the_trail(everything: Installation) -> None:
    card = everything.repository / "repository.json"
    data = card.read_bytes()
    assert b'"created":"2' in data
    card.write_bytes(data.replace(b'"created":"2', b'"created":"1', 1))
    (told,) = verify(everything)["findings"]
    assert (told["kind"], told["path"]) == ("damaged", "repository.json")
    assert verify(everything)["findings"] == [told], "until it is as it was"
    card.write_bytes(data)
    assert verify(everything)["findings"] == []


def test_repository_json_is_anchored_when_it_is_made(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with Workshop.open(tmp_path / "shop", postgres, "postgres") as shop:
        entry, keys = shop.work.trail.record().rows
        assert (entry["action"], entry["target"]) == ("anchor", EVERYTHING)
        assert (keys["action"], keys["target"]) == ("keys", EVERYTHING)
        shop.work.trail.store_missing()
        card = shop.repository / "repository.json"
        card.write_bytes(card.read_bytes().replace(b'"created":"2', b'"created":"1', 1))
        shop.backup()
        for _ in range(2):
            with pytest.raises(IntegrityError, match=r"damaged 'repository\.json'"):
                shop.run("verify", {"target": None, "level": "full"})
        anchors = [row for row in shop.work.trail.record().rows if row["action"] == "anchor"]
        assert anchors == [{**entry, "stored": True}]


def test_public_keys_are_what_their_name_says_and_the_newest_are_there(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with Workshop.open(tmp_path / "shop", postgres, "postgres") as shop:
        shop.backup()
        (before,) = (shop.repository / "keys").iterdir()
        with shop.keys.file("recipients.txt").open("a", encoding="utf-8") as recipients:
            recipients.write(f"# new\n{samples.RECIPIENT}\n")
        initialise(
            Settings.load(shop.environment),
            keys_folder=shop.keys.folder,
            roles="single",
            now=datetime.now(UTC),
        )
        shop.work.trail.store_missing()
        assert verify_all(shop) == ([], [])
        # What was stored last has to be there; those of before may go, as when a key leaked.
        before.unlink()
        assert verify_all(shop) == ([], [])
        (stored,) = (shop.repository / "keys").iterdir()
        path = f"keys/{stored.name}"
        data = stored.read_bytes()
        stored.write_bytes(data.replace(b"backup", b"verify", 1))
        assert verify_all(shop) == ([("damaged", path)], [])
        stored.unlink()
        for _ in range(2):
            assert verify_all(shop) == ([("missing", path)], []), "until they are there"
        stored.write_bytes(data)
        assert verify_all(shop) == ([], [])


def test_public_keys_outlive_a_sweep_and_a_prune(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with Workshop.open(tmp_path / "shop", postgres, "postgres") as shop:
        shop.backup()
        (stored,) = (shop.repository / "keys").iterdir()
        os.utime(stored, (0, 0))
        shop.run("sweep", {"target": str(shop.target)})
        shop.prune()
        assert list((shop.repository / "keys").iterdir()) == [stored]


def verify_all(shop: Workshop) -> tuple[list[tuple[str, str]], list[str]]:
    """Return what a full verification of everything finds, and what it does not cover."""
    request = VerifyRequest.parse({"level": "full", "requested_by": "test"})
    job = in_process.new_job(
        "verify", request, target=EVERYTHING, node="test", now=datetime.now(UTC), context={}
    )
    row = in_process.MemoryRow(job, shop.tools.clock)
    result = in_process.Chain(row, shop.tools, NoProgress()).step().result
    found = [(one["kind"], one["path"]) for one in result["findings"]]
    return found, result["not_covered"]


def test_files_that_no_signed_document_names_are_listed_as_not_covered(
    everything: Installation,
) -> None:
    assert verify(everything)["not_covered"] == []
    backup = everything.backups[0]
    aside = f"packs/{backup.target}/20261101T050000Z-abcdef/1.tar.age"
    (everything.repository / aside).parent.mkdir(parents=True)
    (everything.repository / aside).write_bytes(b"of a capture that died")
    lone = f"verifications/{backup.target}/{backup.backup}/20261101T050000Z-abcdef.json.sig"
    (everything.repository / lone).write_bytes(b"{}")
    result = verify(everything)
    assert result["not_covered"] == [aside, lone]
    assert result["findings"] == []
    assert result["newest_known"] is True


def test_the_chain_is_checked_by_hand_as_the_format_describes_it(everything: Installation) -> None:
    verify(everything, "quick")
    page = (Path(__file__).parents[2] / "docs/format.md").read_text(encoding="utf-8")
    lines = page.partition("### The chain of statements")[2].split("\n\n")[2].splitlines()
    script = "\n".join(line.removeprefix("    ") for line in lines)
    backup = everything.backups[1]
    folder = everything.repository / f"verifications/{backup.target}/{backup.backup}"

    def by_hand() -> str:
        ran = subprocess.run(
            ["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=True
        )
        (folder / "digests").unlink()
        return ran.stdout + ran.stderr

    assert by_hand() == ""
    middle = sorted(statements(everything), key=lambda one: one.number or 0)[1]
    digest = statement_digest(middle)
    remove(folder / f"{middle.id}.json")
    assert by_hand() == f"gone: {digest}\n"


# Others work meanwhile


class Beside:
    """A repository that does something right before the first use of one of its functions."""

    def __init__(self, repository: Repository, name: str, meanwhile: Callable[[], object]) -> None:
        self._repository, self._name, self._meanwhile = repository, name, meanwhile
        self._done = False

    def __getattr__(self, name: str) -> Any:
        if name == self._name and not self._done:
            self._done = True
            self._meanwhile()
        return getattr(self._repository, name)


class HalfListed:
    """A repository whose first listing of audit entries, or reading of statements, misses one."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._seen: set[object] = set()

    def verifications(self, target: Target, backup: BackupId) -> list[Verification]:
        found = self._repository.verifications(target, backup)
        first = backup not in self._seen
        self._seen.add(backup)
        return [found[0], *found[2:]] if first else found

    def audit_files(self) -> dict[str, StoredObject]:
        found = self._repository.audit_files()
        first = "audit" not in self._seen
        self._seen.add("audit")
        return {path: one for path, one in found.items() if not (first and "/2.json" in path)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repository, name)


@pytest.mark.parametrize("level", ["quick", "full"])
@pytest.mark.parametrize("moment", ["manifest", "packs", "all_keys"])
def test_what_others_store_meanwhile_is_not_missed(
    everything: Installation, level: str, moment: str
) -> None:
    def meanwhile() -> None:
        verify(everything, "quick")
        everything.backup()
        everything.shop.work.trail.store_missing()

    beside = Beside(everything.tools.repository, moment, meanwhile)
    result = verify(everything, level, replace(everything.tools, repository=beside))
    assert (result["findings"], result["findings_known"]) == ([], [])
    assert {one.state for one in everything.shop.work.index.backups()} == {"verified"}
    assert verify(everything, level)["findings"] == []


@pytest.mark.parametrize("level", ["quick", "full"])
def test_what_a_listing_passed_over_is_looked_for_again(
    everything: Installation, level: str
) -> None:
    verify(everything, "quick")
    half = HalfListed(everything.tools.repository)
    result = verify(everything, level, replace(everything.tools, repository=half))
    assert result["findings"] == []
    assert verify(everything, level)["findings"] == []


def test_a_break_is_told_although_others_store_meanwhile(everything: Installation) -> None:
    backup = everything.backups[1]
    gone = next(one for one in statements(everything) if one.kind == "full")
    remove(everything.repository / f"verifications/{backup.target}/{backup.backup}/{gone.id}.json")
    repository = everything.tools.repository
    beside = Beside(repository, "packs", lambda: signed(everything))
    told = verify(everything, "quick", replace(everything.tools, repository=beside))["findings"]
    assert any("cannot be found" in one["detail"] for one in told)


# How the chain is written


def signed(
    installation: Installation, tools: Toolbox | None = None, *, findings: tuple[Finding, ...] = ()
) -> Verification:
    """Sign a statement about the newest backup."""
    looked = Examined(packs=1, read=1, opened=True, findings=findings)
    used = tools or installation.tools
    return sign_statement(
        run_of(installation), used, installation.backups[1], "full", looked=looked
    )


def run_of(installation: Installation) -> Run:
    """Return a verification that runs."""
    request = VerifyRequest.parse({"requested_by": "ana"})
    target, clock = str(installation.target), installation.tools.clock
    job = in_process.new_job(
        "verify", request, target=target, node="x", now=datetime.now(UTC), context={}
    )
    row = in_process.MemoryRow(job, clock)
    return Run(
        job=job,
        ledger=row,
        progress=NoProgress(),
        folder=installation.shop.folder,
        try_lock=row.try_lock,
    )


def test_a_backup_and_its_verifications_make_one_chain_that_the_trail_names(
    everything: Installation,
) -> None:
    found = statements(everything)
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    assert list(breaks(found)) == []
    named = {entry.statement for entry in everything.shop.work.trail.record().entries}
    assert {statement_digest(one) for one in found if one.kind == "full"} <= named


def test_statements_that_are_made_at_once_make_one_line(everything: Installation) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: signed(everything), range(8)))
    found = sorted(statements(everything), key=lambda one: one.number or 0)
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    assert list(breaks(found)) == []


def test_a_statement_that_is_made_without_a_catalog_is_taken_into_the_chain(
    everything: Installation,
) -> None:
    direct = replace(everything.tools, workers=NoWorkers(), trail=AbsentTrail())
    before = statements(everything)
    # Both saw the same head: one of them in direct mode, with a finding.
    aside = signed(everything, direct, findings=(BAD,))
    repository = everything.tools.repository
    manifest = everything.backups[1]
    own = aside.model_copy(update={"findings": (), "id": aside.id[:-6] + "ffffff", "kind": "quick"})
    repository.record(own)
    assert {one.number for one in (aside, own)} == {len(before) + 1}
    assert list(breaks(statements(everything))) == []
    assert state_of(manifest, statements(everything)).state == "damaged"
    merged = signed(everything)
    assert merged.number == len(before) + 2
    assert {merged.previous, *(merged.earlier or ())} >= {statement_digest(aside)}
    assert state_of(manifest, statements(everything)).state == "verified"


def test_an_older_worker_that_lives_keeps_statements_without_links(
    everything: Installation,
) -> None:
    workers = everything.shop.work.workers
    workers.register(["verify.older"])
    entries = len(everything.shop.work.trail.record().rows)
    alone = signed(everything)
    assert (alone.number, alone.previous, alone.earlier) == (None, None, None)
    assert len(everything.shop.work.trail.record().rows) == entries
    with everything.shop.work.database.transaction() as cursor:
        cursor.execute("TRUNCATE worker")
    joined = signed(everything)
    assert joined.earlier == (statement_digest(alone),)
    assert list(breaks(statements(everything))) == []


def test_a_crash_between_statement_and_entry_leaves_no_finding(everything: Installation) -> None:
    class Crashed(Exception):
        pass

    class Dying(AbsentTrail):
        @contextmanager
        def stating(self, target: Target) -> Iterator[Callable[[Verification, str], None]]:
            def enter(_statement: Verification, _who: str) -> None:
                raise Crashed

            with everything.shop.work.trail.stating(target):
                yield enter

    with pytest.raises(Crashed):
        signed(everything, replace(everything.tools, trail=Dying()))
    assert verify(everything)["findings"] == []
    assert list(breaks(statements(everything))) == []


# Ledger and trail


def test_a_job_that_ended_and_that_no_entry_speaks_of_is_found(everything: Installation) -> None:
    chain = everything.chain("backup")
    chain.rest()
    with everything.shop.work.database.transaction() as cursor:
        cursor.execute("UPDATE migration SET applied_at = applied_at - interval '1 day'")
    assert verify(everything)["findings"] == [], "it ended a moment ago"
    with everything.shop.work.database.transaction() as cursor:
        cursor.execute("UPDATE job SET ended_at = ended_at - interval '2 hours'")
    told = verify(everything)["findings"]
    assert [str(chain.job.id) in one["detail"] for one in told] == [True]
    assert "no audit entry says so" in told[0]["detail"]


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_the_tick_enters_the_end_of_a_job_whose_process_died_before_it_did(
    everything: Installation, state: str
) -> None:
    work, chain = everything.shop.work, everything.chain("backup")
    error = {"type": "PermanentError", "sentence": "it was 'bia'", "hint": "", "step": ""}
    if state == "succeeded":
        chain.rest()
    elif state == "failed":
        work.ledger.fail(chain.ref, state="failed", error=error)
    else:
        work.ledger.cancel(chain.job.id, error=error)

    def entries() -> list[tuple[str, str, str]]:
        rows = work.trail.record().rows
        return [
            (row["result"], row["who"], row["detail"])
            for row in rows
            if row["job"] == str(chain.job.id) and row["result"] == state
        ]

    work.trail.append_ends()
    assert entries() == [], "whoever ended it may be about to"
    with work.database.transaction() as cursor:
        cursor.execute("UPDATE job SET ended_at = ended_at - interval '50 minutes'")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: work.trail.append_ends(), range(4)))
    who = "unnamed" if state == "cancelled" else "test"
    assert entries() == [(state, who, "" if state == "succeeded" else "it was 'bia'")]
    work.audit(chain.job, result=state)
    assert len(entries()) == 1, "it was slow, not dead"
    with work.database.transaction() as cursor:
        cursor.execute("UPDATE migration SET applied_at = applied_at - interval '1 day'")
        cursor.execute("UPDATE job SET ended_at = ended_at - interval '2 hours'")
    work.trail.store_missing()
    assert verify(everything)["findings"] == []


def test_an_entry_about_a_job_that_the_ledger_does_not_know_is_found(
    everything: Installation,
) -> None:
    chain = everything.chain("backup")
    chain.rest()
    work = everything.shop.work
    work.audit(chain.job, result="succeeded")
    assert verify(everything)["findings"] == []
    record, job = work.trail.record(), chain.job.id
    with work.database.transaction() as cursor:
        cursor.execute("DELETE FROM job")
    # As they would be two hours later.
    later = replace(
        work.trail.record(), settled=record.settled + timedelta(hours=2), born=record.born - DAY
    )
    trail = read_trail(everything.tools.repository, NoProgress())
    assert any(f"job {job}" in one.detail for one in later.differences(trail))


def test_findings_of_the_trail_fail_the_verification(everything: Installation) -> None:
    remove(trail_files(everything)[0])
    with pytest.raises(IntegrityError, match="verification found"):
        everything.shop.run("verify", {"target": None, "level": "full"})
