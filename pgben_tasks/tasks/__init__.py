"""What Celery calls: thin tasks over operations. Importing this registers every task."""

from pgben_tasks.tasks import (
    backup,
    buckets as bucket,
    maintenance as housekeeping,
    restore,
    verify,
)

__all__ = ["backup", "bucket", "housekeeping", "restore", "verify"]
