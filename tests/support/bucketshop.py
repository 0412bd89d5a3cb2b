"""An installation that also protects a bucket: the workshop, and one bucket of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pgben_tasks.contracts import JSON, request_model
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.buckets.inventory import Entry, parse_line
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.job import Job, JobKind
from pgben_tasks.domain.layout import inventory_of
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.operations.toolbox import NoProgress, Toolbox
from pgben_tasks.ports import Bucket
from tests.support.workshop import Workshop

TARGET = Target("bucket", "documentos")


def contents(bucket: Bucket, *, tags: bool = True) -> dict[str, tuple[object, ...]]:
    """Return each object's bytes, headers, metadata and, where they are kept, tags, by its key."""
    found: dict[str, tuple[object, ...]] = {}
    for listed in bucket.list():
        with bucket.fetch(listed.key) as got:
            data = b"".join(got.chunks)
            facts = got.facts
        tagged = bucket.tags(listed.key) if tags else {}
        found[listed.key] = (data, dict(facts.headers), dict(facts.metadata), tagged)
    return found


@dataclass
class BucketShop:
    """Runs the chains of one bucket in the calling process."""

    shop: Workshop
    bucket: Bucket
    make: Callable[[str], Bucket]
    tools: Toolbox = field(init=False)

    def __post_init__(self) -> None:
        """Let the workshop protect the bucket."""
        others = {TARGET.name: self.bucket}
        self.tools = replace(
            self.shop.tools,
            protected=frozenset({TARGET}),
            buckets={TARGET: self.bucket},
            other_bucket=lambda name: others.setdefault(name, self.make(name)),
        )

    def put(
        self,
        key: str,
        data: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Store an object as an application does."""
        self.bucket.put(
            key,
            iter([data]),
            size=len(data),
            headers=headers or {},
            metadata=metadata or {},
            tags=tags or {},
        )

    def chain(
        self, kind: JobKind, request: JSON | None = None, **context: object
    ) -> in_process.Chain:
        """Prepare a chain."""
        job = in_process.new_job(
            kind,
            request_model(kind, str(TARGET)).parse({"target": str(TARGET), **(request or {})}),
            target=str(TARGET),
            node="workshop",
            now=datetime.now(UTC),
            context=dict(context),
        )
        return in_process.Chain(
            in_process.MemoryRow(job, self.tools.clock), self.tools, NoProgress()
        )

    def run(self, kind: JobKind, request: JSON | None = None, **context: object) -> Job:
        """Run a whole chain; what fails is cleaned up, then raised."""
        return self.chain(kind, request, **context).run()

    def snapshot(self) -> Manifest:
        """Back the bucket up; gives the manifest."""
        return self.manifest(self.run("backup"))

    def manifest(self, job: Job) -> Manifest:
        """Return the manifest of a backup."""
        return self.tools.repository.manifest(TARGET, BackupId.parse(job.backup or ""))

    def entries(self, manifest: Manifest) -> dict[str, Entry]:
        """Open the inventory of a snapshot."""
        folder = self.shop.folder / "opened"
        folder.mkdir(exist_ok=True)
        self.tools.repository.fetch_inventory(manifest, folder / "sealed")
        self.tools.objects.open_inventory(
            inventory_of(manifest), folder / "sealed", folder / "lines"
        )
        with (folder / "lines").open("rb") as file:
            entries = [parse_line(line, where="test") for line in file]
        return {entry.key: entry for entry in entries}

    def content(self, manifest: Manifest, entry: Entry) -> bytes:
        """Take one object's bytes out of its pack."""
        folder = self.shop.folder / "taken"
        folder.mkdir(exist_ok=True)
        pack = next(one for one in manifest.packs if one.path.endswith(f"/{entry.pack}"))
        self.tools.repository.fetch_pack(pack, folder / "sealed", advance=lambda _size: None)
        digest = entry.sha256 or ""
        self.tools.objects.open_objects(
            pack, folder / "sealed", [digest], folder / digest, advance=lambda _size: None
        )
        return (folder / digest).read_bytes()
