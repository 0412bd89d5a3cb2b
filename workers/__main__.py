"""Start one kind of process with the right flags: ``python -m workers all``.

python -m workers backup|restore|verify|maintenance|all    a worker with these queues
python -m workers beat                                     the scheduler
python -m workers flower                                   the dashboard
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

from pgben_tasks import names

#: (queues, processes). A maintenance worker needs a second process for the tick while it prunes.
ROLES: Final[dict[str, tuple[tuple[str, ...], int]]] = {
    "backup": ((names.QUEUE_BACKUP,), 2),
    "restore": ((names.QUEUE_RESTORE,), 2),
    "verify": ((names.QUEUE_VERIFY,), 1),
    "maintenance": ((names.QUEUE_MAINTENANCE,), 2),
    "all": (names.QUEUES, 4),
}


def command(role: str, rest: list[str]) -> list[str]:
    """Return the Celery command line of a role; ``rest`` are further flags for Celery."""
    celery = [sys.executable, "-m", "celery"]
    if role == "beat":
        return [*celery, "-A", "beat_schedule", "beat", *rest]
    if role == "flower":
        # Read-only: whoever may look need not be able to enqueue.
        return [*celery, "-A", "workers", "flower", "--address=127.0.0.1", "--read-only", *rest]
    queues, processes = ROLES[role]
    return [
        *celery,
        "-A",
        "workers",
        "worker",
        f"--queues={','.join(queues)}",
        f"--concurrency={processes}",
        f"--hostname={role}@%h",
        "--without-gossip",
        "--without-mingle",
        *rest,
    ]


def main() -> None:
    """Replace this process by Celery's."""
    parser = argparse.ArgumentParser(
        prog="python -m workers",
        description="Start a worker, the scheduler or the dashboard of pgben.",
        epilog="Further flags go to Celery: python -m workers backup --loglevel=DEBUG",
    )
    parser.add_argument("role", choices=[*ROLES, "beat", "flower"])
    known, rest = parser.parse_known_args()
    # SIGTERM, which orchestrators send, then begins Celery's soft shutdown.
    environment = {**os.environ, "REMAP_SIGTERM": "SIGQUIT"}
    told = any(flag.startswith(("--loglevel", "-l")) for flag in rest)
    line = command(known.role, rest if told else ["--loglevel=INFO", *rest])
    os.execve(line[0], line, environment)  # noqa: S606 - our own interpreter, no shell


if __name__ == "__main__":
    main()
