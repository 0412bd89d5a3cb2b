"""The task that makes reports: of all steps the one that goes on when everything else is away."""

from __future__ import annotations

from dataclasses import replace

from pgben_tasks.contracts import JobRef
from pgben_tasks.errors import PgbenError
from pgben_tasks.health.report import reporting
from pgben_tasks.operations.toolbox import Toolbox
from pgben_tasks.tasks.base import PgbenTask


class ReportTask(PgbenTask):
    """A step with what a report is made with."""

    abstract = True

    def _tools(self, ref: JobRef) -> Toolbox:
        """Return the toolbox, and how reports are gathered, drawn and sent."""
        try:
            return replace(self.work.tools_for_reports, reporting=reporting(self.work))
        except PgbenError as exc:
            self._fail_waiting(ref, exc)
