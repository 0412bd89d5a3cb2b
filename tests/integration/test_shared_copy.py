"""Claims about a copy that several workers share; real ledger, locks, repository; threads die."""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import cast

import pytest
from structlog.testing import capture_logs

from pgben_tasks import canvases, names
from pgben_tasks.adapters.catalog.locks import holding, is_free, job_lock
from pgben_tasks.adapters.catalog.shards import shard_lock, shard_step
from pgben_tasks.adapters.keys.signatures import Trust
from pgben_tasks.adapters.repository.repository import StoreRepository
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON, JobRef, request_model
from pgben_tasks.domain.buckets.shard import PACKS_EACH, Counts, Shard, divided, pack_numbers
from pgben_tasks.domain.documents import StoredFile
from pgben_tasks.domain.layout import is_shard_file
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.errors import FenceLost
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets import sharding
from pgben_tasks.operations.snapshot_files import ToFetch
from pgben_tasks.operations.toolbox import NoProgress, Run, Toolbox
from pgben_tasks.ports import Bucket, FetchedObject, Sharing
from pgben_tasks.runtime import Workplace, places
from pgben_tasks.tasks.heartbeat import Heartbeat
from pgben_tasks.tasks.sharing import LedgerSharing, SharedTask
from tests.support.bucketshop import TARGET, BucketShop
from tests.support.installation import Chain, Crash, OwnRow, WatchedStore
from tests.support.memory_bucket import MemoryBucket
from tests.support.workshop import Workshop

_SHARD = 7
_WAIT = timedelta(minutes=30)


class Fate:
    """Counts what a worker does, and lets it die, or something else happen, at one moment."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.then: Callable[[], None] = self.die
        self._lock = threading.Lock()

    def die(self) -> None:
        raise Crash("now")

    def happen(self) -> None:
        with self._lock:
            if self.left is None:
                return
            self.left -= 1
            due = self.left < 0
            if due and self.then != self.die:
                self.left = None
        if due:
            self.then()


class Seen:
    """The one bucket as one worker sees it."""

    def __init__(self, bucket: MemoryBucket, fate: Fate, fetched: list[str]) -> None:
        self._bucket = bucket
        self._fate = fate
        self._fetched = fetched

    def __getattr__(self, name: str) -> object:
        return getattr(self._bucket, name)

    @contextmanager
    def fetch(self, key: str) -> Iterator[FetchedObject]:
        self._fate.happen()
        self._fetched.append(key)
        with self._bucket.fetch(key) as got:
            yield got


@dataclass
class Worker:
    """A worker with a spool of its own."""

    tools: Toolbox
    fate: Fate
    shop: BucketShop

    def sharing(self, ref: JobRef) -> LedgerSharing:
        work = self.shop.shop.work
        made = LedgerSharing(work, ref, lambda _held, _n: nullcontext(NoProgress()))
        made._values["node"] = self.tools.node
        return made

    def help(self, ref: JobRef) -> JSON:
        ledger = self.shop.shop.work.ledger
        folder = self.tools.spool / "help"
        spool.fresh(folder)
        run = Run(
            job=ledger.job(ref.job),
            ledger=OwnRow(ledger, ref),
            progress=NoProgress(),
            folder=folder,
            try_lock=lambda _kind: nullcontext(False),  # noqa: FBT003
        )
        return sharding.help_out(run, self.tools, self.sharing(ref))


@dataclass
class City:
    """A bucket, and workers that protect it."""

    shop: BucketShop
    bucket: MemoryBucket
    objects: dict[str, bytes] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)

    def fill(self, chance: random.Random, count: int = 50) -> None:
        for number in range(count):
            self.objects[f"doc/{number:03}"] = chance.randbytes(chance.randrange(0, 3000))
        self.objects["doc/large"] = chance.randbytes(5_000_000)
        for key, data in self.objects.items():
            self.shop.put(key, data)

    def worker(self, node: str) -> Worker:
        tools = self.shop.tools
        settings = self.shop.shop.work.settings
        assert settings.trusted_keys_file is not None
        fate = Fate()
        store = WatchedStore(self.shop.shop.repository)
        store.before = store.after = lambda _key: fate.happen()
        repository = StoreRepository.open(
            store, signer=places.signer(settings), trust=Trust.load(settings.trusted_keys_file)
        )
        seen = cast("Bucket", Seen(self.bucket, fate, self.fetched))
        limits = replace(
            tools.limits, shard_objects=_SHARD, suspect_changed=Decimal(1), copy_concurrency=2
        )
        return Worker(
            tools=replace(
                tools,
                node=node,
                spool=self.shop.shop.folder / f"spool-{node}",
                buckets={TARGET: seen},
                repository=repository,
                limits=limits,
            ),
            fate=fate,
            shop=self.shop,
        )

    def begin(self, worker: Worker) -> Chain:
        """Ask for a snapshot, let ``worker`` claim it and list the bucket."""
        ledger = self.shop.shop.work.ledger
        request = request_model("backup", str(TARGET)).parse({"target": str(TARGET)})
        job, _ = ledger.request(
            "backup",
            target=str(TARGET),
            key=secrets.token_hex(8),
            request=request.model_dump(mode="json"),
            requested_by="test",
        )
        ref = ledger.claim(
            job.id,
            node=worker.tools.node,
            first_step=canvases.first_step(job.chain),
            lease=(str(TARGET), "write"),
            context={},
            root_task="root",
            wait=_WAIT,
        )
        chain = Chain(tools=worker.tools, ledger=ledger, ref=ref, sharing=worker.sharing)
        chain.step()
        return chain

    def require_whole(self, chain: Chain) -> None:
        """Let the chain end; what was kept is what there was."""
        job = chain.rest()
        assert job.result["state"] == "verified"
        manifest = self.shop.manifest(job)
        entries = self.shop.entries(manifest)
        assert set(entries) == set(self.objects)
        for key, data in self.objects.items():
            assert self.shop.content(manifest, entries[key]) == data
        assert not list(self.shop.tools.repository.stray(TARGET))


@pytest.fixture
def city(workshop: Workshop) -> City:
    app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    bucket = MemoryBucket(TARGET.name)
    return City(BucketShop(workshop, bucket, MemoryBucket), bucket)


def cut_lock_sessions(work: Workplace) -> None:
    """Let every session that holds locks lose its connection."""
    with work.database.transaction() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'pgben lock' AND datname = current_database()"
        )


def shares(chain: Chain) -> dict[str, str]:
    """Return who copied which shard."""
    steps = chain.ledger.steps(chain.ref.job, shards=True)
    mark = shard_step(names.BACKUP_BUCKET_COPY, 0)[:-1]
    return {one.name: one.node for one in steps if one.name.startswith(mark)}


def test_two_workers_share_a_copy(city: City) -> None:
    city.fill(random.Random(1))
    first, second = city.worker("first"), city.worker("second")
    chain = city.begin(first)
    with ThreadPoolExecutor(1) as pool:
        helped: list[JSON] = []
        running = threading.Event()

        def let_help() -> None:
            pool.submit(lambda: helped.append(second.help(chain.ref)))
            running.set()

        # The first waits within its first shard until the second has taken one. To offer the
        # eight shards is sixteen moments.
        def wait_for_the_other() -> None:
            let_help()
            deadline = threading.Event()
            while "second" not in shares(chain).values():
                assert not deadline.wait(0.05)

        first.fate.left, first.fate.then = 18, wait_for_the_other
        chain.step()
    assert set(shares(chain).values()) == {"first", "second"}
    assert helped[0]["shards"] >= 1
    assert sorted(city.fetched) == sorted(city.objects)
    assert chain.job.result["fetched"] == len(city.objects)
    city.require_whole(chain)


def test_a_worker_without_help_copies_every_shard(city: City) -> None:
    city.fill(random.Random(2))
    chain = city.begin(city.worker("alone"))
    chain.step()
    assert len(shares(chain)) == -(-len(city.objects) // _SHARD)
    # To people it is one step.
    assert [one.name for one in chain.ledger.steps(chain.ref.job)] == [
        names.BACKUP_BUCKET_SNAPSHOT,
        names.BACKUP_BUCKET_COPY,
    ]
    city.require_whole(chain)


def test_a_copy_of_one_shard_is_not_shared(city: City) -> None:
    city.fill(random.Random(3), count=_SHARD - 1)
    chain = city.begin(city.worker("alone"))
    chain.step()
    assert shares(chain) == {}
    assert not city.shop.tools.repository.shard_files(TARGET)
    city.require_whole(chain)


@pytest.mark.parametrize("seed", range(10))
def test_a_helper_that_dies_anywhere_costs_no_object(city: City, seed: int) -> None:
    chance = random.Random(seed)
    city.fill(chance)
    first, second = city.worker("first"), city.worker("second")
    chain = city.begin(first)
    # The first offers the shards, and dies at once; the second copies some, and dies in mid-shard.
    first.fate.left = 40 + chance.randrange(30)
    with pytest.raises(Crash):
        chain.step()
    second.fate.left = chance.randrange(40)
    with pytest.raises(Crash):
        second.help(chain.ref)
    first.fate.left = None
    chain.step()
    again = len(city.fetched) - len(set(city.fetched))
    # Each death costs what was in packs that were open or on their way, within one shard.
    assert again <= 2 * _SHARD
    city.require_whole(chain)


@pytest.mark.parametrize("seed", range(5))
def test_a_helper_goes_on_where_the_first_one_died(city: City, seed: int) -> None:
    chance = random.Random(seed)
    city.fill(chance)
    first, second = city.worker("first"), city.worker("second")
    chain = city.begin(first)
    first.fate.left = 35 + chance.randrange(30)
    with pytest.raises(Crash):
        chain.step()
    helped = second.help(chain.ref)
    assert helped["shards"] >= 1
    first.fate.left = 0
    # All is stored: the first has only to gather it, and reads no object.
    before = len(city.fetched)
    first.fate.left = None
    chain.step()
    assert len(city.fetched) == before
    city.require_whole(chain)


def test_a_helper_of_a_job_that_changed_hands_stops(city: City) -> None:
    city.fill(random.Random(4))
    first, second = city.worker("first"), city.worker("second")
    chain = city.begin(first)
    stale = chain.ref
    first.fate.left = 40
    with pytest.raises(Crash):
        chain.step()
    first.fate.left = None

    def take_over() -> None:
        chain.ref = chain.ledger.begin_step(chain.ref, names.BACKUP_BUCKET_COPY, node="first")

    second.fate.left, second.fate.then = 5, take_over
    with pytest.raises(FenceLost):
        second.help(stale)
    with pytest.raises(FenceLost):
        second.help(stale)
    city.require_whole(chain)


def test_a_shard_whose_lock_was_lost_is_held_again(city: City) -> None:
    """Another that took it meanwhile would number its packs alike."""
    city.fill(random.Random(3))
    owner = city.worker("owner")
    chain = city.begin(owner)
    work = city.shop.shop.work
    lock = shard_lock(chain.ref.job, 1)
    missed = []

    def cut_off() -> None:
        missed.append(not is_free(work.database, lock))
        cut_lock_sessions(work)
        missed.append(wait_until(lambda: is_free(work.database, lock), seconds=5))
        missed.append(wait_until(lambda: not is_free(work.database, lock), seconds=25))

    with ExitStack() as stack:
        held = stack.enter_context(holding(work.database, [job_lock(chain.ref.job)]))

        def sharing(ref: JobRef) -> Sharing:
            step = names.BACKUP_BUCKET_COPY
            pulse = Heartbeat(work.ledger, held, ref, step, show=lambda _progress: None)
            task = cast("SharedTask", SimpleNamespace(work=work))
            return SharedTask.sharing(task, ref, stack.enter_context(pulse))

        chain.sharing = sharing
        owner.fate.left, owner.fate.then = 18, cut_off
        chain.step()
    assert missed == [True, True, True]
    city.require_whole(chain)


def test_a_heartbeat_that_comes_late_leaves_what_a_shard_counted(city: City) -> None:
    city.fill(random.Random(4))
    chain = city.begin(city.worker("owner"))
    work = city.shop.shop.work
    late: list[int] = []

    class Late(LedgerSharing):
        def end(self, n: int, counts: Counts) -> None:
            super().end(n, counts)
            step = shard_step(names.BACKUP_BUCKET_COPY, n)
            work.ledger.heartbeat(self.ref, step, {"phase": "copy", "done": n})
            late.append(n)

    chain.sharing = lambda ref: Late(work, ref, lambda _held, _n: nullcontext(NoProgress()))
    chain.step()
    assert len(late) > 1
    city.require_whole(chain)


@pytest.mark.parametrize("moment", [17, 20, 22, 24])
def test_a_shard_that_another_took_meanwhile_is_given_up(city: City, moment: int) -> None:
    """The owner's lock was lost with its session, and it works on, not knowing."""
    city.fill(random.Random(moment))
    owner, helper = city.worker("owner"), city.worker("helper")
    chain = city.begin(owner)
    work = city.shop.shop.work
    helped: list[JSON] = []

    def lose_it() -> None:
        cut_lock_sessions(work)
        assert wait_until(lambda: is_free(work.database, shard_lock(chain.ref.job, 1)), seconds=5)
        helped.append(helper.help(chain.ref))

    owner.fate.left, owner.fate.then = moment, lose_it
    chain.step()
    assert helped == [{"shards": 8}]
    assert set(shares(chain).values()) == {"helper"}
    city.require_whole(chain)


def test_a_lost_shard_leaves_nothing_behind_that_the_next_one_relies_on(city: City) -> None:
    """Equal bytes of the next shard must not be said to lie in a pack that was given up."""
    city.objects = dict.fromkeys((f"doc/{number:03}" for number in range(40)), b"the same bytes")
    for key, data in city.objects.items():
        city.shop.put(key, data)
    owner, other = city.worker("owner"), city.worker("other")
    chain = city.begin(owner)
    work = city.shop.shop.work

    def lose_it() -> None:
        cut_lock_sessions(work)
        assert wait_until(lambda: is_free(work.database, shard_lock(chain.ref.job, 1)), seconds=5)
        with other.sharing(chain.ref).take(1) as taken:
            assert taken is not None

    owner.fate.left, owner.fate.then = 15, lose_it
    with capture_logs() as logs:
        chain.step()
    assert [one["event"] for one in logs].count("shard_lost") == 1
    city.require_whole(chain)


def test_what_workers_left_for_each_other_is_swept(city: City) -> None:
    city.fill(random.Random(5))
    chain = city.begin(city.worker("alone"))
    chain.step()
    city.require_whole(chain)
    files = city.shop.tools.repository.shard_files(TARGET)
    assert files
    assert all(is_shard_file(key) for key in files)
    for key in files:
        city.shop.tools.repository.remove_shard_file(key)
    assert city.shop.run("verify", {"level": "full"}).state == "succeeded"


def test_shards_are_bounded_in_count_and_bytes() -> None:
    items = [ToFetch(key=str(n), size=size) for n, size in enumerate([5, 5, 1, 1, 1, 1, 30, 2])]
    shards = [[item.size for item in shard] for shard in divided(items, objects=3, size=10)]
    assert not list(divided([], objects=3, size=10))
    assert shards == [[5, 5], [1, 1, 1], [1], [30], [2]]


def test_who_takes_a_shard_numbers_apart_from_those_who_had_it() -> None:
    file = StoredFile(path="backups/bucket/docs/x/shards/1.jsonl", size=1, sha256="0" * 64)
    shards = [
        Shard(n=n, objects=5000, bytes=1, wanted=file, claim=claim)
        for n in (1, 2)
        for claim in range(1, 17)
    ]
    numbers = [number for shard in shards for number in pack_numbers(shard)]
    assert len(numbers) == len(set(numbers))
    assert all(len(pack_numbers(shard)) > 5000 for shard in shards)
    assert min(numbers) > PACKS_EACH
    assert max(numbers) <= 3 * PACKS_EACH
