"""Every kind of damage is found: by a quick look where names and sizes show it, else by a full one.

Nothing examined is a failure, and what was found decides what is restored and pruned.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.adapters.catalog.index import BackupIndex
from pgben_tasks.adapters.keys.files import make_age_identity
from pgben_tasks.adapters.packs.codec import AgePackCodec
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import (
    BackupNotFound,
    DatabaseUnavailable,
    FenceLost,
    IntegrityError,
    RestoreRefused,
    StoreUnavailable,
)
from pgben_tasks.operations.toolbox import Toolbox
from tests.support import samples
from tests.support.installation import Installation
from tests.support.samples import keyring

Damage = Callable[[Installation, Manifest], object]


def examined(installation: Installation, **request: Any) -> dict[str, Any]:
    """Run the examining step alone and give its result."""
    return installation.chain("verify", **request).step().result


def kinds(result: dict[str, Any]) -> set[str]:
    return {finding["kind"] for finding in result["findings"]}


def pack(installation: Installation, manifest: Manifest, number: int = 0) -> Path:
    return installation.pack_files(manifest)[number]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


def edit_manifest(installation: Installation, manifest: Manifest, **changes: Any) -> None:
    path = installation.manifest_file(manifest)
    path.write_bytes(manifest.model_copy(update=changes).encode())


def resign(installation: Installation, manifest: Manifest, seed: int) -> None:
    """Sign a manifest with a key that nobody trusts, as an intruder would."""
    signer, trust = keyring(seed=seed)
    folder = installation.manifest_file(manifest).parent
    shutil.rmtree(folder)
    forger = StoreRepository.open(installation.store, signer=signer, trust=trust)
    forger.commit(manifest.model_copy(update={"job": "forged"}))


def swap(installation: Installation, manifest: Manifest) -> None:
    one, other = installation.pack_files(manifest)[:2]
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def exchange(installation: Installation, manifest: Manifest) -> None:
    """Exchange a pack with the other backup's."""
    one, other = pack(installation, manifest), pack(installation, installation.backups[0])
    mine, theirs = one.read_bytes(), other.read_bytes()
    one.write_bytes(theirs)
    other.write_bytes(mine)


def copy_manifest(installation: Installation, manifest: Manifest) -> None:
    folder = installation.manifest_file(manifest).parent
    shutil.copytree(folder, folder.with_name("20990101T000000Z-ffffff"))


#: What is done to the second backup; the kinds that a quick look and a full one find.
FAULTS: dict[str, tuple[Damage, set[str], set[str]]] = {
    "a flipped byte": (lambda i, m: flip(pack(i, m)), set(), {"damaged"}),
    "a missing pack": (lambda i, m: pack(i, m).unlink(), {"missing"}, {"missing"}),
    "a truncated pack": (
        lambda i, m: pack(i, m).write_bytes(pack(i, m).read_bytes()[:-1]),
        {"truncated"},
        {"truncated"},
    ),
    "an emptied pack": (lambda i, m: pack(i, m).write_bytes(b""), {"truncated"}, {"truncated"}),
    "a lengthened pack": (
        lambda i, m: pack(i, m).write_bytes(pack(i, m).read_bytes() + b"\0"),
        {"damaged"},
        {"damaged"},
    ),
    "two packs exchanged": (swap, {"truncated", "damaged"}, {"swapped"}),
    "packs of two backups exchanged": (exchange, {"truncated", "damaged"}, {"swapped"}),
    "a pack of another backup": (
        lambda i, m: pack(i, m).write_bytes(
            pack(i, i.backups[0]).read_bytes().ljust(m.packs[0].size)[: m.packs[0].size]
        ),
        set(),
        {"damaged"},
    ),
    "an edited manifest": (
        lambda i, m: edit_manifest(i, m, suspect=None, job="other"),
        {"forged"},
        {"forged"},
    ),
    "a manifest that is no JSON": (
        lambda i, m: i.manifest_file(m).write_bytes(b"{"),
        {"invalid"},
        {"invalid"},
    ),
    "a manifest signed by a stranger": (lambda i, m: resign(i, m, 7), {"forged"}, {"forged"}),
    "a manifest without its signature": (
        lambda i, m: i.manifest_file(m).with_name("manifest.json.sig").unlink(),
        {"forged"},
        {"forged"},
    ),
    "a manifest under another id": (copy_manifest, {"forged"}, {"forged"}),
    "a manifest that was removed": (
        lambda i, m: shutil.rmtree(i.manifest_file(m).parent),
        {"missing"},
        {"missing"},
    ),
    "a foreign file beside the manifest": (
        lambda i, m: i.manifest_file(m).with_name("notes.txt").write_text("x"),
        {"extra"},
        {"extra"},
    ),
    "a pack that no manifest names": (
        lambda i, m: pack(i, m).with_name("99.tar.age").write_bytes(b"x"),
        {"extra"},
        {"extra"},
    ),
    "a changed statement": (
        lambda i, m: flip(
            next((i.repository / "verifications" / m.target / m.backup).glob("*.json"))
        ),
        {"forged", "invalid"},
        {"forged", "invalid"},
    ),
}


def test_a_sound_repository_is_clean(installation: Installation) -> None:
    for level in ("quick", "full"):
        job = installation.chain("verify", level=level).rest()
        assert (job.state, job.result["state"], job.result["findings_total"]) == (
            "succeeded",
            "clean",
            0,
        )
        assert job.result["backups"] == 2
        assert job.result["packs"] == sum(len(one.packs) for one in installation.backups)
    assert job.result["bytes_read"] == sum(one.stored_bytes for one in installation.backups)
    assert {installation.state(one.backup) for one in installation.backups} == {"verified"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(installation: Installation, fault: str) -> None:
    damage, quick, full = FAULTS[fault]
    second = installation.backups[1]
    damage(installation, second)
    for level, expected in (("quick", quick), ("full", full)):
        chain = installation.chain("verify", level=level)
        result = chain.step().result
        found = kinds(result)
        assert (found <= expected and found) if expected else not found, result["findings"]
        assert all(finding["detail"] for finding in result["findings"])
        if expected:
            with pytest.raises(IntegrityError, match="verification found") as caught:
                chain.step()
            assert caught.value.hint
            assert chain.job.state == "failed"


def test_a_file_outside_every_target_is_found_when_everything_is_looked_at(
    installation: Installation,
) -> None:
    (installation.repository / "README").write_text("x")
    (installation.repository / "packs" / "postgres" / "notes.txt").write_text("x")
    assert examined(installation)["findings"] == []
    result = examined(installation, target=None)
    assert [(one["kind"], one["path"]) for one in result["findings"]] == [
        ("extra", "README"),
        ("extra", "packs/postgres/notes.txt"),
    ]


@pytest.mark.parametrize("fault", ["a missing pack", "two packs exchanged", "an edited manifest"])
def test_a_damaged_backup_is_refused_by_its_id_and_an_older_one_is_the_latest(
    installation: Installation, fault: str
) -> None:
    first, second = installation.backups
    FAULTS[fault][0](installation, second)
    examined(installation, level="full")
    assert installation.state(second.backup) == "damaged"
    assert installation.state(first.backup) == "verified"
    with pytest.raises(RestoreRefused, match=second.backup):
        installation.restore(backup=second.backup).step()
    latest = installation.restore()
    latest.step()
    assert latest.job.result["backup"] == first.backup


def test_damage_is_forgotten_only_after_a_full_look_at_the_repair(
    installation: Installation,
) -> None:
    second = installation.backups[1]
    path = pack(installation, second)
    kept = path.read_bytes()
    path.unlink()
    examined(installation, level="quick")
    path.write_bytes(kept)
    examined(installation, level="quick")
    assert installation.state(second.backup) == "damaged"
    examined(installation, level="full")
    assert installation.state(second.backup) == "verified"


def test_every_fault_is_counted_and_each_is_named(installation: Installation) -> None:
    for manifest in installation.backups:
        for path in installation.pack_files(manifest):
            path.unlink()
    result = examined(installation)
    paths = {one.path for manifest in installation.backups for one in manifest.packs}
    assert {finding["path"] for finding in result["findings"]} == paths
    assert result["findings_total"] == len(paths)


def test_one_backup_is_verified_alone(installation: Installation) -> None:
    first, second = installation.backups
    pack(installation, second).unlink()
    assert examined(installation, backup=first.backup)["findings"] == []
    result = examined(installation, backup=second.backup)
    assert (result["backups"], kinds(result)) == (1, {"missing"})


def test_an_unbelievable_backup_is_a_finding_even_when_asked_for_alone(
    installation: Installation,
) -> None:
    second = installation.backups[1]
    edit_manifest(installation, second, job="other")
    assert kinds(examined(installation, backup=second.backup)) == {"forged"}


def test_everything_is_verified_when_no_target_is_named(installation: Installation) -> None:
    result = examined(installation, target=None)
    assert (result["targets"], result["backups"]) == ([str(installation.target)], 2)


def test_packs_of_a_dead_capture_are_left_to_the_sweep(installation: Installation) -> None:
    path = f"packs/{installation.target}/20261101T050000Z-abcdef/1.tar.age"
    installation.store.put(path, b"half of a backup")
    assert kinds(examined(installation)) == set()


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("known", [True, False])
def test_a_backup_that_vanished_whole_is_missing(
    installation: Installation, which: int, known: bool
) -> None:
    gone = installation.backups[which]
    for folder in ("backups", "packs", "verifications"):
        if folder != "verifications" or not known:
            shutil.rmtree(installation.repository / folder / gone.target / gone.backup)
    if not known:
        # Neither a statement nor the catalog knows it: only its successor's manifest does.
        with installation.shop.work.database.transaction() as cursor:
            cursor.execute("DELETE FROM backup WHERE id = %s", (gone.backup,))
    expected = {"missing"} if known or which == 0 else set()
    assert kinds(examined(installation)) == expected


def test_a_backup_that_only_the_catalog_knows_is_missing(installation: Installation) -> None:
    gone = installation.backups[1]
    for folder in ("backups", "packs", "verifications"):
        shutil.rmtree(installation.repository / folder / gone.target / gone.backup)
    assert kinds(examined(installation)) == {"missing"}
    assert installation.state(gone.backup) == "missing"


def test_a_pruned_backup_is_not_missing(installation: Installation) -> None:
    first, _ = installation.backups
    installation.tools.repository.record(
        samples.verification(
            repository=installation.tools.repository.id,
            target=first.target,
            backup=first.backup,
            kind="prune",
            manifest=installation.tools.repository.manifest_digest(
                installation.target, first.backup_id
            ),
            reasons=("older than 30 days",),
        )
    )
    installation.tools.repository.remove_manifest(installation.target, first.backup_id)
    installation.tools.index.set_state(installation.target, first.backup, "expired")
    assert kinds(examined(installation)) == set()


def test_a_key_that_was_changed_since_condemns_no_backup(
    installation: Installation, tmp_path: Path
) -> None:
    make_age_identity(tmp_path / "new.txt", now=datetime.now(UTC))
    codec = AgePackCodec(installation.tools.codec.recipients, identity_file=tmp_path / "new.txt")
    try:
        tools = replace(installation.tools, codec=codec)
        result = installation.chain("verify", level="full", tools=tools).step().result
    finally:
        codec.close()
    assert result["findings"] == []
    for backup in installation.backups:
        assert installation.state(backup.backup).startswith("verified")


def test_a_commit_that_the_index_missed_is_known_after_a_look(installation: Installation) -> None:
    missed = installation.backups[1].backup
    with installation.shop.work.database.transaction() as cursor:
        cursor.execute("DELETE FROM backup WHERE id = %s", (missed,))
    examined(installation, level="full")
    assert installation.state(missed) == "verified"


def test_a_protected_target_without_any_backup_is_missing_from_everything(
    installation: Installation,
) -> None:
    other = Target("postgres", "forgotten")
    sources = {**installation.tools.sources, other: installation.tools.sources[installation.target]}
    tools = replace(installation.tools, sources=sources, protected=frozenset(sources))
    result = installation.chain("verify", target=None, tools=tools).step().result
    assert [finding["path"] for finding in result["findings"]] == [f"backups/{other}"]


# Looking at nothing


@pytest.mark.parametrize(
    "request_",
    [{"backup": "20000101T000000Z-000000"}, {"target": "postgres/other"}],
)
def test_a_verification_of_nothing_fails(
    installation: Installation, request_: dict[str, Any]
) -> None:
    with pytest.raises(BackupNotFound):
        installation.chain("verify", **request_).step()


def test_an_emptied_repository_fails(installation: Installation) -> None:
    for folder in ("backups", "packs", "verifications"):
        shutil.rmtree(installation.repository / folder)
    for target in (str(installation.target), None):
        with pytest.raises(BackupNotFound, match="to verify"):
            installation.chain("verify", target=target).step()


def test_a_repository_that_cannot_be_read_is_no_finding(installation: Installation) -> None:
    class Away(type(installation.store)):  # type: ignore[misc]  # the fixture's class
        def stream(self, key: str) -> Any:
            raise StoreUnavailable(f"'{key}' is out of reach")

    repository = StoreRepository.open(
        Away(installation.repository), signer=None, trust=keyring()[1]
    )
    away = _reading(installation, repository)
    chain = installation.chain("verify", tools=away, level="full")
    before = installation.files(below="verifications")
    with pytest.raises(StoreUnavailable):
        chain.step()
    assert installation.files(below="verifications") == before


def _reading(installation: Installation, repository: StoreRepository) -> Toolbox:
    """Read packs through one repository, and everything else through the installation's."""

    class Split:
        def __getattr__(self, name: str) -> Any:
            source = repository if name == "read_pack" else installation.tools.repository
            return getattr(source, name)

    return replace(installation.tools, repository=Split())


# What is written down


def test_each_look_leaves_a_signed_statement(installation: Installation) -> None:
    first = installation.backups[0]
    chain = installation.chain("verify", level="full")
    chain.rest()
    statements = installation.tools.repository.verifications(installation.target, first.backup_id)
    assert [one.kind for one in statements] == ["readback", "full"]
    last = statements[-1]
    assert (last.job, last.opened, last.findings) == (str(chain.ref.job), True, ())
    assert (last.packs_checked, last.bytes_read) == (len(first.packs), first.stored_bytes)


def test_without_an_identity_a_backup_is_verified_and_shown_unopened(
    installation: Installation,
) -> None:
    codec = AgePackCodec(installation.tools.codec.recipients)
    with closing(codec):
        blind = replace(installation.tools, codec=codec)
        job = installation.chain("backup", tools=blind).rest()
    assert job.result["state"] == "verified (unopened)"
    assert installation.state(job.backup or "") == "verified (unopened)"
    examined(installation, level="full")
    assert installation.state(job.backup or "") == "verified"


def test_a_full_look_opens_every_pack_and_leaves_nothing_in_the_spool(
    installation: Installation,
) -> None:
    chain = installation.chain("verify", level="full")
    chain.rest()
    assert not [path for path in installation.tools.spool.rglob("*") if path.suffix == ".age"]
    assert not (chain.folder / "opened").exists()


def test_a_statement_of_an_ended_job_is_json_without_secrets(installation: Installation) -> None:
    flip(pack(installation, installation.backups[0]))
    chain = installation.chain("verify", level="full")
    job: Job = chain.step()
    text = json.dumps(job.result)
    assert installation.shop.server.password not in text
    assert "AGE-SECRET-KEY" not in text


def test_a_verification_that_lost_its_job_stops(installation: Installation) -> None:
    chain = installation.chain("verify", level="full")

    def lost() -> None:
        raise FenceLost("another has the job")

    chain.progress.check = lost  # type: ignore[method-assign]
    before = installation.files(below="verifications")
    with pytest.raises(FenceLost):
        chain.step(keep_on=FenceLost)
    assert installation.files(below="verifications") == before


def test_a_catalog_that_is_away_is_no_finding(installation: Installation) -> None:
    class Away(BackupIndex):
        def set_state(self, *_: Any, **__: Any) -> None:
            raise DatabaseUnavailable("the catalog does not answer")

    tools = replace(
        installation.tools,
        index=Away(installation.shop.work.database, installation.tools.repository.id),
    )
    with pytest.raises(DatabaseUnavailable):
        installation.chain("verify", tools=tools).step()
