"""Checks of the protected buckets: whether they are there, and what their key may do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.errors import ObjectMissing, PgbenError
from pgben_tasks.health.doctor.installation import Installation
from pgben_tasks.health.doctor.report import Result, error, failed, ok, unseen, warning
from pgben_tasks.language import translatable as _


def buckets(installation: Installation) -> Iterator[Result]:
    """Check that every protected bucket can be listed, and the next snapshot compared."""
    settings = installation.settings
    if not settings.bucket_targets():
        if settings.minio_secret_key is None:
            yield ok(
                _("no bucket is protected: PGBEN_MINIO_ACCESS_KEY is not set, or its file is empty")
            )
        else:
            yield warning(
                "half",
                _(
                    "no bucket is protected: PGBEN_MINIO_SECRET_KEY is set and "
                    "PGBEN_MINIO_ACCESS_KEY is not"
                ),
                _("set both, or neither"),
            )
        return
    identities = (settings.inventory_identity_file, settings.age_identity_file)
    if installation.buckets and settings.encryption and not any(identities):
        yield warning(
            "blind",
            _("no identity at hand opens inventories, so buckets cannot be backed up from here"),
            _("set PGBEN_INVENTORY_IDENTITY_FILE on workers that back up buckets"),
        )
    for target, found in installation.asked_buckets.items():
        facts = {"target": target, "server": settings.minio_url}
        if isinstance(found, PgbenError):
            yield failed(found)
        elif found.there:
            yield ok(_("{target} answers at {server}"), **facts)
        else:
            yield error(
                "missing",
                _("{target} does not exist at {server}"),
                _(
                    "bring it back with `pgben restore {target} --in-place --confirm {name}`, or "
                    "correct PGBEN_BUCKETS and PGBEN_MINIO_HOST"
                ),
                **facts,
                name=target.name,
            )
    if not installation.buckets:
        yield from installation.unexamined_buckets()


def bucket_key(installation: Installation) -> Iterator[Result]:
    """Check that the buckets' key may read what a snapshot needs, without writing anything."""
    if not installation.settings.bucket_targets():
        yield ok(_("there is no bucket whose key to try"))
    readable = installation.bucket_facts
    for target, found in readable.items():
        bucket, facts = installation.buckets[target], {"target": target}
        try:
            settings = bucket.settings()
            if found.first is not None:
                _read_one(bucket, found.first)
        except PgbenError as exc:
            yield failed(exc)
            continue
        if found.first is None:
            yield ok(_("the key may list {target}, which is empty, and read its settings"), **facts)
        else:
            yield ok(_("the key may list {target}, and read its objects and settings"), **facts)
        if settings.unknown:
            yield warning(
                "settings",
                _("the server or its rules do not let {target} be asked for: {names}"),
                _("restores cannot give these settings back; allow the key to read them"),
                **facts,
                names=", ".join(f"'{name}'" for name in settings.unknown),
            )
    if readable:
        yield unseen(
            _("whether it may write shows only in writing, which restores do"),
            _("try a restore beside the original, into a bucket of another name"),
            readable,
        )
    yield from installation.unexamined_buckets()


def _read_one(bucket: S3Bucket, key: str) -> None:
    # Somebody may have removed it in the meantime.
    with suppress(ObjectMissing):
        bucket.head(key)
        bucket.keeps_tags(key)
