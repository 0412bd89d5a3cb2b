"""The audit trail: an unbroken chain in the catalog, each entry signed once in the repository."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from pgben_tasks.adapters.catalog.audit import AuditTrail
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.domain.documents import AuditEntry, Signature
from pgben_tasks.errors import IntegrityError, StoreUnavailable
from tests.support.memory_store import MemoryObjectStore
from tests.support.samples import REPOSITORY, START, keyring


class Office:
    """A trail and the repository that it is copied to; the copying can be made to fail."""

    def __init__(self, catalog: CatalogDatabase) -> None:
        self.catalog = catalog
        self.store = MemoryObjectStore()
        self.signer, self.trust = keyring()
        self.repository = StoreRepository.create(
            self.store, REPOSITORY, START, signer=self.signer, trust=self.trust
        )
        self.trail = self.second_trail(self.repository.audit)

    def second_trail(self, store: Callable[[AuditEntry], str]) -> AuditTrail:
        return AuditTrail(self.catalog, REPOSITORY, store)

    def append(self, **fields: Any) -> None:
        values = {"who": "ana", "action": "backup", "target": "postgres/pgben", "result": "began"}
        self.trail.append(**(values | fields))

    def rows(self) -> list[dict[str, Any]]:
        with self.catalog.transaction() as cursor:
            return cursor.execute("SELECT * FROM audit ORDER BY sequence").fetchall()

    def stored(self) -> list[tuple[str, AuditEntry]]:
        """Return what the repository has: keys and entries, by sequence."""
        found = [
            (one.key, AuditEntry.decode(self.store.get(one.key, limit=10_000), where=one.key))
            for one in self.store.list("audit/")
            if one.key.endswith(".json")
        ]
        return sorted(found, key=lambda pair: pair[1].sequence)


@pytest.fixture
def office(catalog: CatalogDatabase) -> Office:
    return Office(catalog)


def test_each_entry_names_the_digest_of_the_one_before(office: Office) -> None:
    for number in range(5):
        office.append(detail=f"number {number}", backup="b-1", job="j-1")
    assert office.trail.store_missing() == 5
    rows, stored = office.rows(), [entry for _, entry in office.stored()]
    assert [entry.sequence for entry in stored] == [1, 2, 3, 4, 5]
    assert stored[0].previous is None
    for before, after in pairwise(stored):
        assert after.previous == hashlib.sha256(before.encode()).hexdigest()
    for row, entry in zip(rows, stored, strict=True):
        assert row["sha256"] == hashlib.sha256(entry.encode()).hexdigest()
        assert (row["detail"], row["backup"], row["stored"]) == (entry.detail, "b-1", True)


def test_the_copy_in_the_repository_is_signed(office: Office) -> None:
    office.append()
    office.trail.store_missing()
    ((key, entry),) = office.stored()
    assert key == f"audit/{entry.at:%Y}/{entry.at:%m}/1.json"
    signature = Signature.decode(office.store.get(f"{key}.sig", limit=10_000), where=key)
    office.trust.check(
        entry.encode(),
        signature,
        roles=("backup", "maintenance"),
        kind="audit",
        repository=REPOSITORY,
        path=key,
    )


def test_what_was_stored_is_not_stored_again(office: Office) -> None:
    office.append()
    assert office.trail.store_missing() == 1
    assert office.trail.store_missing() == 0
    office.append()
    assert office.trail.store_missing() == 1


def test_a_store_that_is_away_delays_the_copies_and_loses_none(office: Office) -> None:
    def away(entry: AuditEntry) -> str:
        raise StoreUnavailable(f"entry {entry.sequence} is not taken")

    office.append()
    office.append()
    with pytest.raises(StoreUnavailable, match="entry 1"):
        office.second_trail(away).store_missing()
    assert (office.stored(), len(office.rows())) == ([], 2)
    assert office.trail.store_missing() == 2
    assert len(office.stored()) == 2


def test_a_crash_between_the_copy_and_its_note_is_healed(office: Office) -> None:
    class Killed(BaseException):
        pass

    def store_and_die(entry: AuditEntry) -> str:
        office.repository.audit(entry)
        raise Killed

    office.append()
    with pytest.raises(Killed):
        office.second_trail(store_and_die).store_missing()
    assert [row["stored"] for row in office.rows()] == [False]
    before = office.stored()
    assert office.trail.store_missing() == 1
    assert [row["stored"] for row in office.rows()] == [True]
    assert office.stored() == before


def test_entries_written_at_once_make_one_chain(office: Office) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: office.append(detail=str(number)), range(24)))
    rows = office.rows()
    assert [row["sequence"] for row in rows] == list(range(1, 25))
    for before, after in pairwise(rows):
        assert after["previous"] == before["sha256"]
        assert after["at"] >= before["at"]


def test_what_several_write_at_once_is_written_once_and_in_one_transaction(office: Office) -> None:
    said = [f"message {number}" for number in range(50)]

    def write(details: list[str]) -> None:
        office.trail.append_missing(
            details, who="unnamed", action="message", target="*", result="set aside"
        )

    write(said[:10])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: write([*said, said[7]]), range(4)))
    rows = office.rows()
    assert [row["detail"] for row in rows] == said
    assert [row["previous"] for row in rows] == [None, *(row["sha256"] for row in rows[:-1])]
    transactions = "SELECT count(DISTINCT xmin::text) AS n FROM audit"
    assert office.catalog.fetch_all(transactions) == [{"n": 2}], "each commit waits for the disk"


def test_many_that_copy_at_once_store_every_entry_once(office: Office) -> None:
    for _ in range(6):
        office.append()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: office.trail.store_missing(), range(6)))
    assert all(row["stored"] for row in office.rows())
    assert [entry.sequence for _, entry in office.stored()] == [1, 2, 3, 4, 5, 6]


def test_a_copy_that_appears_between_look_and_write_is_fine_when_it_is_the_same(
    office: Office,
) -> None:
    class Overtaken(MemoryObjectStore):
        """Somebody stores the document just before we do."""

        def put(self, key: str, data: bytes) -> None:
            if key.startswith("audit/") and key.endswith(".json"):
                super().put(key, self.others.pop(key, data))
            super().put(key, data)

        others: dict[str, bytes] = {}  # noqa: RUF012 - one instance only

    store = Overtaken()
    repository = StoreRepository.create(
        store, REPOSITORY, START, signer=office.signer, trust=office.trust
    )
    office.append()
    assert office.second_trail(repository.audit).store_missing() == 1
    office.append()
    ((key, other),) = [
        (f"audit/{row['at']:%Y}/{row['at']:%m}/2.json", b"{}") for row in office.rows()[1:]
    ]
    store.others[key] = other
    with pytest.raises(IntegrityError, match="entry 2 is not the catalog's"):
        office.second_trail(repository.audit).store_missing()
    assert [row["stored"] for row in office.rows()] == [True, False]


def test_an_entry_that_was_changed_in_the_catalog_is_never_signed(
    office: Office, alter: Callable[..., None]
) -> None:
    office.append(who="ana")
    alter("UPDATE audit SET who = 'bia'")
    with pytest.raises(IntegrityError, match="entry 1 was changed"):
        office.trail.store_missing()
    assert office.stored() == []


def test_a_long_detail_is_cut_and_not_refused(office: Office) -> None:
    office.append(detail="x" * 5000)
    assert office.trail.store_missing() == 1
    assert len(office.stored()[0][1].detail) == 2000
