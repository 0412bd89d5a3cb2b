"""Checks of the protected buckets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from pgben_tasks.errors import PgbenError
from pgben_tasks.health.doctor.patient import Patient
from pgben_tasks.health.doctor.report import FAILED, Finding, error, ok, warning
from pgben_tasks.runtime.places import bucket_at

#: Somebody waits for the answer.
_PATIENCE: Final = timedelta(seconds=3)


def buckets(patient: Patient) -> Iterator[Finding]:
    """Look whether every protected bucket can be listed, and the next snapshot compared."""
    settings = patient.settings
    targets = settings.bucket_targets()
    if not targets:
        yield warning("half") if settings.minio_secret_key is not None else ok("none")
        return
    if settings.minio_secret_key is None:
        # Workers that only decide about snapshots need none.
        yield ok("named")
        return
    identities = (settings.inventory_identity_file, settings.age_identity_file)
    if settings.encryption and not any(identities):
        yield warning("blind")
    for target in targets:
        bucket = bucket_at(settings, target.name, patience=_PATIENCE)
        try:
            there = bucket.exists()
            if there:
                next(bucket.list(), None)
        except PgbenError as exc:
            yield error(FAILED, why=exc.sentence, remedy=exc.hint)
        else:
            where = {"target": target, "server": settings.minio_url}
            yield ok(**where) if there else error("missing", **where)
