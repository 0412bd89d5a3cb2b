"""Claims about servers that keep no tags of objects: comparing and restoring work there."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.buckets.uploads import Sizes
from pgben_tasks.domain.buckets.restore_plan import KeyChoice, Verdict
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import IntegrityError
from pgben_tasks.operations.buckets.compare import compare_live
from pgben_tasks.operations.buckets.restoring import capture_of
from pgben_tasks.ports import Bucket
from tests.support.bucket_servers import bucket_location
from tests.support.bucketshop import TARGET, BucketShop
from tests.support.timetables import Later
from tests.support.workshop import Workshop

MEBIBYTE = 1024 * 1024
SIZES = Sizes(single=5 * MEBIBYTE, part=5 * MEBIBYTE)
ASIDE = "documentos-aside-20261126-020000"
LARGE = "grande/em partes.bin"
LONG = "etiquetas/longas.txt"
#: More than a header takes.
LONG_TAGS = {f"tag {number}": "ç" * 200 for number in range(10)}
BYTES = {f"cidadao/{number:03}/rg.jpg": f"bytes {number}".encode() * 9 for number in range(12)}

At = Callable[[str], Bucket]
Open = Callable[[At, At], BucketShop]


def server(of: EmbeddedS3) -> At:
    return lambda name: S3Bucket(bucket_location(of, bucket=name), page=7, sizes=SIZES)


@pytest.fixture
def open_shop(workshop: Workshop) -> Iterator[Open]:
    """Protect a bucket of the first server, with documents; restores write to the second."""
    made: list[Bucket] = []

    def at_all(there: At, name: str) -> Bucket:
        made.append(there(name))
        return made[-1]

    def start(here: At, there: At) -> BucketShop:
        shop = BucketShop(workshop, here(TARGET.name), lambda name: at_all(there, name))
        others: dict[str, Bucket] = {}
        shop.tools = replace(
            shop.tools,
            # What was just stored has been there for long.
            clock=Later(shop.tools.clock, timedelta(hours=1)),
            other_bucket=lambda name: others.setdefault(name, at_all(there, name)),
        )
        made.append(shop.bucket)
        shop.bucket.create()
        for number, (key, data) in enumerate(BYTES.items()):
            tags = {"setor": "social"} if number % 2 else {}
            shop.put(key, data, metadata={"iv": f"{number:032x}"}, tags=tags)
        shop.put(LARGE, large(), tags={"a": "b"})
        shop.put(LONG, b"as it is", tags=LONG_TAGS)
        return shop

    yield start
    for bucket in made:
        if bucket.exists():
            for listed in list(bucket.list()):
                bucket.delete(listed.key)


def large() -> bytes:
    return random.Random(7).randbytes(11 * MEBIBYTE)


def data_in(bucket: Bucket) -> dict[str, bytes]:
    found = {}
    for listed in bucket.list():
        with bucket.fetch(listed.key) as got:
            found[listed.key] = b"".join(got.chunks)
    return found


ALL = {**BYTES, LARGE: large(), LONG: b"as it is"}
IN_PLACE = {"in_place": True, "confirm": TARGET.name}


def diff(shop: BucketShop) -> list[Verdict]:
    (backup,) = shop.tools.repository.backups(TARGET)
    manifest = shop.tools.repository.manifest(TARGET, backup)
    folder = shop.shop.folder / "diff"
    folder.mkdir(exist_ok=True)
    shop.entries(manifest)
    lines = shop.shop.folder / "opened" / "lines"
    live, capture = shop.tools.other_bucket(TARGET.name), capture_of(manifest)
    return list(compare_live(shop.tools, live, capture, lines, KeyChoice(), folder))


def test_what_is_kept_without_tags_is_compared_and_comes_back(
    open_shop: Open, repository_s3: EmbeddedS3
) -> None:
    shop = open_shop(server(repository_s3), server(repository_s3))
    assert data_in(shop.bucket) == ALL
    manifest = shop.snapshot()
    assert "object tags" in capture_of(manifest).settings.unknown
    assert {one.found for one in diff(shop)} == {"same"}

    shop.put("cidadao/000/rg.jpg", b"locked")
    shop.bucket.delete("cidadao/001/rg.jpg")
    shop.put("extra", b"since then")
    found = {one.key: one.found for one in diff(shop) if one.found != "same"}
    wanted = {
        "cidadao/000/rg.jpg": "differing",
        "cidadao/001/rg.jpg": "missing",
        "extra": "extra",
    }
    assert found == wanted
    request = {**IN_PLACE, "delete_extra": True}
    result = shop.run("restore", request, into=TARGET.name, aside=ASIDE).result
    assert data_in(shop.bucket) == ALL
    assert data_in(shop.tools.other_bucket(ASIDE)) == {
        "cidadao/000/rg.jpg": b"locked",
        "extra": b"since then",
    }
    assert (result["written"], result["retagged"], result["compared"]) == (2, 0, len(ALL))
    # The snapshot has none that could be lost.
    assert "tags_not_kept" not in result

    beside = shop.run("restore", into="de-volta").result
    assert data_in(shop.tools.other_bucket("de-volta")) == ALL
    assert beside["compared"] == len(ALL)
    assert "tags_not_kept" not in beside


def test_a_restore_to_a_server_without_tags_counts_what_lost_them(
    open_shop: Open, protected_s3: EmbeddedS3, repository_s3: EmbeddedS3
) -> None:
    shop = open_shop(server(protected_s3), server(repository_s3))
    shop.snapshot()
    result = shop.run("restore", into="de-volta").result
    assert data_in(shop.tools.other_bucket("de-volta")) == ALL
    tagged = len(BYTES) // 2 + 2
    assert (result["compared"], result["tags_not_kept"]) == (len(ALL), tagged)

    # The same server in place of the lost one: whatever lies there stays, and is compared.
    there = shop.tools.other_bucket(TARGET.name)
    there.create()
    there.put(LONG, iter([b"other"]), size=5, headers={}, metadata={}, tags={})
    result = shop.run("restore", IN_PLACE, into=TARGET.name, aside=ASIDE).result
    assert data_in(there) == ALL
    assert (result["written"], result["compared"]) == (len(ALL), len(ALL))
    assert result["tags_not_kept"] == tagged
    again = shop.run("restore", IN_PLACE, into=TARGET.name, aside=ASIDE).result
    assert (again["written"], again["tags_not_kept"]) == (0, tagged)


def test_tags_that_a_snapshot_cannot_know_are_left_alone(
    open_shop: Open, protected_s3: EmbeddedS3, repository_s3: EmbeddedS3
) -> None:
    shop = open_shop(server(repository_s3), server(protected_s3))
    shop.snapshot()
    there = shop.tools.other_bucket(TARGET.name)
    there.create()
    assert shop.run("restore", IN_PLACE, into=TARGET.name, aside=ASIDE).result["written"] == 14
    there.put_tags(LONG, {"given": "by hand"})
    result = shop.run("restore", IN_PLACE, into=TARGET.name, aside=ASIDE).result
    assert (result["already_same"], result["tags_differing"]) == (len(ALL), 0)
    assert there.tags(LONG) == {"given": "by hand"}
    assert "tags_not_kept" not in result


def test_a_server_that_keeps_tags_is_asked_for_them_as_ever(
    open_shop: Open, protected_s3: EmbeddedS3
) -> None:
    shop = open_shop(server(protected_s3), server(protected_s3))
    shop.snapshot()
    assert {one.found for one in diff(shop)} == {"same"}
    shop.bucket.put_tags(LONG, {"only": "one"})
    shop.put("cidadao/001/rg.jpg", b"locked", tags=LONG_TAGS)
    found = {one.key: one.differs for one in diff(shop) if one.found != "same"}
    assert found == {LONG: ("tags",), "cidadao/001/rg.jpg": ("size",)}
    result = shop.run("restore", IN_PLACE, into=TARGET.name, aside=ASIDE).result
    assert (result["written"], result["retagged"]) == (1, 1)
    assert "tags_not_kept" not in result
    assert shop.bucket.tags(LONG) == LONG_TAGS
    aside = shop.tools.other_bucket(ASIDE)
    assert (aside.tags(LONG), aside.tags("cidadao/001/rg.jpg")) == ({"only": "one"}, LONG_TAGS)


def test_tags_are_not_let_go_where_only_the_place_aside_keeps_none(
    open_shop: Open, protected_s3: EmbeddedS3, repository_s3: EmbeddedS3
) -> None:
    shop = open_shop(server(protected_s3), server(protected_s3))
    shop.snapshot()
    shop.put("cidadao/001/rg.jpg", b"locked", tags={"x": "y"})
    live, tagless = shop.bucket, server(repository_s3)(ASIDE)
    shop.tools = replace(
        shop.tools, other_bucket=lambda name: live if name == TARGET.name else tagless
    )
    with pytest.raises(IntegrityError, match="differs: tags"):
        shop.run("restore", IN_PLACE, into=TARGET.name, aside=ASIDE)
    assert live.tags("cidadao/001/rg.jpg") == {"x": "y"}
    for listed in list(tagless.list()):
        tagless.delete(listed.key)
