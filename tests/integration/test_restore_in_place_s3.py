"""Claims about restoring objects in place on a real server: strange keys, parts, ten tags."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks import canvases, names, runtime
from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.buckets.uploads import Sizes
from pgben_tasks.adapters.s3.client import S3Request
from pgben_tasks.adapters.s3.xml import text_of
from pgben_tasks.domain.buckets.capture import BucketSettings
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import ConfigurationError, PgbenError, StoreUnavailable
from pgben_tasks.operations.buckets.uploads import NotedUploads, give_up_uploads
from tests.support.between import answering
from tests.support.bucket_servers import KEYS, bucket_location
from tests.support.bucketshop import TARGET, BucketShop, contents
from tests.support.installation import Crash
from tests.support.memory_bucket import MemoryBucket
from tests.support.workshop import Workshop

MEBIBYTE = 1024 * 1024
LARGE = "large/in parts.bin"
SIZES = Sizes(single=5 * MEBIBYTE, part=5 * MEBIBYTE)


@pytest.fixture
def shop(workshop: Workshop, protected_s3: EmbeddedS3) -> Iterator[BucketShop]:
    def at(name: str) -> S3Bucket:
        return S3Bucket(bucket_location(protected_s3, bucket=name), page=7, sizes=SIZES)

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


def restored_in_place(shop: BucketShop, live: S3Bucket) -> dict[str, Any]:
    """Restore in place, with ``live`` as the original; return the job's result."""
    other = shop.tools.other_bucket
    shop.tools = replace(
        shop.tools, other_bucket=lambda name: live if name == TARGET.name else other(name)
    )
    return shop.run(
        "restore",
        {"in_place": True, "confirm": TARGET.name},
        into=TARGET.name,
        aside=f"documentos-aside-{secrets.token_hex(4)}",
    ).result


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
    result = restored_in_place(shop, live)
    assert contents(shop.bucket)[LARGE][0] == data
    kept = [result["aside"], *result["aside_further"]]
    copies = [contents(other(name))[LARGE] for name in kept]
    assert [copy[0] for copy in copies] == [*([] if gone else [b"locked"]), b"stored just now"]
    assert copies[-1][3] == {"late": "yes"}
    # The upload that was forbidden at its end left nothing.
    assert unfinished(live) == []


STEPS = {
    "aside": names.RESTORE_BUCKET_REPLACE_ASIDE,
    "write": names.RESTORE_BUCKET_REPLACE_WRITE,
    "copy": names.RESTORE_BUCKET_COPY,
}


@pytest.mark.parametrize("after", ["goes on", "is called off"])
@pytest.mark.parametrize("step", STEPS)
def test_uploads_of_a_process_that_died_are_given_up_and_no_others(
    shop: BucketShop, step: str, after: str
) -> None:
    shop.put(LARGE, random.Random(6).randbytes(12 * MEBIBYTE), tags={"a": "b"})
    shop.snapshot()
    before = contents(shop.bucket)
    shop.put(LARGE, random.Random(7).randbytes(12 * MEBIBYTE), metadata={"pay": "now"})
    name = f"documentos-{step}-{secrets.token_hex(4)}"
    at = TARGET.name if step == "write" else name
    where = replace(shop.bucket._where, bucket=at)  # type: ignore[attr-defined]
    bucket = Disturbed(where, sizes=SIZES)
    other = shop.tools.other_bucket
    shop.tools = replace(
        shop.tools, other_bucket=lambda wanted: bucket if wanted == at else other(wanted)
    )
    if step == "copy":
        chain = shop.chain("restore", {"into": at}, into=at)
    else:
        asked = {"in_place": True, "confirm": TARGET.name}
        chain = shop.chain("restore", asked, into=TARGET.name, aside=name)
    order = [one for one, _ in canvases.CHAINS[chain.job.chain]]
    at_step = order.index(STEPS[step])
    for one in order[:at_step]:
        chain.step(one)
    bucket.create()
    begun = S3Request(method="POST", key=LARGE, query={"uploads": ""})
    theirs = text_of(bucket._sender.xml(begun, "InitiateMultipartUploadResult"), "UploadId")

    def die(*_: object) -> None:
        raise Crash

    # The process sends nothing any more, so it does not abandon its upload either.
    bucket.meanwhile = lambda: setattr(bucket._sender, "ask", die)
    with pytest.raises(Crash):
        chain.step(STEPS[step])
    del bucket._sender.ask
    assert unfinished(bucket) == [LARGE, LARGE]

    if after == "is called off":
        runtime.abandon(chain.job, shop.tools)
    else:
        for one in order[at_step:]:
            chain.step(one)
        assert contents(bucket if step == "copy" else shop.bucket) == before
    assert unfinished(bucket) == [LARGE]
    bucket.give_up(LARGE, theirs)
    assert unfinished(bucket) == []


class Forbidding(MemoryBucket):
    """A bucket whose key may not remove parts, or that does not answer."""

    error: PgbenError | None = None

    def give_up(self, key: str, upload: str) -> None:
        if self.error is not None:
            raise type(self.error)(f"'{key}' {self.error.sentence} {upload}")


def test_a_key_that_may_not_remove_parts_stops_no_restore(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    NotedUploads(tmp_path, "live").begun("cidadao/1.pdf", "u")
    NotedUploads(tmp_path, "live").begun("cidadao/1.pdf", "v")
    NotedUploads(tmp_path, "live").ended("cidadao/1.pdf", "v")
    bucket = Forbidding()
    bucket.error = StoreUnavailable("is away for")
    with pytest.raises(StoreUnavailable, match="^an object is away for u"):
        give_up_uploads(tmp_path, lambda _name: bucket)
    bucket.error = ConfigurationError("is forbidden for")
    give_up_uploads(tmp_path, lambda _name: bucket)
    logged = capsys.readouterr().out
    assert "upload_not_given_up" in logged
    assert "cidadao" not in logged
    # It is tried again by the next step; with its bucket an upload went.
    assert len(list(tmp_path.glob("uploads/*.json"))) == 1
    give_up_uploads(tmp_path, lambda _name: MemoryBucket(made=False))
    assert list(tmp_path.glob("uploads/*.json")) == []


def unfinished(bucket: S3Bucket) -> list[str]:
    """Return the keys of the uploads that nobody ended."""
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


def keeps_tags_of_versions(method: str, target: str) -> int | None:
    """Answer as Ceph's gateway 16 does of a versioned bucket: the tags stay."""
    return 204 if method == "DELETE" and target.endswith("?tagging=") else None


def test_tags_are_taken_away_where_a_server_overlooks_their_deletion(
    shop: BucketShop, protected_s3: EmbeddedS3
) -> None:
    with answering(protected_s3.endpoint, keeps_tags_of_versions) as endpoint:
        live = S3Bucket(bucket_location(protected_s3, bucket=TARGET.name, endpoint=endpoint))
        shop.bucket.apply(BucketSettings(versioning="enabled"))
        shop.put("kept", b"as it is", tags={"a": "b"})
        shop.put("untagged", b"as it is")
        shop.snapshot()
        before = contents(shop.bucket)
        shop.bucket.put_tags("untagged", {"given": "since then"})
        other = shop.tools.other_bucket
        result = restored_in_place(shop, live)
        assert contents(shop.bucket) == before
        assert (result["retagged"], result["written"]) == (1, 0)
        assert contents(other(result["aside"]))["untagged"][3] == {"given": "since then"}
