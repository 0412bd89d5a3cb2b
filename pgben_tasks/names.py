"""The names of tasks and queues: public API, light to import.

A name never changes its meaning; a change that breaks callers gets a new name (docs/tasks.md).
Steps repeat the name of their chain. The last step of a chain ends in ``.record`` or ``.finish``.
"""

from __future__ import annotations

from typing import Final

BACKUP_POSTGRES: Final = "pgben.backup.postgres"
BACKUP_POSTGRES_DUMP: Final = "pgben.backup.postgres.dump"
BACKUP_POSTGRES_CHECKSUM: Final = "pgben.backup.postgres.checksum"
BACKUP_POSTGRES_UPLOAD: Final = "pgben.backup.postgres.upload"
BACKUP_POSTGRES_PRUNE: Final = "pgben.backup.postgres.prune"
BACKUP_POSTGRES_RECORD: Final = "pgben.backup.postgres.record"

BACKUP_BUCKET: Final = "pgben.backup.bucket"
BACKUP_BUCKET_SNAPSHOT: Final = "pgben.backup.bucket.snapshot"
BACKUP_BUCKET_COPY: Final = "pgben.backup.bucket.copy"
#: Copies shards of a job that another worker runs.
BACKUP_BUCKET_HELP: Final = "pgben.backup.bucket.help"
BACKUP_BUCKET_CHECKSUM: Final = "pgben.backup.bucket.checksum"
BACKUP_BUCKET_UPLOAD: Final = "pgben.backup.bucket.upload"
BACKUP_BUCKET_PRUNE: Final = "pgben.backup.bucket.prune"
BACKUP_BUCKET_RECORD: Final = "pgben.backup.bucket.record"

BACKUP_ALL: Final = "pgben.backup.all"
BACKUP_ALL_DATABASES: Final = "pgben.backup.all.databases"
BACKUP_ALL_BUCKETS: Final = "pgben.backup.all.buckets"
BACKUP_ALL_JOIN: Final = "pgben.backup.all.join"
BACKUP_ALL_RECORD: Final = "pgben.backup.all.record"

RESTORE_POSTGRES: Final = "pgben.restore.postgres"
RESTORE_POSTGRES_SELECT: Final = "pgben.restore.postgres.select"
RESTORE_POSTGRES_FETCH: Final = "pgben.restore.postgres.fetch"
RESTORE_POSTGRES_LOAD: Final = "pgben.restore.postgres.load"
RESTORE_POSTGRES_CHECK: Final = "pgben.restore.postgres.check"
RESTORE_POSTGRES_SWAP: Final = "pgben.restore.postgres.swap"
RESTORE_POSTGRES_FINISH: Final = "pgben.restore.postgres.finish"

RESTORE_BUCKET: Final = "pgben.restore.bucket"
RESTORE_BUCKET_SELECT: Final = "pgben.restore.bucket.select"
RESTORE_BUCKET_PLAN: Final = "pgben.restore.bucket.plan"
RESTORE_BUCKET_COPY: Final = "pgben.restore.bucket.copy"
RESTORE_BUCKET_FINISH: Final = "pgben.restore.bucket.finish"
RESTORE_BUCKET_REPLACE_PLAN: Final = "pgben.restore.bucket.replace.plan"
#: Only as a part of a restore of everything.
RESTORE_BUCKET_REPLACE_ADD: Final = "pgben.restore.bucket.replace.add"
RESTORE_BUCKET_REPLACE_ASIDE: Final = "pgben.restore.bucket.replace.aside"
RESTORE_BUCKET_REPLACE_WRITE: Final = "pgben.restore.bucket.replace.write"
RESTORE_BUCKET_REPLACE_FINISH: Final = "pgben.restore.bucket.replace.finish"

RESTORE_ALL: Final = "pgben.restore.all"
RESTORE_ALL_SELECT: Final = "pgben.restore.all.select"
RESTORE_ALL_DATABASES: Final = "pgben.restore.all.databases"
RESTORE_ALL_BUCKETS: Final = "pgben.restore.all.buckets"
RESTORE_ALL_CHECK: Final = "pgben.restore.all.check"
RESTORE_ALL_SWAP: Final = "pgben.restore.all.swap"
RESTORE_ALL_OBJECTS: Final = "pgben.restore.all.objects"
RESTORE_ALL_FINISH: Final = "pgben.restore.all.finish"

UNDO_RUN: Final = "pgben.undo.run"
UNDO_RUN_FINISH: Final = "pgben.undo.run.finish"
UNDO_ALL: Final = "pgben.undo.all"
UNDO_ALL_FINISH: Final = "pgben.undo.all.finish"

VERIFY_RUN: Final = "pgben.verify.run"
VERIFY_RUN_EXAMINE: Final = "pgben.verify.run.examine"
VERIFY_RUN_FINISH: Final = "pgben.verify.run.finish"

PRUNE_RUN: Final = "pgben.prune.run"
PRUNE_RUN_FINISH: Final = "pgben.prune.run.finish"

ACKNOWLEDGE_RUN: Final = "pgben.acknowledge.run"
ACKNOWLEDGE_RUN_FINISH: Final = "pgben.acknowledge.run.finish"

HOLD_RUN: Final = "pgben.hold.run"
HOLD_RUN_FINISH: Final = "pgben.hold.run.finish"

SWEEP_RUN: Final = "pgben.sweep.run"
SWEEP_RUN_FINISH: Final = "pgben.sweep.run.finish"

REPORT_RUN: Final = "pgben.report.run"
REPORT_RUN_FINISH: Final = "pgben.report.run.finish"

#: What a restore would bring back; read-only, so it is no job.
CATALOG_PLAN: Final = "pgben.catalog.plan"
#: What `pgben list`, `points`, `jobs` and `status` show, for services; read-only as well.
CATALOG_BACKUPS: Final = "pgben.catalog.backups"
CATALOG_JOBS: Final = "pgben.catalog.jobs"
CATALOG_STATUS: Final = "pgben.catalog.status"

#: Cancels a job; it is none itself.
CANCEL_RUN: Final = "pgben.cancel.run"

TICK: Final = "pgben.maintenance.tick"

#: Every task that a service may call to have something done.
ENTRY_TASKS: Final = (
    BACKUP_POSTGRES,
    BACKUP_BUCKET,
    BACKUP_ALL,
    RESTORE_POSTGRES,
    RESTORE_BUCKET,
    RESTORE_ALL,
    UNDO_RUN,
    UNDO_ALL,
    VERIFY_RUN,
    PRUNE_RUN,
    ACKNOWLEDGE_RUN,
    HOLD_RUN,
    SWEEP_RUN,
    REPORT_RUN,
    CANCEL_RUN,
)
#: Every task that a service may call to be told something; none changes anything.
READ_ONLY_TASKS: Final = (CATALOG_PLAN, CATALOG_BACKUPS, CATALOG_JOBS, CATALOG_STATUS)

QUEUE_BACKUP: Final = "backup"
QUEUE_RESTORE: Final = "restore"
QUEUE_VERIFY: Final = "verify"
QUEUE_MAINTENANCE: Final = "maintenance"
QUEUES: Final = (QUEUE_BACKUP, QUEUE_RESTORE, QUEUE_VERIFY, QUEUE_MAINTENANCE)
#: The list of Redis with messages that were none and are not recorded yet; the newest first.
SET_ASIDE: Final = "set-aside"
#: How many that list had no room for.
SET_ASIDE_DROPPED: Final = "set-aside.dropped"


def node_queue(role: str, node: str) -> str:
    """Return the queue of one node: steps that share files run where the files are.

    ``role`` is ``backup`` or ``restore``; ``node`` is the worker's ``PGBEN_NODE``.
    """
    return f"{role}.{node}"
