"""Jobs that are parts of a restore of everything: each does what hurts nobody, then waits its turn.

Whose turn it is stands in the context of the whole, under ``go``: the keys of the jobs that may go
on. That a part is ``ready`` stands in its own context.
"""

from __future__ import annotations

from uuid import UUID

from pgben_tasks.errors import RestoreRefused, StepWaits
from pgben_tasks.operations.toolbox import Run, Toolbox


def require_turn(run: Run, tools: Toolbox) -> None:
    """Raise ``StepWaits`` until the restore of everything lets this part go on; then return.

    Raises ``RestoreRefused`` when the whole has ended without that. A job that is no part goes on.
    """
    part_of = run.job.request.get("part_of")
    if part_of is None:
        return
    whole = tools.jobs.job(UUID(part_of))
    if run.job.key in whole.context.get("go", ()):
        return
    if whole.kind != "restore_all" or run.job.key not in whole.context.get("parts", {}).values():
        raise RestoreRefused(
            f"job '{whole.id}' is no restore of everything that asked for this one",
            "nothing was replaced; `part_of` is for parts that such a restore asks for itself",
        )
    if whole.ended:
        raise RestoreRefused(
            f"the restore of everything that this is a part of, job '{whole.id}', is {whole.state}",
            f"nothing was replaced; `pgben jobs {whole.id}` says why",
        )
    run.ledger.keep(context={"ready": True})
    raise StepWaits(f"waits for the restore of everything, job '{whole.id}'")
