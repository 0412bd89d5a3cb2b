"""What the repository promises over every store: signed, whole, in its place, or an error."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from pgben_tasks.adapters.keys.signatures import Signer, Trust
from pgben_tasks.adapters.repository.public_keys import (
    describe_public_keys,
    store_public_keys,
    trusted_from_repository,
)
from pgben_tasks.adapters.repository.repository import StoreRepository, UnrecordedRepository
from pgben_tasks.adapters.s3.administration import ensure_bucket
from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.adapters.stores.s3 import S3ObjectStore
from pgben_tasks.domain.documents import (
    Finding,
    Manifest,
    Pack,
    RepositoryCard,
    Signature,
    StatementKind,
    Verification,
)
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.domain.values import Document
from pgben_tasks.errors import (
    BackupNotFound,
    ConfigurationError,
    DigestMismatch,
    IntegrityError,
    ManifestInvalid,
    ObjectExists,
    ObjectMissing,
    PermanentError,
    RequestRefused,
    SignatureInvalid,
)
from pgben_tasks.ports import ObjectStore, Repository, SigningRole
from tests.contract.test_object_store import s3_location
from tests.support import samples
from tests.support.memory_store import MemoryObjectStore
from tests.support.samples import BACKUP, REPOSITORY, START, TARGET

MANIFEST = f"backups/{TARGET}/{BACKUP}/manifest.json"
SEALED = b"sealed bytes of a pack"
OTHER_BACKUP = BackupId.make(START + timedelta(days=1), "2a2a2a")


@pytest.fixture(params=["memory", "directory", "rclone"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "memory":
        return MemoryObjectStore()
    if request.param == "directory":
        directory = DirectoryObjectStore(tmp_path / "repository")
        directory.make_root()
        return directory
    location = s3_location(request.getfixturevalue("repository_s3"))
    ensure_bucket(location)
    return S3ObjectStore(location)


@pytest.fixture
def keyring() -> tuple[Signer, Trust]:
    return samples.keyring()


@pytest.fixture
def repository(store: ObjectStore, keyring: tuple[Signer, Trust]) -> StoreRepository:
    signer, trust = keyring
    return StoreRepository.create(store, REPOSITORY, START, signer=signer, trust=trust)


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "sealed"
    path.write_bytes(SEALED)
    return path


def ignore(_: int) -> None:
    """Count nothing."""


def a_pack(backup: BackupId = BACKUP, number: int = 1) -> Pack:
    return samples.pack(SEALED, path=f"packs/{TARGET}/{backup}/{number}.tar.age")


def commit(repository: Repository, sealed: Path, /, **fields: object) -> str:
    repository.store_pack(a_pack(), sealed, advance=ignore)
    return repository.commit(samples.manifest(**({"packs": (a_pack(),)} | fields)))


def replace(store: ObjectStore, key: str, data: bytes) -> None:
    """Do what the format never does: change a stored object."""
    store.delete(key)
    store.put(key, data)


def signed_by_hand(manifest: Manifest, path: str, *, role: SigningRole = "backup") -> bytes:
    signer, _ = samples.keyring()
    return signer.sign(
        manifest.encode(), role=role, kind="manifest", repository=REPOSITORY, path=path
    ).encode()


def test_a_committed_backup_comes_back(repository: StoreRepository, sealed: Path) -> None:
    digest = commit(repository, sealed)
    assert repository.targets() == [TARGET]
    assert repository.backups(TARGET) == [BACKUP]
    manifest = repository.manifest(TARGET, BACKUP)
    assert manifest == samples.manifest(packs=(a_pack(),))
    assert samples.sha256(manifest.encode()) == digest
    assert repository.manifest_digest(TARGET, BACKUP) == digest
    assert repository.stray(TARGET) == []


def test_a_reader_needs_no_signing_key(
    repository: StoreRepository, store: ObjectStore, sealed: Path, keyring: tuple[Signer, Trust]
) -> None:
    commit(repository, sealed)
    reader = StoreRepository.open(store, signer=None, trust=keyring[1])
    assert reader.id == REPOSITORY
    assert reader.manifest(TARGET, BACKUP).backup == str(BACKUP)
    with pytest.raises(ConfigurationError, match="no signing key"):
        reader.record(samples.verification())


def test_an_absent_repository_is_a_wrong_setting(
    store: ObjectStore, keyring: tuple[Signer, Trust]
) -> None:
    with pytest.raises(ConfigurationError, match="no repository") as raised:
        StoreRepository.open(store, signer=None, trust=keyring[1])
    assert "pgben init" in raised.value.hint


@pytest.mark.parametrize("card", [b"", b"{}", b'{"format":2}', b"\xff"])
def test_a_damaged_card_is_said_so(
    store: ObjectStore, keyring: tuple[Signer, Trust], card: bytes
) -> None:
    store.put("repository.json", card)
    with pytest.raises(ManifestInvalid, match=r"repository\.json"):
        StoreRepository.open(store, signer=None, trust=keyring[1])


def test_a_repository_is_made_once(
    repository: StoreRepository, store: ObjectStore, keyring: tuple[Signer, Trust]
) -> None:
    with pytest.raises(RequestRefused, match="already"):
        StoreRepository.create(store, "f" * 16, START, signer=None, trust=keyring[1])
    assert StoreRepository.open(store, signer=None, trust=keyring[1]).id == repository.id


def test_no_repository_is_made_over_backups_whose_card_is_lost(
    repository: StoreRepository, store: ObjectStore, sealed: Path, keyring: tuple[Signer, Trust]
) -> None:
    commit(repository, sealed)
    store.delete("repository.json")
    with pytest.raises(RequestRefused, match="holds backups but no"):
        StoreRepository.create(store, "f" * 16, START, signer=None, trust=keyring[1])


@pytest.mark.parametrize("identifier", ["", "short", "a" * 65, "with space!", "line\nbreak-id"])
def test_repository_ids_have_one_form(
    store: ObjectStore, keyring: tuple[Signer, Trust], identifier: str
) -> None:
    with pytest.raises(ConfigurationError):
        StoreRepository.create(store, identifier, START, signer=None, trust=keyring[1])
    with pytest.raises(ObjectMissing):
        store.head("repository.json")


def test_a_signing_key_that_nobody_trusts_is_refused_at_once(
    repository: StoreRepository, store: ObjectStore, keyring: tuple[Signer, Trust]
) -> None:
    stranger, _ = samples.keyring(seed=9)
    with pytest.raises(ConfigurationError, match="not in the trusted keys"):
        StoreRepository.open(store, signer=stranger, trust=keyring[1])


def test_a_backup_without_manifest_does_not_exist(
    repository: StoreRepository, sealed: Path
) -> None:
    repository.store_pack(a_pack(), sealed, advance=ignore)
    assert repository.targets() == [TARGET]
    assert repository.backups(TARGET) == []
    with pytest.raises(BackupNotFound, match=str(BACKUP)):
        repository.manifest(TARGET, BACKUP)


def test_no_commit_without_every_pack(
    repository: StoreRepository, store: ObjectStore, sealed: Path
) -> None:
    repository.store_pack(a_pack(), sealed, advance=ignore)
    second = a_pack(number=2)
    with pytest.raises(IntegrityError, match=r"2\.tar\.age' is not in"):
        repository.commit(
            samples.manifest(
                packs=(a_pack(), second.model_copy(update={"members": (samples.member("b", b""),)}))
            )
        )
    replace(store, a_pack().path, SEALED[:-1])
    with pytest.raises(IntegrityError, match="21 bytes long"):
        repository.commit(samples.manifest(packs=(a_pack(),)))
    assert repository.backups(TARGET) == []
    with pytest.raises(ObjectMissing):
        store.head(MANIFEST + ".sig")


def test_a_commit_may_be_repeated_but_says_one_thing_only(
    repository: StoreRepository, sealed: Path
) -> None:
    first = commit(repository, sealed)
    assert commit(repository, sealed) == first
    with pytest.raises(ObjectExists, match="says something else"):
        commit(repository, sealed, job="another")
    assert repository.manifest_digest(TARGET, BACKUP) == first


def test_a_signature_left_by_a_dead_attempt_does_not_stop_the_next(
    repository: StoreRepository, store: ObjectStore, sealed: Path
) -> None:
    store.put(MANIFEST + ".sig", signed_by_hand(samples.manifest(job="dead"), MANIFEST))
    commit(repository, sealed)
    assert repository.manifest(TARGET, BACKUP).job == "7f8d"


def test_a_manifest_of_another_repository_is_not_committed(
    repository: StoreRepository, sealed: Path
) -> None:
    with pytest.raises(PermanentError, match="cannot be stored"):
        commit(repository, sealed, repository="f" * 16)
    assert repository.backups(TARGET) == []


def test_every_changed_byte_of_a_manifest_is_found(
    keyring: tuple[Signer, Trust], sealed: Path
) -> None:
    store = MemoryObjectStore()
    repository = StoreRepository.create(
        store, REPOSITORY, START, signer=keyring[0], trust=keyring[1]
    )
    commit(repository, sealed)
    original = store.get(MANIFEST, limit=1 << 20)
    for place in range(len(original)):
        changed = bytearray(original)
        changed[place] ^= 1
        replace(store, MANIFEST, bytes(changed))
        with pytest.raises((SignatureInvalid, ManifestInvalid)):
            repository.manifest(TARGET, BACKUP)
    for length in range(len(original)):
        replace(store, MANIFEST, original[:length])
        with pytest.raises((SignatureInvalid, ManifestInvalid)):
            repository.manifest(TARGET, BACKUP)


def test_every_changed_byte_of_a_signature_is_found(
    keyring: tuple[Signer, Trust], sealed: Path
) -> None:
    store = MemoryObjectStore()
    repository = StoreRepository.create(
        store, REPOSITORY, START, signer=keyring[0], trust=keyring[1]
    )
    commit(repository, sealed)
    original = store.get(MANIFEST + ".sig", limit=1 << 20)
    for place in range(len(original)):
        changed = bytearray(original)
        changed[place] ^= 1
        replace(store, MANIFEST + ".sig", bytes(changed))
        with pytest.raises(SignatureInvalid):
            repository.manifest(TARGET, BACKUP)


def test_a_manifest_without_signature_is_not_believed(
    repository: StoreRepository, store: ObjectStore, sealed: Path
) -> None:
    commit(repository, sealed)
    store.delete(MANIFEST + ".sig")
    with pytest.raises(SignatureInvalid, match="has no signature"):
        repository.manifest(TARGET, BACKUP)


def test_a_manifest_by_a_stranger_is_not_believed(
    repository: StoreRepository, store: ObjectStore
) -> None:
    stranger, _ = samples.keyring(seed=9)
    manifest = samples.manifest()
    signature = stranger.sign(
        manifest.encode(), role="backup", kind="manifest", repository=REPOSITORY, path=MANIFEST
    )
    store.put(MANIFEST, manifest.encode())
    store.put(MANIFEST + ".sig", signature.encode())
    with pytest.raises(SignatureInvalid, match="not trusted"):
        repository.manifest(TARGET, BACKUP)


def test_a_manifest_signed_in_another_role_is_not_believed(
    repository: StoreRepository, store: ObjectStore
) -> None:
    store.put(MANIFEST, samples.manifest().encode())
    store.put(MANIFEST + ".sig", signed_by_hand(samples.manifest(), MANIFEST, role="verify"))
    with pytest.raises(SignatureInvalid, match="may not sign"):
        repository.manifest(TARGET, BACKUP)


@pytest.mark.parametrize(
    "elsewhere",
    [
        f"backups/{TARGET}/{OTHER_BACKUP}/manifest.json",
        f"backups/postgres/other/{BACKUP}/manifest.json",
    ],
)
def test_a_backup_moved_elsewhere_is_forged(
    repository: StoreRepository, store: ObjectStore, sealed: Path, elsewhere: str
) -> None:
    commit(repository, sealed)
    for suffix in ("", ".sig"):
        store.put(elsewhere + suffix, store.get(MANIFEST + suffix, limit=1 << 20))
    _, kind, name, backup, _ = elsewhere.split("/")
    with pytest.raises(SignatureInvalid, match=r"is forged: it describes .* was moved here"):
        repository.manifest(Target.parse(f"{kind}/{name}"), BackupId.parse(backup))


def test_a_manifest_rewritten_for_another_place_is_forged(
    repository: StoreRepository, store: ObjectStore
) -> None:
    moved = samples.manifest(backup=str(OTHER_BACKUP))
    path = f"backups/{TARGET}/{OTHER_BACKUP}/manifest.json"
    store.put(path, moved.encode())
    store.put(path + ".sig", signed_by_hand(moved, MANIFEST))
    with pytest.raises(SignatureInvalid, match="does not fit"):
        repository.manifest(TARGET, OTHER_BACKUP)


def test_a_backup_from_another_repository_is_forged(
    repository: StoreRepository, store: ObjectStore, keyring: tuple[Signer, Trust], sealed: Path
) -> None:
    other_store = MemoryObjectStore()
    other = StoreRepository.create(
        other_store, "f" * 16, START, signer=keyring[0], trust=keyring[1]
    )
    commit(other, sealed, repository="f" * 16)
    for suffix in ("", ".sig"):
        store.put(MANIFEST + suffix, other_store.get(MANIFEST + suffix, limit=1 << 20))
    with pytest.raises(SignatureInvalid, match="written for the repository"):
        repository.manifest(TARGET, BACKUP)


def test_a_pack_that_is_there_is_not_stored_again(
    repository: StoreRepository, store: ObjectStore, sealed: Path
) -> None:
    counted: list[int] = []
    repository.store_pack(a_pack(), sealed, advance=counted.append)
    before = store.head(a_pack().path)
    repository.store_pack(a_pack(), sealed, advance=counted.append)
    assert store.head(a_pack().path) == before
    assert sum(counted) == 2 * len(SEALED)


def test_a_pack_cut_short_by_an_earlier_try_is_stored_again(
    repository: StoreRepository, store: ObjectStore, sealed: Path
) -> None:
    store.put(a_pack().path, SEALED[:5])
    repository.store_pack(a_pack(), sealed, advance=ignore)
    assert b"".join(repository.read_pack(a_pack())) == SEALED


def test_a_sealed_file_that_changed_in_the_spool_is_not_stored(
    repository: StoreRepository, sealed: Path
) -> None:
    sealed.write_bytes(SEALED + b"!")
    with pytest.raises(DigestMismatch):
        repository.store_pack(a_pack(), sealed, advance=ignore)
    assert repository.packs(TARGET) == {}


def test_a_fetched_pack_is_what_was_stored(
    repository: StoreRepository, sealed: Path, tmp_path: Path
) -> None:
    repository.store_pack(a_pack(), sealed, advance=ignore)
    counted: list[int] = []
    destination = tmp_path / "fetched"
    repository.fetch_pack(a_pack(), destination, advance=counted.append)
    assert destination.read_bytes() == SEALED
    assert destination.stat().st_mode & 0o777 == 0o600
    assert sum(counted) == len(SEALED)


@pytest.mark.parametrize("damaged", [b"", SEALED[:-1], SEALED + b"!", b"X" + SEALED[1:]], ids=len)
def test_a_damaged_pack_is_not_fetched(
    repository: StoreRepository, store: ObjectStore, tmp_path: Path, damaged: bytes
) -> None:
    store.put(a_pack().path, damaged)
    folder = tmp_path / "fetched"
    folder.mkdir()
    with pytest.raises(DigestMismatch, match=r"1\.tar\.age"):
        repository.fetch_pack(a_pack(), folder / "pack", advance=ignore)
    assert list(folder.iterdir()) == []


def test_a_missing_pack_is_missing(repository: StoreRepository, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing):
        list(repository.read_pack(a_pack()))
    with pytest.raises(ObjectMissing):
        repository.fetch_pack(a_pack(), tmp_path / "pack", advance=ignore)


def test_what_the_format_does_not_know_is_stray(
    repository: StoreRepository, store: ObjectStore, sealed: Path
) -> None:
    commit(repository, sealed)
    repository.record(samples.verification())
    stray = [
        f"backups/{TARGET}/{BACKUP}/inventory.jsonl.zst.age",
        f"backups/{TARGET}/{BACKUP}/manifest.json.bak",
        f"backups/{TARGET}/notes.txt",
        f"packs/{TARGET}/{BACKUP}/1.tar.gz",
        f"packs/{TARGET}/{BACKUP}/deeper/1.tar",
        f"packs/{TARGET}/yesterday/1.tar",
        f"verifications/{TARGET}/{BACKUP}/note.json",
    ]
    for key in stray:
        store.put(key, b"")
    store.put(f"packs/{TARGET}x/{BACKUP}/junk", b"")
    assert repository.stray(TARGET) == sorted(stray)


def test_what_has_no_place_in_the_format_is_foreign(
    repository: StoreRepository, store: ObjectStore, sealed: Path
) -> None:
    commit(repository, sealed)
    repository.record(samples.verification())
    repository.audit(samples.audit_entry())
    assert repository.foreign() == []
    strangers = [
        "README",
        "audit/2026/11/1.txt",
        f"backups/{BACKUP}/manifest.json",
        "backups/postgres/notes.txt",
        f"packs/volume/x/{BACKUP}/1.tar",
        f"packs/{TARGET}/{BACKUP}/1.tar.gz",
    ]
    for key in strangers:
        store.put(key, b"")
    assert repository.foreign() == sorted(strangers)


def test_public_keys_are_stored_once_beside_those_of_before_and_are_not_foreign(
    repository: StoreRepository, store: ObjectStore
) -> None:
    keys = samples.keyring()[1].keys
    first = describe_public_keys(REPOSITORY, keys, {})
    second = describe_public_keys(REPOSITORY, keys, {"operations": samples.RECIPIENT})
    assert repository.public_keys() == {}
    assert [store_public_keys(store, one) for one in (first, second, first)] == [True, True, False]
    paths = [f"keys/{one}.json" for one in sorted((first.fingerprint, second.fingerprint))]
    assert repository.public_keys() == dict.fromkeys(paths, True)
    assert trusted_from_repository(store, first.fingerprint) == first
    assert trusted_from_repository(store, second.fingerprint.upper()) == second
    assert sorted(repository.read_public_keys(), key=str) == sorted((first, second), key=str)
    assert repository.foreign() == []
    store.put("keys/notes.json", b"{}")
    replace(store, paths[1], first.encode() + second.encode())
    assert repository.foreign() == ["keys/notes.json"]
    assert repository.public_keys() == {paths[0]: True, paths[1]: False}
    with pytest.raises(DigestMismatch, match="not the document that its name says"):
        repository.read_public_keys()


def test_statements_come_back_oldest_first(repository: StoreRepository) -> None:
    late = samples.verification(id="20261123T060000Z-bbbbbb", at=START + timedelta(hours=1))
    early = samples.verification(
        id="20261123T070000Z-cccccc",
        findings=(Finding(kind="damaged", path="packs/x", detail="é"),),
    )
    for statement in (late, early):
        repository.record(statement)
    assert repository.verifications(TARGET, BACKUP) == [early, late]
    assert repository.verifications(TARGET, OTHER_BACKUP) == []


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        ("readback", {"backup"}),
        ("quick", {"verify", "backup", "restore"}),
        ("full", {"verify", "backup", "restore"}),
        ("drill", {"restore"}),
        ("acknowledgement", {"maintenance"}),
        ("hold", {"maintenance"}),
        ("prune", {"maintenance"}),
    ],
)
@pytest.mark.parametrize("role", get_args(SigningRole))
def test_each_statement_is_signed_by_the_roles_that_may(
    role: SigningRole, kind: str, roles: set[str]
) -> None:
    store = MemoryObjectStore()
    signer, trust = samples.keyring((role,))
    repository = StoreRepository.create(store, REPOSITORY, START, signer=signer, trust=trust)
    statement = samples.verification(kind=kind)
    if role in roles:
        repository.record(statement)
        assert repository.verifications(TARGET, BACKUP) == [statement]
        return
    with pytest.raises(ConfigurationError, match="no signing key that may sign"):
        repository.record(statement)
    path = f"verifications/{TARGET}/{BACKUP}/{statement.id}.json"
    signature = signer.sign(
        statement.encode(), role=role, kind="verification", repository=REPOSITORY, path=path
    )
    store.put(path, statement.encode())
    store.put(path + ".sig", signature.encode())
    with pytest.raises(SignatureInvalid, match="may not sign"):
        repository.verifications(TARGET, BACKUP)


@pytest.mark.parametrize("role", ["verify", "restore", "maintenance"])
def test_only_backup_keys_make_backups(role: SigningRole, sealed: Path) -> None:
    signer, trust = samples.keyring((role,))
    repository = StoreRepository.create(
        MemoryObjectStore(), REPOSITORY, START, signer=signer, trust=trust
    )
    with pytest.raises(ConfigurationError, match="no signing key that may sign"):
        commit(repository, sealed)
    assert repository.backups(TARGET) == []


def test_a_forged_statement_raises_and_is_never_left_out(
    repository: StoreRepository, store: ObjectStore
) -> None:
    repository.record(samples.verification())
    path = f"verifications/{TARGET}/{BACKUP}/20261123T051000Z-bbbbbb.json"
    forged = samples.verification(id="20261123T051000Z-bbbbbb", kind="full")
    store.put(path, forged.encode())
    with pytest.raises(SignatureInvalid, match="has no signature"):
        repository.verifications(TARGET, BACKUP)
    good = f"verifications/{TARGET}/{BACKUP}/20261123T051000Z-aaaaaa.json.sig"
    store.put(path + ".sig", store.get(good, limit=1 << 20))
    with pytest.raises(SignatureInvalid, match="does not fit"):
        repository.verifications(TARGET, BACKUP)


def test_a_statement_about_another_backup_is_forged(
    repository: StoreRepository, store: ObjectStore
) -> None:
    repository.record(samples.verification())
    name = "20261123T051000Z-aaaaaa.json"
    for suffix in ("", ".sig"):
        store.put(
            f"verifications/{TARGET}/{OTHER_BACKUP}/{name}{suffix}",
            store.get(f"verifications/{TARGET}/{BACKUP}/{name}{suffix}", limit=1 << 20),
        )
    with pytest.raises(SignatureInvalid, match="moved here"):
        repository.verifications(TARGET, OTHER_BACKUP)


def test_audit_entries_stand_by_month_and_chain(
    repository: StoreRepository, store: ObjectStore
) -> None:
    first = repository.audit(samples.audit_entry())
    second = repository.audit(samples.audit_entry(sequence=2, previous=first))
    assert first != second
    listed = [stored.key for stored in store.list("audit/")]
    assert listed == [
        f"audit/2026/11/{number}.json{suffix}" for number in (1, 2) for suffix in ("", ".sig")
    ]
    with pytest.raises(ObjectExists):
        repository.audit(samples.audit_entry(who="eva"))


def test_audit_entries_are_found_by_number_over_months_and_checked(
    repository: StoreRepository, store: ObjectStore
) -> None:
    previous, entries = None, []
    for number in range(1, 12):
        at = START + timedelta(days=10 * number)
        entries.append(samples.audit_entry(sequence=number, previous=previous, at=at))
        previous = repository.audit(entries[-1])
    for stranger in ("audit/2026/11/x.json", "audit/2026/11/01.json", "audit/1.json", "audit/a"):
        store.put(stranger, b"{}")
    paths = repository.audited()
    assert [repository.audit_entry(path) for path in paths] == entries
    assert (paths[0], paths[-1]) == ("audit/2026/12/1.json", "audit/2027/03/11.json")

    replace(store, paths[1], entries[1].model_copy(update={"who": "eva"}).encode())
    store.delete(f"{paths[2]}.sig")
    for forged in paths[1:3]:
        with pytest.raises(SignatureInvalid):
            repository.audit_entry(forged)


def test_targets_are_known_by_statements_alone(
    repository: StoreRepository, store: ObjectStore
) -> None:
    repository.record(samples.verification())
    store.put("verifications/volume/pgben/x/y.json", b"{}")
    assert (repository.targets(), repository.targets_with_statements()) == ([], [TARGET])


def test_a_repository_without_audit_has_no_entries(repository: StoreRepository) -> None:
    assert repository.audited() == []


@pytest.mark.parametrize(
    ("role", "kind", "may"),
    [("verify", "full", True), ("backup", "full", True), ("maintenance", "full", False)],
)
def test_it_is_known_beforehand_whether_a_statement_can_be_signed(
    role: SigningRole, kind: StatementKind, may: bool
) -> None:
    store = MemoryObjectStore()
    signer, trust = samples.keyring((role,))
    repository = StoreRepository.create(store, REPOSITORY, START, signer=signer, trust=trust)
    assert repository.may_record(kind) is may
    assert not StoreRepository.open(store, signer=None, trust=trust).may_record(kind)


def test_a_repository_that_is_only_looked_at_keeps_no_statement(
    repository: StoreRepository, store: ObjectStore, keyring: tuple[Signer, Trust], sealed: Path
) -> None:
    commit(repository, sealed)
    reader = UnrecordedRepository.open(store, signer=None, trust=keyring[1])
    reader.record(samples.verification())
    assert reader.verifications(TARGET, BACKUP) == []
    assert reader.manifest(TARGET, BACKUP).backup == str(BACKUP)


def test_a_removed_backup_exists_no_longer_and_may_be_removed_again(
    repository: StoreRepository, store: ObjectStore, sealed: Path
) -> None:
    commit(repository, sealed)
    for _ in range(2):
        repository.remove_manifest(TARGET, BACKUP)
        assert repository.backups(TARGET) == []
    repository.remove_pack(a_pack().path)
    assert [stored.key for stored in store.list("")] == ["repository.json"]


@pytest.mark.parametrize(
    "path", ["repository.json", MANIFEST, f"packs/{TARGET}/{BACKUP}/1.txt", "packs", ""]
)
def test_only_packs_are_removed_as_packs(repository: StoreRepository, path: str) -> None:
    with pytest.raises(PermanentError, match="is not a pack"):
        repository.remove_pack(path)


def test_documents_too_large_to_be_real_are_not_read(
    repository: StoreRepository, store: ObjectStore
) -> None:
    store.put(MANIFEST, samples.manifest().encode())
    store.put(MANIFEST + ".sig", bytes(64 * 1024 + 1))
    with pytest.raises(IntegrityError):
        repository.manifest(TARGET, BACKUP)


def test_it_is_a_repository(repository: StoreRepository) -> None:
    as_port: Repository = repository
    assert as_port.describe()


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (Manifest, MANIFEST),
        (Signature, MANIFEST + ".sig"),
        (Verification, f"verifications/{TARGET}/{BACKUP}/20261123T051000Z-aaaaaa.json"),
        (RepositoryCard, "repository.json"),
    ],
)
def test_every_object_of_a_backup_is_canonical(
    repository: StoreRepository, store: ObjectStore, sealed: Path, kind: type[Document], key: str
) -> None:
    commit(repository, sealed)
    repository.record(samples.verification())
    data = store.get(key, limit=1 << 20)
    assert kind.decode(data, where=key).encode() == data
    assert data.endswith(b"}\n")


# What dead runs left


def test_only_signatures_without_their_document_are_remains(
    repository: StoreRepository, store: ObjectStore, sealed: Path
) -> None:
    commit(repository, sealed)
    repository.record(samples.verification())
    assert repository.lone_signatures(TARGET) == []
    dead = f"backups/{TARGET}/20261122T050000Z-aaaaaa/manifest.json.sig"
    statement = f"verifications/{TARGET}/{BACKUP}/20261123T052000Z-bbbbbb.json.sig"
    # Whose they are cannot be said, so they are nobody's business here.
    strange = (f"backups/{TARGET}/notes.sig", f"verifications/{TARGET}/{BACKUP}/x.json.sig")
    for key in (dead, statement, *strange, dead.replace("pgben", "other")):
        store.put(key, b"{}")
    assert [one.key for one in repository.lone_signatures(TARGET)] == [dead, statement]
    for key in (dead, statement):
        repository.remove_signature(key)
    assert repository.lone_signatures(TARGET) == []
    assert repository.manifest(TARGET, BACKUP).backup == str(BACKUP)


def test_a_signature_whose_document_exists_is_not_removed(
    repository: StoreRepository, store: ObjectStore, sealed: Path
) -> None:
    commit(repository, sealed)
    key = f"backups/{TARGET}/{BACKUP}/manifest.json"
    repository.remove_signature(f"{key}.sig")
    assert store.head(f"{key}.sig").size
    with pytest.raises(PermanentError, match="is not a signature"):
        repository.remove_signature(key)
    assert store.head(key).size


def test_the_repositorys_clock_is_the_stores(
    repository: StoreRepository, store: ObjectStore
) -> None:
    assert abs(repository.now() - store.now()) < timedelta(seconds=30)
    assert repository.unfinished_uploads(TARGET) == []


def test_a_recovery_point_is_written_once_comes_back_and_leaves_its_members(
    repository: StoreRepository, store: ObjectStore, sealed: Path
) -> None:
    commit(repository, sealed)
    point = samples.recovery_point()
    wanted = BackupId.parse(point.id)
    repository.store_point(point)
    repository.store_point(point)
    assert repository.points() == [wanted]
    assert repository.point(wanted) == point
    assert repository.foreign() == []
    with pytest.raises(ObjectExists):
        repository.store_point(samples.recovery_point(settle=0))
    repository.remove_point(wanted)
    repository.remove_point(wanted)
    assert repository.points() == []
    assert list(store.list("recovery-points/")) == []
    assert repository.backups(TARGET) == [BACKUP]
    with pytest.raises(BackupNotFound, match="there is no recovery point"):
        repository.point(wanted)


def test_a_recovery_point_that_was_changed_or_moved_is_not_believed(
    repository: StoreRepository, store: ObjectStore
) -> None:
    point = samples.recovery_point()
    repository.store_point(point)
    path = f"recovery-points/{point.id}.json"
    replace(store, path, samples.recovery_point(settle=0).encode())
    with pytest.raises(SignatureInvalid):
        repository.point(BackupId.parse(point.id))
    replace(store, path, point.encode())
    moved = BackupId.make(START, "ffffff")
    for suffix in ("", ".sig"):
        store.put(f"recovery-points/{moved}.json{suffix}", store.get(path + suffix, limit=10_000))
    with pytest.raises(SignatureInvalid, match="was moved here"):
        repository.point(moved)
    assert repository.point(BackupId.parse(point.id)) == point


def test_only_a_key_of_backups_may_sign_a_recovery_point(store: ObjectStore) -> None:
    signer, trust = samples.keyring(("restore", "verify", "maintenance"))
    made = StoreRepository.create(store, REPOSITORY, START, signer=signer, trust=trust)
    with pytest.raises(ConfigurationError, match="the role 'backup'"):
        made.store_point(samples.recovery_point())
