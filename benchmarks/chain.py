"""pgben itself: from the start of the dump step to the committed manifest, as the ledger saw it.

A real worker runs the job. Its ``prune`` and ``record`` steps, which read the backup back, come
after the commit; they are waited for, so that nothing of one run disturbs the next.
"""

from __future__ import annotations

import time
from typing import Final

from benchmarks.meter import Meter
from benchmarks.places import DATABASE, Installation
from benchmarks.rounds import Measured
from pgben_tasks import names
from pgben_tasks.cli.enqueue import submit
from pgben_tasks.domain.job import Job, StepRun

_TARGET: Final = f"postgres/{DATABASE}"
_LOOK_EVERY: Final = 0.1
_STEPS: Final = (
    names.BACKUP_POSTGRES_DUMP,
    names.BACKUP_POSTGRES_CHECKSUM,
    names.BACKUP_POSTGRES_UPLOAD,
)


class Chain:
    """Backups by one installation."""

    def __init__(self, name: str, at: Installation) -> None:
        """Measure ``at`` under ``name``."""
        self.name = name
        self._at = at

    def run(self) -> Measured:
        """Back up once; waits for the job's end."""
        work = self._at.work
        with Meter(self._at.worker.pid) as meter:
            (job,), unsent = submit(work, "backup", [(_TARGET, {"target": _TARGET})])
            if unsent is not None:
                raise unsent
            while not self._committed(job):
                time.sleep(_LOOK_EVERY)
        while not (job := work.ledger.job(job.id)).ended:
            time.sleep(_LOOK_EVERY)
        if job.result.get("state") != "verified":
            raise SystemExit(f"the backup failed: {job.error}; {self._at.worker.tail()}")
        steps = self._steps(job)
        dump, upload = steps[_STEPS[0]], steps[_STEPS[-1]]
        if upload.ended_at is None:
            raise SystemExit(f"'{upload.name}' has no end in the ledger")
        return Measured(
            seconds=(upload.ended_at - dump.started_at).total_seconds(),
            cpu=meter.cpu,
            memory=meter.peak,
            stored=job.result["stored_bytes"],
            parts={name.rpartition(".")[2]: steps[name].seconds or 0.0 for name in _STEPS},
        )

    def _committed(self, job: Job) -> bool:
        upload = self._steps(job).get(_STEPS[-1])
        return (upload is not None and upload.ended_at is not None) or self._at.work.ledger.job(
            job.id
        ).ended

    def _steps(self, job: Job) -> dict[str, StepRun]:
        return {step.name: step for step in self._at.work.ledger.steps(job.id)}
