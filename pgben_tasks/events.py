"""What Celery's events show: which target and job a task is about, and how a job ended.

Whoever may look at Flower reads events, so no key, prefix or reason of a request stands in them.
Light to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgben_tasks.domain.target import Target
from pgben_tasks.errors import PgbenError

if TYPE_CHECKING:
    from celery import Celery

#: The name under which events come from where no worker runs, as from the command line.
NO_WORKER: Final = "pgben"
#: The text of named arguments in events: requests are positional.
NO_NAMED_ARGUMENTS: Final = "{}"


def shown_arguments(args: object) -> str:
    """Return the text that stands for a task's arguments: its target and its job, nothing else.

    ``args`` are the positional arguments; what is no target and no job's id is left out.
    """
    first = args[0] if isinstance(args, list | tuple) and args else None
    if not isinstance(first, dict):
        return "()"
    shown = {"target": _target(first.get("target")), "job": _job(first.get("job"))}
    known = {name: value for name, value in shown.items() if value is not None}
    return f"({known!r},)" if known else "()"


def send_failure(app: Celery, task_id: str, error: PgbenError, *, hostname: str) -> None:
    """Send the event that the job whose callers wait on ``task_id`` has failed.

    Celery sends one for the step that failed. This further one has the field ``root``, so that who
    counts events counts a failure once. Flower takes ``hostname`` for the name of a worker.
    """
    with app.events.default_dispatcher(hostname=hostname) as dispatcher:
        dispatcher.send("task-failed", uuid=task_id, exception=repr(error), traceback="", root=True)


def _target(value: object) -> str | None:
    try:
        return str(Target.parse(value)) if isinstance(value, str) else None
    except (PgbenError, UnicodeError):
        return None


def _job(value: object) -> str | None:
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None
