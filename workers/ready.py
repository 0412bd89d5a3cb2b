"""Report whether a worker on this node is ready: ``python -m workers.ready backup``.

For readiness probes, never for liveness: a heartbeat also goes stale while the catalog is away,
and whoever kills a worker for that kills a healthy dump.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pgben_tasks import names, runtime
from pgben_tasks.errors import PgbenError
from workers.__main__ import ROLES


def absent(work: runtime.Workplace, role: str) -> list[str]:
    """Return the names of this node's worker of ``role`` without a fresh heartbeat.

    It has not taken its place yet, or cannot reach the catalog.
    """
    queues, _ = ROLES[role]
    living = set(work.workers.living())
    return [name for queue in queues if (name := names.node_queue(queue, work.node)) not in living]


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when the worker shows a fresh heartbeat, else 1 with one line that says why."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.ready", description="Say whether the worker on this node is ready."
    )
    parser.add_argument("role", choices=sorted(ROLES))
    role = parser.parse_args(arguments).role
    try:
        missing = absent(runtime.workplace(), role)
    except PgbenError as exc:
        missing = [exc.sentence]
    if missing:
        sys.stderr.write(f"not ready: {', '.join(missing)}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
