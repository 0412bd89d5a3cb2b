"""Claims about restoring objects in place on a real server: strange keys, parts, ten tags."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.adapters.bucket import S3Bucket
from pgben_tasks.adapters.bucket.uploads import Sizes
from pgben_tasks.adapters.s3_sender import S3Request
from pgben_tasks.adapters.s3_xml import text_of
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.s3 import EmbeddedS3
from tests.bucket_servers import KEYS, bucket_location
from tests.bucketshop import TARGET, BucketShop, contents
from tests.workshop import Workshop

MEBIBYTE = 1024 * 1024
LARGE = "large/in parts.bin"
SIZES = Sizes(single=5 * MEBIBYTE, part=5 * MEBIBYTE)


@pytest.fixture
def shop(
    tmp_path: Path, postgres: EmbeddedPostgres, protected_s3: EmbeddedS3
) -> Iterator[BucketShop]:
    def at(name: str) -> S3Bucket:
        return S3Bucket(bucket_location(protected_s3, bucket=name), page=7, sizes=SIZES)

    with Workshop.open(tmp_path / "shop", postgres, "postgres") as workshop:
        shop = BucketShop(workshop, at(TARGET.name), at)
        shop.bucket.create()
        yield shop
        for listed in list(shop.bucket.list()):
            shop.bucket.delete(listed.key)


def test_strange_keys_parts_and_all_tags_come_back_and_lie_aside(shop: BucketShop) -> None:
    chance = random.Random(3)
    ten = {f"tag {number}": f"é {number}" for number in range(10)}
    for what, key in KEYS.items():
        data = chance.randbytes(chance.randrange(0, 3000))
        metadata = {"iv": f"{len(what):032x}", "note": "x" * 1500}
        headers = {"content-type": "text/plain", "content-encoding": "gzip"}
        shop.put(key, data, headers=headers, metadata=metadata, tags=ten)
    shop.put(LARGE, chance.randbytes(12 * MEBIBYTE), metadata={"iv": "1"}, tags={"a": "b"})
    shop.put("kept", b"as it is", metadata={"iv": "2"})
    shop.snapshot()
    before = contents(shop.bucket)

    for key in KEYS.values():
        shop.put(key, b"locked", metadata={"pay": "now"}, tags={"locked": "yes"})
    shop.put(LARGE, chance.randbytes(11 * MEBIBYTE), headers={"cache-control": "no-store"})
    shop.put("extra/é", b"uploaded since", tags=ten)
    ruined = contents(shop.bucket)
    result = shop.run(
        "restore",
        {"in_place": True, "confirm": TARGET.name, "delete_extra": True},
        into=TARGET.name,
        aside="documentos-aside-20261126-020000",
    ).result
    assert contents(shop.bucket) == before
    aside = contents(shop.tools.other_bucket(result["aside"]))
    assert aside == {key: what for key, what in ruined.items() if key != "kept"}
    assert (result["written"], result["already_same"]) == (len(KEYS) + 1, 1)
    assert result["deleted"] == 1


class Disturbed(S3Bucket):
    """A bucket in which something happens while the first bytes of an object are uploaded."""

    meanwhile: Callable[[], None] | None = None

    def put(self, key: str, chunks: Iterator[bytes], **carried: Any) -> str:
        def disturbed() -> Iterator[bytes]:
            for chunk in chunks:
                happens, self.meanwhile = self.meanwhile, None
                if happens is not None:
                    happens()
                yield chunk

        return super().put(key, disturbed(), **carried)


@pytest.mark.parametrize("gone", [True, False])
def test_what_is_stored_while_parts_are_uploaded_is_not_lost(shop: BucketShop, gone: bool) -> None:
    data = random.Random(5).randbytes(12 * MEBIBYTE)
    shop.put(LARGE, data, metadata={"iv": "1"}, tags={"a": "b"})
    shop.snapshot()
    shop.bucket.delete(LARGE)
    if not gone:
        shop.put(LARGE, b"locked", metadata={"pay": "now"})
    where = shop.bucket._where  # type: ignore[attr-defined]
    live = Disturbed(where, sizes=SIZES)
    live.meanwhile = lambda: shop.put(LARGE, b"stored just now", tags={"late": "yes"})
    other = shop.tools.other_bucket
    shop.tools = replace(
        shop.tools, other_bucket=lambda name: live if name == TARGET.name else other(name)
    )
    result = shop.run(
        "restore",
        {"in_place": True, "confirm": TARGET.name},
        into=TARGET.name,
        aside=f"documentos-aside-{secrets.token_hex(4)}",
    ).result
    assert contents(shop.bucket)[LARGE][0] == data
    kept = [result["aside"], *result["aside_further"]]
    copies = [contents(other(name))[LARGE] for name in kept]
    assert [copy[0] for copy in copies] == [*([] if gone else [b"locked"]), b"stored just now"]
    assert copies[-1][3] == {"late": "yes"}
    # The upload that was forbidden at its end left nothing.
    assert unfinished(live) == []


def unfinished(bucket: S3Bucket) -> list[str]:
    """Give the keys of the uploads that nobody ended."""
    request = S3Request(method="GET", query={"uploads": ""})
    found = bucket._sender.xml(request, "ListMultipartUploadsResult")
    return [text_of(one, "Key") for one in found.iterfind("Upload")]


def test_a_copy_of_an_object_stored_anew_in_other_parts_is_the_same(shop: BucketShop) -> None:
    data = random.Random(4).randbytes(12 * MEBIBYTE)
    shop.put(LARGE, data, metadata={"iv": "1"})
    shop.snapshot()
    # Other parts give another etag for the same bytes.
    other = replace(SIZES, part=6 * MEBIBYTE)
    bucket = S3Bucket(shop.bucket._where, sizes=other)  # type: ignore[attr-defined]
    bucket.put(LARGE, iter([data]), size=len(data), headers={}, metadata={"iv": "1"}, tags={})
    result = shop.run(
        "restore", {"in_place": True, "confirm": TARGET.name}, into=TARGET.name, aside="not-made"
    ).result
    assert (result["already_same"], result["written"], result["aside"]) == (1, 0, None)
