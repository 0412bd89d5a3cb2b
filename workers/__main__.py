"""Start one kind of process with the right flags: ``python -m workers all``.

``python -m workers --help`` names every kind; further flags go to Celery.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from pgben_tasks import names
from pgben_tasks.errors import ConfigurationError

#: (queues, processes). A maintenance worker needs a second process for the tick while it prunes.
ROLES: Final[dict[str, tuple[tuple[str, ...], int]]] = {
    "backup": ((names.QUEUE_BACKUP,), 2),
    "restore": ((names.QUEUE_RESTORE,), 2),
    "verify": ((names.QUEUE_VERIFY,), 1),
    "maintenance": ((names.QUEUE_MAINTENANCE,), 2),
    "all": (names.QUEUES, 4),
}

#: What each process does, in the order in which they are started.
PROCESSES: Final[dict[str, str]] = {
    "backup": "a worker that dumps databases and copies buckets",
    "restore": "a worker that restores, swaps and undoes",
    "verify": "a worker that reads stored backups again",
    "maintenance": "a worker that prunes, sweeps, mails alarms and runs the tick",
    "all": "one worker with all of these queues, for small installations",
    "beat": "the scheduler: backups, verifications, the tick every minute",
    "flower": "the console: Flower with the pages of pgben, on 127.0.0.1:5555",
    "metrics": "an exporter for Prometheus, on 127.0.0.1:9188",
}

_HELP: Final = f"""\
Start a worker, the scheduler, the console or the exporter of pgben.

roles:
{"".join(f"  {role:<13}{what}{chr(10)}" for role, what in PROCESSES.items())}
Other flags go to Celery or Flower as they are: `celery -A workers worker
--help` lists those of workers; `beat` or `flower` in its place lists theirs.
docs/flower.md says which of Flower's the console takes, and
`python -m workers.metrics --help` lists those of the exporter."""

_EXAMPLES: Final = """\
examples:
  python -m workers backup
  python -m workers backup --loglevel=DEBUG --concurrency=3
  python -m workers beat --schedule=/var/lib/pgben/celerybeat-schedule
  python -m workers flower --port=5556 --url_prefix=backups

The settings are variables PGBEN_*, as for every command of pgben. SIGTERM ends
a worker softly. `python -m workers.ready ROLE` says whether a worker is ready."""


def command(role: str, rest: list[str]) -> list[str]:
    """Return the Celery command line of a role; ``rest`` are further flags for Celery."""
    celery = [sys.executable, "-m", "celery"]
    if role == "beat":
        return [*celery, "-A", "beat_schedule", "beat", *rest]
    if role == "flower":
        # Flower's application with pages and logins of our own; it knows Flower's flags.
        return [sys.executable, "-m", "pgben_tasks.console", *rest]
    if role == "metrics":
        return [sys.executable, "-m", "workers.metrics", *rest]
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


def parse(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the role and the flags for Celery; raise ``ConfigurationError`` without a role."""
    parser = argparse.ArgumentParser(
        prog="python -m workers",
        usage="python -m workers ROLE [CELERY'S FLAGS]",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("role", nargs="?", help=argparse.SUPPRESS)
    known, rest = parser.parse_known_args(arguments)
    role = known.role
    if role not in PROCESSES:
        what = f"there is no role '{role}'" if role else "no role was given"
        near = difflib.get_close_matches(role or "", PROCESSES, n=1)
        meant = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigurationError(what, f"{meant}the roles are {', '.join(PROCESSES)}")
    return role, rest


def main() -> NoReturn:
    """Replace this process by Celery's."""
    try:
        role, rest = parse(sys.argv[1:])
    except ConfigurationError as exc:
        sys.stderr.write(f"error: {exc}\n")
        sys.exit(exc.exit_code)
    # SIGTERM, which orchestrators send, then begins Celery's soft shutdown.
    environment = {**os.environ, "REMAP_SIGTERM": "SIGQUIT"}
    told = any(flag.startswith(("--loglevel", "-l")) for flag in rest)
    line = command(role, rest if told else ["--loglevel=INFO", *rest])
    os.execve(line[0], line, environment)  # noqa: S606 - our own interpreter, no shell


if __name__ == "__main__":
    main()
