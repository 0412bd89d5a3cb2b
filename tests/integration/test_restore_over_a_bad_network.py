"""Claims about restores over a network that cuts connections, and to servers that fail in part."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest

from pgben_tasks import names
from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.buckets.uploads import Sizes
from pgben_tasks.adapters.packs.object_writer import SpoolPacks
from pgben_tasks.direct import chain as in_process
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import StoreUnavailable
from pgben_tasks.operations.buckets.patience import Patience
from tests.support.between import Cutting
from tests.support.bucket_servers import bucket_location
from tests.support.bucketshop import TARGET, BucketShop, contents
from tests.support.memory_bucket import MemoryBucket
from tests.support.workshop import Workshop

MEBIBYTE = 1024 * 1024
SIZES = Sizes(single=5 * MEBIBYTE, part=5 * MEBIBYTE)
PATIENCE = timedelta(seconds=20)
IN_PLACE = {"in_place": True, "confirm": TARGET.name}


@pytest.fixture
def network(protected_s3: EmbeddedS3) -> Cutting:
    return Cutting(protected_s3.endpoint, share=0.4, seed=20261129)


@pytest.fixture
def shop(workshop: Workshop, protected_s3: EmbeddedS3) -> Iterator[BucketShop]:
    """Protect a bucket with small objects, one that is streamed and one that goes in parts."""

    def at(name: str) -> S3Bucket:
        return S3Bucket(bucket_location(protected_s3, bucket=name), sizes=SIZES)

    shop = BucketShop(workshop, at(TARGET.name), at)
    shop.bucket.create()
    chance = random.Random(1)
    for number in range(24):
        tags = {"setor": "social"} if number % 2 else {}
        shop.put(f"cidadao/{number}", chance.randbytes(chance.randrange(20_000)), tags=tags)
    shop.put("streamed", chance.randbytes(int(4.5 * MEBIBYTE)))
    shop.put("in parts", chance.randbytes(6 * MEBIBYTE), tags={"a": "b"})
    yield shop
    for listed in list(shop.bucket.list()):
        shop.bucket.delete(listed.key)


def through(shop: BucketShop, server: EmbeddedS3, endpoint: str) -> Callable[[str], S3Bucket]:
    """Let the shop persist for as long as it would in production, nearly; return its buckets."""
    limits = replace(shop.tools.limits, patience=PATIENCE)
    shop.tools = replace(shop.tools, limits=limits)

    @cache
    def at(name: str) -> S3Bucket:
        where = bucket_location(server, bucket=name, endpoint=endpoint, patience=PATIENCE)
        return S3Bucket(where, sizes=SIZES)

    return at


def require_bad(network: Cutting) -> None:
    assert network.exchanges > 100
    assert network.cut > network.exchanges * 0.3


@pytest.mark.parametrize("in_place", [False, True])
def test_a_restore_goes_on_where_two_of_five_connections_are_cut(
    shop: BucketShop, protected_s3: EmbeddedS3, network: Cutting, *, in_place: bool
) -> None:
    before = contents(shop.bucket)
    shop.snapshot()
    if in_place:
        for number in range(5):
            shop.put(f"cidadao/{number}", b"ruined")
        for number in range(10, 13):
            shop.bucket.put_tags(f"cidadao/{number}", {"x": "y"})
        shop.put("in parts", b"ruined")
    direct = shop.tools.other_bucket
    name = f"documentos-{secrets.token_hex(4)}"
    with network.open() as endpoint:
        other_bucket = through(shop, protected_s3, endpoint)
        shop.tools = replace(shop.tools, other_bucket=other_bucket)
        # No step is begun again here.
        if in_place:
            result = shop.run("restore", IN_PLACE, into=TARGET.name, aside=name).result
            assert result["aside_objects"] == 9
        else:
            result = shop.run("restore", into=name).result
    require_bad(network)
    assert (result["compared"], result["state"]) == (len(before), "restored")
    assert contents(direct(TARGET.name if in_place else name)) == before


def test_a_backup_misses_no_object_where_two_of_five_connections_are_cut(
    shop: BucketShop, protected_s3: EmbeddedS3, network: Cutting
) -> None:
    for number in range(8):
        shop.put(f"streamed/{number}", random.Random(number).randbytes(int(4.2 * MEBIBYTE)))
    before = contents(shop.bucket)
    with network.open() as endpoint:
        bucket = through(shop, protected_s3, endpoint)(TARGET.name)
        shop.tools = replace(shop.tools, buckets={TARGET: bucket})
        manifest = shop.snapshot()
    require_bad(network)
    entries = shop.entries(manifest)
    assert {key: entry.error for key, entry in entries.items()} == dict.fromkeys(before)
    assert shop.content(manifest, entries["streamed/7"]) == before["streamed/7"][0]


def test_time_in_which_nothing_was_tried_is_no_failure() -> None:
    """A pack that is fetched for longer than the period is followed by one passing error."""
    period = timedelta(milliseconds=200)
    patience = Patience(period, at_once=4, check=lambda: None)
    threading.Event().wait(1.5 * period.total_seconds())
    tried: Counter[int] = Counter()

    def once_in_vain(item: int) -> int:
        tried[item] += 1
        if tried[item] == 1:
            raise StoreUnavailable("away for a moment")
        return item

    with ThreadPoolExecutor(2) as pool:
        assert patience.each(pool, once_in_vain, [1, 2, 3]) == [1, 2, 3]


class Failing(MemoryBucket):
    """A bucket in which storing some keys fails, as a server does that answers 503 to it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.fails: Callable[[str], bool] = lambda _key: False
        self.answers = True
        self.tried: Counter[str] = Counter()

    def exists(self) -> bool:
        if not self.answers:
            raise StoreUnavailable("away")
        return True

    def put(self, key: str, chunks: Iterator[bytes], **carried: object) -> str:
        self.tried[key] += 1
        if self.fails(key):
            raise StoreUnavailable(f"'{key}' is answered by 503")
        return super().put(key, chunks, **carried)  # type: ignore[arg-type]


@pytest.fixture
def failing(workshop: Workshop) -> tuple[BucketShop, Failing]:
    shop = BucketShop(workshop, MemoryBucket(TARGET.name), Failing)
    tools = shop.tools
    shop.tools = replace(
        tools,
        object_packs=SpoolPacks(tools.objects, pack_size=2048),
        limits=replace(tools.limits, copy_concurrency=4, patience=timedelta(milliseconds=300)),
    )
    for number in range(60):
        shop.put(f"cidadao/{number}", random.Random(number).randbytes(400))
    manifest = shop.snapshot()
    assert len(manifest.packs) > 5
    there = shop.tools.other_bucket("de-volta")
    assert isinstance(there, Failing)
    return shop, there


def copying(shop: BucketShop) -> in_process.Chain:
    chain = shop.chain("restore", into="de-volta")
    for step in (names.RESTORE_BUCKET_SELECT, names.RESTORE_BUCKET_PLAN):
        chain.step(step)
    return chain


def test_an_object_that_keeps_failing_lets_all_others_come_back_first(
    failing: tuple[BucketShop, Failing],
) -> None:
    shop, there = failing
    there.fails = lambda key: key == "cidadao/7"
    chain = copying(shop)
    with pytest.raises(
        StoreUnavailable, match=r"^objects that could not be stored in memory:.*: 1\n"
    ) as no:
        chain.step(names.RESTORE_BUCKET_COPY)
    assert "cidadao" not in str(no.value)
    before = contents(shop.bucket)
    assert contents(there) == {key: one for key, one in before.items() if key != "cidadao/7"}
    assert there.tried["cidadao/7"] > 2
    there.fails = lambda _key: False
    there.tried.clear()
    chain.step(names.RESTORE_BUCKET_COPY)
    # What is there is compared, not stored again.
    assert there.tried == {"cidadao/7": 1}
    chain.step(names.RESTORE_BUCKET_FINISH)
    assert contents(there) == before


@pytest.mark.parametrize("answers", [False, True])
def test_a_server_that_takes_nothing_any_more_is_given_up(
    failing: tuple[BucketShop, Failing], *, answers: bool
) -> None:
    shop, there = failing
    chain = copying(shop)
    began = time.monotonic()

    def dies(_key: str) -> bool:
        if len(there.tried) <= 20:
            return False
        there.answers = answers
        return True

    there.fails = dies
    with pytest.raises(StoreUnavailable):
        chain.step(names.RESTORE_BUCKET_COPY)
    # A pack or two were tried, by no means all of them.
    assert len(there.tried) < 45
    assert time.monotonic() - began < 10


def test_what_was_read_of_an_object_that_is_tried_again_is_counted_once(
    failing: tuple[BucketShop, Failing],
) -> None:
    shop, there = failing
    counted: list[int] = []
    put = MemoryBucket.put

    def late(key: str, chunks: Iterator[bytes], **carried: object) -> str:
        there.tried[key] += 1
        data = list(chunks)
        if there.tried[key] < 3 and key.endswith("7"):
            raise StoreUnavailable("away")
        return put(there, key, iter(data), **carried)  # type: ignore[arg-type]

    there.put = late  # type: ignore[method-assign]
    chain = copying(shop)
    chain.progress.advance = counted.append  # type: ignore[method-assign,assignment]
    chain.step(names.RESTORE_BUCKET_COPY)
    assert sum(counted) == 60 * 400
