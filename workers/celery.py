"""The workers' application: pgben's, with its tasks and signals loaded.

``celery -A workers`` finds it here, where Celery looks for a package's application. The package
itself imports nothing: ``python -m workers`` and the probe ``python -m workers.ready`` begin there.
"""

import pgben_tasks.tasks
from pgben_tasks.adapters.s3 import administration
from pgben_tasks.app import app
from workers import signals

app.conf.worker_consumer = "workers.consumer:Consumer"

# Commands import this when they need it; a worker has it before it forks, for all its processes.
__all__ = ["administration", "app", "pgben_tasks", "signals"]
