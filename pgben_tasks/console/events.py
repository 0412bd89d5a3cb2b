"""What Flower keeps of Celery's events, without personal data and without counting twice.

Arguments of tasks may hold keys of objects and reasons that people typed. What is kept of them is
the target, the job and what identifies a backup; of a task of anybody else, nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from celery.events.state import State
from flower.events import Events, EventsState
from flower.inspector import Inspector

#: The only words of arguments and results that are shown, with the form that their values have.
_SHOWN: Final = re.compile(
    r"['\"](?P<name>target|job|backup|fence|state)['\"]: (?P<quote>['\"]?)(?P<value>"
    r"(?:postgres|bucket)/[A-Za-z0-9_.-]{1,63}|\*"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|\d{8}T\d{6}Z-[0-9a-f]{6}|latest|\d{1,10}|[a-z]{4,10})(?P=quote)(?=[,}\s])"
)
#: What follows the type of an exception.
_TYPE: Final = re.compile(r"[^\w.]")
#: Fields of events, and of what a worker says of its tasks, that hold arguments or results.
_ARGUMENTS: Final = ("args", "kwargs")
_RESULTS: Final = ("result",)
#: The mark of an event of ours about the id that callers wait on (``tasks.base``): the failed step
#: was counted already.
ROOT: Final = "root"


def shown(text: object) -> str:
    """Return what may be seen of arguments or a result: ``target=postgres/pgben, job=…``."""
    found = (f"{one['name']}={one['value']}" for one in _SHOWN.finditer(str(text)))
    return ", ".join(dict.fromkeys(found))


def masked_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event without arguments and results beyond what may be seen."""
    masked = dict(event)
    for name in (*_ARGUMENTS, *_RESULTS):
        if name in masked:
            masked[name] = shown(masked[name])
    # A traceback shows lines of code and, of foreign tasks, perhaps values.
    if masked.get("traceback"):
        masked["traceback"] = ""
    return masked


def masked_tasks(answer: Any) -> Any:
    """Return what a worker says of its tasks, masked as events are."""
    if isinstance(answer, Mapping):
        return {
            name: shown(one) if name in (*_ARGUMENTS, *_RESULTS) else masked_tasks(one)
            for name, one in answer.items()
        }
    if isinstance(answer, list | tuple):
        return [masked_tasks(one) for one in answer]
    return answer


class MaskedState(EventsState):
    """Flower's state of tasks and workers, fed with masked events."""

    def event(self, event: dict[str, Any]) -> None:
        """Take an event; a failure that stands for one that was counted only changes its task."""
        masked = masked_event(event)
        if "exception" in masked and not self._is_ours(masked):
            masked["exception"] = _TYPE.split(str(masked["exception"]), maxsplit=1)[0]
        if not masked.pop(ROOT, False):
            super().event(masked)
            return
        task = self.tasks.get(masked.get("uuid"))
        worker = getattr(task, "worker", None)
        if worker is None:
            # Nobody has begun it, so there is nothing in the list to turn red.
            return
        # Whoever sends it may be no worker; Celery's state would list it as one.
        State.event(self, {**masked, "hostname": worker.hostname})
        self._index_task(task, None)

    def _is_ours(self, event: dict[str, Any]) -> bool:
        """Return whether an event is of a task of pgben, whose errors name no people."""
        task = self.tasks.get(event.get("uuid"))
        return task is not None and str(task.name).startswith("pgben.")


class MaskedEvents(Events):
    """Flower's listener with that state."""

    def __init__(self, capp: Any, io_loop: Any, **options: Any) -> None:
        """Listen as Flower does; no state of an earlier process is taken up."""
        options |= {"persistent": False}
        super().__init__(capp, io_loop, **options)
        self.state = MaskedState(
            max_tasks_in_memory=options["max_tasks_in_memory"],
            max_workers_in_memory=options["max_workers_in_memory"],
        )


class MaskedInspector(Inspector):
    """Flower's questions to workers, whose answers are masked."""

    def _on_update(self, workername: str, method: str, response: Any) -> None:
        masked: Iterable[Any] = response
        if method in self.task_inspect_methods:
            masked = masked_tasks(response)
        super()._on_update(workername, method, masked)
