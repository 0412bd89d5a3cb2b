"""pgben itself: from the start of the first step to the committed manifest, as the ledger saw it.

A real worker runs the job. Its ``prune`` and ``record`` steps, which read the backup back, come
after the commit; they are waited for, so that nothing of one run disturbs the next.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final, LiteralString

from benchmarks.meter import Meter
from benchmarks.places import DATABASE, Installation
from benchmarks.rounds import Measured
from pgben_tasks import names
from pgben_tasks.adapters.postgres.server import Connection
from pgben_tasks.cli.ask.enqueue import submit
from pgben_tasks.domain.job import Job

POSTGRES: Final = f"postgres/{DATABASE}"
_POLL_SECONDS: Final = 0.1
#: The steps up to the commit, by the kind of target.
_STEPS: Final = {
    "postgres": (
        names.BACKUP_POSTGRES_DUMP,
        names.BACKUP_POSTGRES_CHECKSUM,
        names.BACKUP_POSTGRES_UPLOAD,
    ),
    "bucket": (
        names.BACKUP_BUCKET_SNAPSHOT,
        names.BACKUP_BUCKET_COPY,
        names.BACKUP_BUCKET_CHECKSUM,
        names.BACKUP_BUCKET_UPLOAD,
    ),
}

_ENDED: Final = "SELECT 1 FROM job WHERE id = %(job)s AND ended_at IS NOT NULL"
#: A job that ended without a commit is waited for no longer.
_COMMITTED: Final = (
    "SELECT 1 FROM step WHERE job = %(job)s AND name = %(step)s AND ended_at IS NOT NULL"
    " UNION ALL SELECT 1 FROM job WHERE id = %(job)s AND ended_at IS NOT NULL"
)


class Chain:
    """Backups by one installation."""

    def __init__(self, name: str, at: Installation, target: str = POSTGRES) -> None:
        """Measure backups of ``target`` at ``at`` under ``name``."""
        self.name = name
        self._at = at
        self._target = target
        self._steps = _STEPS[target.partition("/")[0]]

    def run(self) -> Measured:
        """Back up once and wait for the job's end."""
        work = self._at.work
        # One session for all queries: a new one each time would cost more than the ledger itself.
        with closing(work.database.session()) as session:
            with Meter(self._at.worker.pid) as meter:
                jobs: list[Job] = []
                unsent = submit(work, "backup", [(self._target, {"target": self._target})], jobs)
                if unsent is not None:
                    raise unsent
                (job,) = jobs
                _wait(session, _COMMITTED, job, self._steps[-1])
            _wait(session, _ENDED, job, self._steps[-1])
        job = work.ledger.job(job.id)
        if job.result.get("state") != "verified":
            raise SystemExit(f"the backup failed: {job.error}; {self._at.worker.tail()}")
        steps = {step.name: step for step in work.ledger.steps(job.id)}
        first, upload = steps[self._steps[0]], steps[self._steps[-1]]
        if upload.ended_at is None:
            raise SystemExit(f"'{upload.name}' has no end in the ledger")
        return Measured(
            seconds=(upload.ended_at - first.started_at).total_seconds(),
            cpu=meter.cpu,
            memory=meter.peak,
            stored=job.result["stored_bytes"],
            parts={name.rpartition(".")[2]: steps[name].seconds or 0.0 for name in self._steps},
        )


def wait_for_end(session: Connection, job: Job) -> None:
    """Ask the catalog until a job has ended."""
    _wait(session, _ENDED, job, "")


def _wait(session: Connection, question: LiteralString, job: Job, step: str) -> None:
    """Ask the catalog until the answer is yes."""
    while session.execute(question, {"job": job.id, "step": step}).fetchone() is None:
        time.sleep(_POLL_SECONDS)
