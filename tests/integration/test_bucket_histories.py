"""Claims about many nights of a bucket: crashes, changes and pruning never cost a kept object."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from pgben_tasks import names
from pgben_tasks.adapters.keys.signatures import Trust
from pgben_tasks.adapters.packs.object_writer import SpoolPacks
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import StoreUnavailable
from pgben_tasks.operations.toolbox import Toolbox
from pgben_tasks.ports import FetchedObject
from pgben_tasks.runtime import places
from tests.support.bucketshop import TARGET, BucketShop
from tests.support.installation import Crash
from tests.support.memory_bucket import MemoryBucket
from tests.support.workshop import Workshop

pytestmark = pytest.mark.unmeasured

KIBIBYTE = 1024


class Clock:
    """All clocks of the story, moved by hand."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Fate:
    """Counts what happens, and lets the process die at one moment."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.happened = 0

    def happen(self) -> None:
        self.happened += 1
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Crash("now")


class MortalBucket(MemoryBucket):
    def __init__(self, name: str, fate: Fate) -> None:
        super().__init__(name)
        self.fate = fate
        self.fetched: list[str] = []

    @contextmanager
    def fetch(self, key: str) -> Iterator[FetchedObject]:
        self.fate.happen()
        self.fetched.append(key)
        with super().fetch(key) as got:
            yield got


class MortalStore(DirectoryObjectStore):
    def __init__(self, root: Path, fate: Fate, clock: Clock) -> None:
        super().__init__(root)
        self._fate = fate
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()

    def put(self, key: str, data: bytes) -> None:
        self._fate.happen()
        super().put(key, data)

    def put_file(
        self, key: str, path: Path, *, advance: Callable[[int], None] | None = None
    ) -> None:
        self._fate.happen()
        super().put_file(key, path, advance=advance)
        # … or just after, before anybody heard of it.
        self._fate.happen()


class Story:
    """A bucket, its repository, and what of it should be in which snapshot."""

    def __init__(self, workshop: Workshop) -> None:
        self.fate = Fate()
        self.clock = Clock()
        self.bucket = MortalBucket(TARGET.name, self.fate)
        self.shop = BucketShop(workshop, self.bucket, MemoryBucket)
        work = workshop.work
        assert work.settings.trusted_keys_file is not None
        self.repository = StoreRepository.open(
            MortalStore(workshop.repository, self.fate, self.clock),
            signer=places.signer(work.settings),
            trust=Trust.load(work.settings.trusted_keys_file),
        )
        tools = self.shop.tools
        policy = replace(tools.limits.retention, max_age=timedelta(days=2), brake=Decimal(1))
        self.tools: Toolbox = replace(
            tools,
            repository=self.repository,
            clock=self.clock,
            own_clock=self.clock,
            object_packs=SpoolPacks(tools.objects, pack_size=8 * KIBIBYTE),
            limits=replace(
                tools.limits,
                retention=policy,
                suspect_changed=Decimal(1),
                vacate_share=Decimal("0.5"),
                copy_concurrency=4,
            ),
        )
        self.shop.tools = self.tools
        self.expected: dict[str, dict[str, bytes]] = {}

    def now(self) -> dict[str, bytes]:
        found = {}
        for listed in self.bucket.list():
            with MemoryBucket.fetch(self.bucket, listed.key) as got:
                found[listed.key] = b"".join(got.chunks)
        return found

    def night(self, *, dies_after: int | None = None) -> None:
        """Take a snapshot; a step whose process dies is run again."""
        chain = self.shop.chain("backup")
        self.fate.left = dies_after
        for step in ("snapshot", "copy", "checksum", "upload", "prune", "record"):
            name = f"{names.BACKUP_BUCKET}.{step}"
            try:
                chain.step(name)
            except Crash:
                self.fate.left = None
                chain.step(name)
        self.fate.left = None
        assert chain.job.result["state"] == "verified"
        self.expected[chain.job.backup or ""] = self.now()
        self.clock.ahead += timedelta(days=1)

    def require_kept(self) -> None:
        """Every object of every snapshot that is kept can be read as it was."""
        backups = self.repository.backups(TARGET)
        assert backups
        for backup in backups:
            manifest = self.repository.manifest(TARGET, backup)
            entries = self.shop.entries(manifest)
            expected = self.expected[str(backup)]
            assert set(entries) == set(expected)
            for key, data in expected.items():
                assert self.shop.content(manifest, entries[key]) == data

    def stored(self) -> int:
        return sum(one.size for one in self.repository.packs(TARGET).values())


@pytest.mark.parametrize("seed", range(20))
def test_a_first_snapshot_that_died_anywhere_is_whole_after_it_goes_on(
    workshop: Workshop, seed: int
) -> None:
    chance = random.Random(seed)
    story = Story(workshop)
    for number in range(60):
        story.shop.put(f"doc/{number:03}", chance.randbytes(chance.randrange(0, 2 * KIBIBYTE)))
    story.shop.put("large", chance.randbytes(5_000_000))
    story.night(dies_after=chance.randrange(0, 80))
    story.require_kept()
    again = len(story.bucket.fetched) - len(set(story.bucket.fetched))
    # What was in packs that were open, or on their way: two open, two in flight, 8 KiB each and
    # more, the large object, and as many objects as were being fetched.
    assert again <= 45
    assert story.shop.run("verify", {"level": "full"}).state == "succeeded"


def test_a_pack_is_vacated_and_expires_and_storage_stays_bounded(workshop: Workshop) -> None:
    story = Story(workshop)
    for number in range(200):
        story.shop.put(f"doc/{number:03}", secrets.token_bytes(KIBIBYTE))
    story.night()
    full = story.stored()
    for night in range(15):
        for number in range(20):
            story.shop.put(f"doc/{(night * 20 + number) % 200:03}", secrets.token_bytes(KIBIBYTE))
        story.night()
    story.require_kept()
    assert len(story.repository.backups(TARGET)) < 8
    assert story.stored() < 3 * full
    first = min(story.expected)
    assert not [path for path in story.repository.packs(TARGET) if f"/{first}/" in path]


def test_a_repository_that_is_away_makes_no_object_unreadable(workshop: Workshop) -> None:
    story = Story(workshop)
    for number in range(60):
        story.shop.put(f"doc/{number:03}", secrets.token_bytes(2 * KIBIBYTE))
    chain = story.shop.chain("backup")
    chain.step(names.BACKUP_BUCKET_SNAPSHOT)
    store = story.repository._store

    def away(*_args: object, **_options: object) -> None:
        raise StoreUnavailable("the repository does not answer")

    put_file = store.put_file
    store.put_file = away  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match="the repository"):
        chain.step(names.BACKUP_BUCKET_COPY)
    store.put_file = put_file  # type: ignore[method-assign]
    for step in ("copy", "checksum", "upload", "prune", "record"):
        chain.step(f"{names.BACKUP_BUCKET}.{step}")
    assert chain.job.result["unreadable"] == 0
    assert chain.job.result["objects"] == 60


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 25), st.integers(0, 3000)),
        st.tuples(st.just("delete"), st.integers(0, 25), st.just(0)),
        st.tuples(st.just("night"), st.integers(0, 60), st.integers(0, 1)),
    ),
    min_size=10,
    max_size=30,
)


@given(actions=ACTIONS)
@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_object_of_every_kept_snapshot_can_be_read(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: EmbeddedPostgres,
    actions: list[tuple[str, int, int]],
) -> None:
    folder = tmp_path_factory.mktemp("history")
    with Workshop.open(folder / "shop", postgres, "postgres") as workshop:
        story = Story(workshop)
        for action, number, size in actions:
            if action == "put":
                story.shop.put(f"doc {number}", secrets.token_bytes(size))
            elif action == "delete":
                story.bucket.delete(f"doc {number}")
            else:
                story.night(dies_after=number if size else None)
        story.night()
        story.require_kept()
        assert story.shop.run("verify", {"level": "full"}).state == "succeeded"
