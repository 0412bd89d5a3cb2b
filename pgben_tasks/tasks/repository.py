"""What is asked for the repository: verify, prune, acknowledge, hold, sweep, and a report."""

from __future__ import annotations

from pgben_tasks import names
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.tasks.entry import EntryTask


@app.task(name=names.VERIFY_RUN, base=EntryTask, bind=True)
def verify(self: EntryTask, request: JSON) -> JSON:
    """Verify one backup, one target or everything, quick or full."""
    return self.enter("verify", request)


@app.task(name=names.PRUNE_RUN, base=EntryTask, bind=True)
def prune(self: EntryTask, request: JSON) -> JSON:
    """Apply retention to one target now."""
    return self.enter("prune", request)


@app.task(name=names.ACKNOWLEDGE_RUN, base=EntryTask, bind=True)
def acknowledge(self: EntryTask, request: JSON) -> JSON:
    """Record that a suspect backup is plausible, or that keys of a bucket are lost."""
    return self.enter("acknowledge", request)


@app.task(name=names.HOLD_RUN, base=EntryTask, bind=True)
def hold(self: EntryTask, request: JSON) -> JSON:
    """Record that retention keeps one backup until a moment, or no longer."""
    return self.enter("hold", request)


@app.task(name=names.SWEEP_RUN, base=EntryTask, bind=True)
def sweep(self: EntryTask, request: JSON) -> JSON:
    """Remove what ended runs left behind in the repository."""
    return self.enter("sweep", request)


@app.task(name=names.REPORT_RUN, base=EntryTask, bind=True)
def report(self: EntryTask, request: JSON) -> JSON:
    """Make the report of everything, keep it, and mail it."""
    return self.enter("report", request)
