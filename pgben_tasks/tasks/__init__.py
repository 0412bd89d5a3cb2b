"""What Celery calls: thin tasks over operations. Importing this registers every task."""

from pgben_tasks.tasks import backup, housekeeping, restore, verify

__all__ = ["backup", "housekeeping", "restore", "verify"]
