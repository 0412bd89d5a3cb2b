"""A task for every step of ``operations.chains``, which says what it does and locks."""

from __future__ import annotations

from typing import Final

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.operations.chains import STEPS
from pgben_tasks.tasks.base import PgbenTask
from pgben_tasks.tasks.reporting import ReportTask
from pgben_tasks.tasks.sharing import SharedTask

#: The base of a step that needs more than others.
_BASES: Final[dict[str, type[PgbenTask]]] = {
    names.BACKUP_BUCKET_COPY: SharedTask,
    names.REPORT_RUN_FINISH: ReportTask,
}


def _register(name: str, base: type[PgbenTask]) -> None:
    def run(self: PgbenTask, ref: JSON) -> JSON:
        return self.step(ref)

    run.__doc__ = STEPS[name].operation.__doc__
    app.task(name=name, base=base, bind=True)(run)


for _name in STEPS:
    _register(_name, _BASES.get(_name, PgbenTask))
