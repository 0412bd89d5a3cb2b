"""What Celery calls: thin tasks over operations. Importing this registers every task."""

from pgben_tasks.tasks import (
    buckets,
    cancel,
    catalog,
    maintenance,
    points,
    postgres,
    repository,
    steps,
)

__all__ = [
    "buckets",
    "cancel",
    "catalog",
    "maintenance",
    "points",
    "postgres",
    "repository",
    "steps",
]
