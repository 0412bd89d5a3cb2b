"""A snapshot of one kind of server is given back on another, byte for byte, header for header."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.buckets.uploads import Sizes
from pgben_tasks.adapters.s3.client import S3Request
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import ConfigurationError, IntegrityError
from tests.support.bucket_servers import KEYS, SERVERS, bucket_location
from tests.support.bucketshop import TARGET, BucketShop, contents
from tests.support.workshop import Workshop

MEBIBYTE = 1024 * 1024
SIZES = Sizes(single=5 * MEBIBYTE, part=5 * MEBIBYTE)
TEN = {f"tag {number}": f"é {number}" for number in range(10)}
TEXT = b"o requerente declara " * 400


@pytest.fixture
def shop(
    tmp_path: Path, postgres: EmbeddedPostgres, protected_s3: EmbeddedS3
) -> Iterator[BucketShop]:
    """Protect a bucket of ministack, and restore to moto."""
    bucket = S3Bucket(bucket_location(protected_s3, bucket=TARGET.name), sizes=SIZES)
    with (
        EmbeddedS3.start(kind="moto") as other,
        Workshop.open(tmp_path / "shop", postgres, "postgres") as workshop,
    ):

        def there(name: str) -> S3Bucket:
            return S3Bucket(bucket_location(other, bucket=name), sizes=SIZES)

        bucket.create()
        yield BucketShop(workshop, bucket, there)
        for listed in list(bucket.list()):
            bucket.delete(listed.key)


def test_everything_goes_from_one_kind_of_server_to_another(shop: BucketShop) -> None:
    chance = random.Random(5)
    for name, key in KEYS.items():
        if name not in SERVERS["moto"].bad_keys:
            shop.put(key, name.encode(), metadata={"iv": f"{len(name):024x}"}, tags=TEN)
    headers = {
        "content-type": "application/pdf",
        "cache-control": "private",
        "content-disposition": 'attachment; filename="a b.pdf"',
        "content-language": "pt-BR",
        "expires": "Thu, 01 Dec 2033 16:00:00 GMT",
    }
    shop.put("empty", b"", headers=headers)
    shop.put("parts", chance.randbytes(12 * MEBIBYTE), headers=headers, tags=TEN)
    zipped = {"content-encoding": "gzip", "content-type": "text/plain"}
    shop.put("gzip/true", gzip.compress(TEXT), headers=zipped)
    shop.put("gzip/mislabelled", TEXT, headers=zipped)
    shop.put("gzip/not said", gzip.compress(TEXT), headers={"content-type": "text/plain"})
    shop.put("metadata/long", b"x", metadata={"note": "n" * 1600}, tags=TEN)
    # The bytes of "Relatório" in UTF-8, as a header carries them.
    raw = "Relatório final.pdf".encode().decode("latin-1")
    shop.put("metadata/raw", b"x", metadata={"original-name": raw})
    before = contents(shop.bucket)
    assert len(before) == len(KEYS) - len(SERVERS["moto"].bad_keys) + 7

    shop.snapshot()
    result = shop.run("restore", into="de-volta").result
    assert result["compared"] == len(before)
    assert contents(shop.tools.other_bucket("de-volta")) == before


@pytest.mark.parametrize("in_place", [False, True])
def test_a_key_whose_storing_is_answered_by_not_found_stops_no_other(
    shop: BucketShop, in_place: bool
) -> None:
    refused = KEYS["newline"]
    long = {f"tag {number}": "ç" * 200 for number in range(10)}
    for number, tags in enumerate(({}, {"short": "1"}, long)):
        for size in (10, 6 * MEBIBYTE):
            for key in (f"{number}/{size}", f"{number}/{size}/{refused}"):
                shop.put(key, random.Random(key).randbytes(size), tags=tags)
    shop.snapshot()
    before = contents(shop.bucket)
    into = TARGET.name if in_place else "de-volta"
    asked = {"in_place": True, "confirm": TARGET.name} if in_place else {}
    # Also in place it is the other server.
    shop.tools = replace(shop.tools, other_bucket=cache(shop.make))
    chain = shop.chain("restore", asked, into=into, aside="aside")
    sentence = r"6 of 12 objects .* \(6 × missing\): 6 are not taken by that server"
    with pytest.raises(IntegrityError, match=sentence) as failed:
        chain.run()
    assert refused not in str(failed.value)
    assert chain.job.result["refused"] == 6
    kept = {key: one for key, one in before.items() if refused not in key}
    assert len(kept) == 6
    assert contents(shop.tools.other_bucket(into)) == kept


@pytest.mark.parametrize("key", ["a", KEYS["newline"]])
def test_a_bucket_that_is_gone_when_an_object_is_stored_ends_a_restore(
    shop: BucketShop, key: str
) -> None:
    shop.put(key, b"bytes")
    shop.snapshot()
    chain = shop.chain("restore", into="de-volta")
    there = shop.tools.other_bucket("de-volta")
    there.create()
    assert isinstance(there, S3Bucket)
    put = there.put

    def late(*given: Any, **carried: Any) -> str:
        there._sender.send(S3Request(method="DELETE"))
        return put(*given, **carried)

    there.put = late  # type: ignore[method-assign]
    with pytest.raises(ConfigurationError, match="the bucket of .* does not exist"):
        chain.run()
