"""What Celery calls: thin tasks over operations. Importing this registers every task."""

from pgben_tasks.tasks import buckets, maintenance, points, postgres, repository, steps

__all__ = ["buckets", "maintenance", "points", "postgres", "repository", "steps"]
