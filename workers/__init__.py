"""The workers: pgben's application with its tasks and signals loaded.

``celery -A workers worker -Q backup`` works; ``python -m workers backup`` adds the right flags.
"""

import pgben_tasks.tasks
from pgben_tasks.app import app
from workers import signals

__all__ = ["app", "pgben_tasks", "signals"]
