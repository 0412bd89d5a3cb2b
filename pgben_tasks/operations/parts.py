"""Jobs that are parts of a whole: a restore, or an undo, of everything asked for them.

A part of a restore does what hurts nobody, then waits its turn. Whose turn it is stands in the
context of the whole, under ``go``: the keys of the jobs that may go on. That a part is ``ready``
stands in its own context, with the attempt in which it was.
"""

from __future__ import annotations

from uuid import UUID

from pgben_tasks.domain.job import Job
from pgben_tasks.errors import RestoreRefused, StepWaits
from pgben_tasks.operations.toolbox import Run, Toolbox


def require_turn(run: Run, tools: Toolbox) -> None:
    """Raise ``StepWaits`` until the restore of everything lets this part go on; then return.

    Raises ``RestoreRefused`` when the whole has ended. A job that is no part goes on.
    """
    whole = require_whole(run, tools)
    # A whole that is queued for another attempt has let nobody go in that one yet.
    if whole is None or (whole.state != "queued" and run.job.key in whole.context.get("go", ())):
        return
    run.ledger.keep(context={"ready": run.job.attempt})
    raise StepWaits(f"waits for the restore of everything, job '{whole.id}'")


def require_whole(run: Run, tools: Toolbox) -> Job | None:
    """Return the job that this one is a part of, None for one that is no part.

    Raises ``RestoreRefused`` when that job never asked for this one, does so no more, or has ended.
    """
    part_of = run.job.request.get("part_of")
    if part_of is None:
        return None
    whole = tools.jobs.job(UUID(part_of))
    if run.job.key not in whole.context.get("parts", {}).values():
        raise RestoreRefused(
            f"job '{whole.id}' is no restore or undo of everything that asked for this one",
            "nothing was replaced; `part_of` is for parts that such a job asks for itself",
        )
    if whole.ended:
        raise RestoreRefused(
            f"the restore or undo of everything that this is a part of, job '{whole.id}', is "
            f"{whole.state}",
            f"nothing was replaced; `pgben jobs {whole.id}` says why, and `pgben jobs retry` of "
            "that job begins this one again",
        )
    return whole
