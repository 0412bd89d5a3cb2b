"""The operation behind every step. In which order a chain's steps run is ``canvases.CHAINS``.

Workers meet these functions one task at a time; whoever runs a whole chain in one process (direct
mode, tests) takes them from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pgben_tasks import names
from pgben_tasks.contracts import JSON
from pgben_tasks.operations.buckets import (
    backup as backup_bucket,
    in_place as replace_objects,
    restore as restore_bucket,
)
from pgben_tasks.operations.postgres import (
    backup as backup_postgres,
    restore as restore_postgres,
    swap as swap_postgres,
)
from pgben_tasks.operations.repository import (
    acknowledge,
    commit as committing,
    prune,
    sweep,
    verify,
)
from pgben_tasks.operations.toolbox import Run, Toolbox

Operation = Callable[[Run, Toolbox], JSON]

OPERATIONS: Final[Mapping[str, Operation]] = {
    names.BACKUP_POSTGRES_DUMP: backup_postgres.dump,
    names.BACKUP_POSTGRES_CHECKSUM: backup_postgres.checksum,
    names.BACKUP_POSTGRES_UPLOAD: backup_postgres.upload,
    names.BACKUP_POSTGRES_PRUNE: prune.after_backup,
    names.BACKUP_POSTGRES_RECORD: committing.record,
    names.BACKUP_BUCKET_SNAPSHOT: backup_bucket.snapshot,
    names.BACKUP_BUCKET_COPY: backup_bucket.copy,
    names.BACKUP_BUCKET_CHECKSUM: backup_bucket.checksum,
    names.BACKUP_BUCKET_UPLOAD: backup_bucket.upload,
    names.BACKUP_BUCKET_PRUNE: acknowledge.then_prune,
    names.BACKUP_BUCKET_RECORD: committing.record,
    names.RESTORE_POSTGRES_SELECT: restore_postgres.select,
    names.RESTORE_POSTGRES_FETCH: restore_postgres.fetch,
    names.RESTORE_POSTGRES_LOAD: restore_postgres.load,
    names.RESTORE_POSTGRES_CHECK: restore_postgres.check,
    names.RESTORE_POSTGRES_SWAP: swap_postgres.swap,
    names.RESTORE_POSTGRES_FINISH: restore_postgres.finish,
    names.RESTORE_BUCKET_SELECT: restore_bucket.select,
    names.RESTORE_BUCKET_PLAN: restore_bucket.plan,
    names.RESTORE_BUCKET_COPY: restore_bucket.copy,
    names.RESTORE_BUCKET_FINISH: restore_bucket.finish,
    names.RESTORE_BUCKET_REPLACE_PLAN: replace_objects.plan,
    names.RESTORE_BUCKET_REPLACE_ASIDE: replace_objects.aside,
    names.RESTORE_BUCKET_REPLACE_WRITE: replace_objects.write,
    names.RESTORE_BUCKET_REPLACE_FINISH: replace_objects.finish,
    names.UNDO_RUN_FINISH: swap_postgres.undo,
    names.VERIFY_RUN_EXAMINE: verify.examine,
    names.VERIFY_RUN_FINISH: verify.finish,
    names.PRUNE_RUN_FINISH: prune.on_demand,
    names.ACKNOWLEDGE_RUN_FINISH: acknowledge.finish,
    names.SWEEP_RUN_FINISH: sweep.finish,
}
