"""The lifecycle rules of a bucket are restored as its server worded them, rule for rule.

A rule that loses its bare ``<Prefix>`` on the way removes every document a day later, and one that
loses a condition removes more than it should.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.adapters.s3.xml import read_xml
from pgben_tasks.domain.buckets.capture import BucketSettings
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.s3 import EmbeddedS3
from tests.support.bucket_servers import bucket_location
from tests.support.bucketshop import TARGET, BucketShop
from tests.support.workshop import Workshop

Kind = Literal["moto", "ministack"]

RULES = {
    "bare": "<Prefix>tmp/</Prefix>",
    "and": "<Filter><And><Prefix>logs/</Prefix><Tag><Key>keep</Key><Value>no</Value></Tag></And>"
    "</Filter>",
    "size": "<Filter><ObjectSizeGreaterThan>1048576</ObjectSizeGreaterThan></Filter>",
}
#: What a server of the tests keeps of them; no other server at hand keeps lifecycle rules at all.
KEPT: dict[Kind, tuple[str, ...]] = {"moto": ("bare", "and"), "ministack": ("and", "size")}
#: Without what a rule would reach further.
CONDITIONS = {
    "bare": ["tmp/"],
    "and": ["logs/", "keep", "no"],
    "size": ["1048576"],
}


def lifecycle(*names: str) -> str:
    rules = "".join(
        f"<Rule><ID>{name}</ID>{RULES[name]}<Status>Enabled</Status>"
        "<Expiration><Days>1</Days></Expiration></Rule>"
        for name in names
    )
    return f"<LifecycleConfiguration>{rules}</LifecycleConfiguration>"


def conditions(document: str | None, name: str) -> list[str]:
    """Return the texts of one rule's prefix and filter."""
    (rule,) = (
        rule
        for rule in read_xml((document or "").encode()).iterfind("Rule")
        if rule.findtext("ID") == name
    )
    return [
        text
        for part in rule
        if part.tag in {"Prefix", "Filter"}
        for text in part.itertext()
        # What ministack adds to every <And>.
        if text.strip() and text != "0"
    ]


@pytest.fixture(params=sorted(KEPT))
def kind(request: pytest.FixtureRequest) -> Kind:
    return "moto" if request.param == "moto" else "ministack"


@pytest.fixture
def shop(kind: Kind, tmp_path: Path, postgres: EmbeddedPostgres) -> Iterator[BucketShop]:
    with (
        EmbeddedS3.start(kind=kind) as server,
        Workshop.open(tmp_path / "shop", postgres, "postgres") as workshop,
    ):

        def there(name: str) -> S3Bucket:
            return S3Bucket(bucket_location(server, bucket=name))

        bucket = there(TARGET.name)
        bucket.create()
        yield BucketShop(workshop, bucket, there)


def test_every_lifecycle_rule_comes_back_with_all_its_conditions(
    kind: Kind, shop: BucketShop
) -> None:
    shop.put("a", b"a document")
    asked = BucketSettings(versioning="off", lifecycle=lifecycle(*KEPT[kind]))
    assert shop.bucket.apply(asked) == ()
    before = shop.bucket.settings().lifecycle
    manifest = shop.snapshot()
    assert manifest.bucket is not None
    assert manifest.bucket.settings.lifecycle == before

    result = shop.run("restore", {"settings": True}, into="de-volta").result
    assert result["settings_refused"] == []
    after = shop.tools.other_bucket("de-volta").settings().lifecycle
    assert after == before
    for name in KEPT[kind]:
        assert conditions(after, name) == CONDITIONS[name]
