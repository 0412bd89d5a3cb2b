"""The commands of maintenance: acknowledge, hold, release, prune, sweep."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask import enqueue
from pgben_tasks.cli.ask.installation import open_workplace
from pgben_tasks.cli.options import AsJson, Wait, examples
from pgben_tasks.domain.job import JobKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from pgben_tasks.domain.target import BackupId, Target
    from pgben_tasks.runtime import Workplace

app = typer.Typer()

OneTarget = Annotated[
    str | None,
    typer.Argument(metavar="[TARGET]", help="One target; every protected one without it."),
]

ACKNOWLEDGE_EXAMPLES = examples(
    (
        "pgben acknowledge 20261123T050000Z-1f0c9a --reason 'old requests were archived'",
        "the backup was examined and is plausible",
    ),
    (
        "pgben acknowledge bucket/pgben-documents --key 'cidadao/42/rg.jpg' --reason 'disk lost'",
        "an object is lost for good: later snapshots count without it",
    ),
)
HOLD_EXAMPLES = examples(
    (
        "pgben hold 20261123T050000Z-1f0c9a --for 90d --reason 'audit of 2026'",
        "keep one backup, whatever retention would remove",
    ),
    (
        "pgben hold 20261123T054100Z-77ab03 --until 2027-03-01 --label release-42 --reason 'v42'",
        "a recovery point: every backup of it",
    ),
)
RELEASE_EXAMPLES = examples(
    (
        "pgben release 20261123T050000Z-1f0c9a --reason 'the audit has ended'",
        "retention decides again",
    ),
)
PRUNE_EXAMPLES = examples(
    ("pgben prune --dry-run", "show what would be removed, and why the rest stays"),
    ("pgben prune pgben", "remove what retention no longer keeps"),
)
SWEEP_EXAMPLES = examples(
    ("pgben sweep --dry-run", "show packs, uploads and signatures that belong to no backup"),
    ("pgben sweep pgben", "remove those older than seven days"),
)


@app.command(epilog=ACKNOWLEDGE_EXAMPLES)
def acknowledge(
    backup: Annotated[
        str,
        typer.Argument(
            metavar="ID|TARGET", help="A suspect or incomplete backup's id; with --key, a bucket."
        ),
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Of a bucket: this object is lost; may be repeated."),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Why it is plausible; signed and kept beside it."),
    ] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> int:
    """Declare a suspect or incomplete backup plausible, or single objects lost.

    The backup counts again, and pruning goes on. Of a lost object only the
    SHA-256 of its key is signed and kept; snapshots that lack nothing else
    are 'verified with exceptions'.
    """
    from pgben_tasks.domain.buckets.acknowledged import digest_of

    work = open_workplace()
    request: dict[str, Any] = {"reason": reason}
    if key:
        (target,) = arguments.parse_protected([backup], work.target_names())
        request["keys"] = tuple(digest_of(one) for one in key)
    else:
        target, request["backup"] = arguments.find_backup(backup, work.repository)
        request["backup"] = str(request["backup"])
    wanted = [(str(target), {"target": str(target), **request})]
    return enqueue.enqueue_and_follow(work, "acknowledge", wanted, wait=wait, as_json=as_json)


Reason = Annotated[
    str, typer.Option(metavar="TEXT", help="Why; signed and kept beside it, for whoever asks.")
]
HeldBackup = Annotated[
    str, typer.Argument(metavar="ID", help="A backup's id, or a recovery point's: all of it.")
]


@app.command(epilog=HOLD_EXAMPLES)
def hold(
    backup: HeldBackup,
    reason: Reason,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="MOMENT",
            help="The end, as '2027-03-01' or '2027-03-01 12:00' (PGBEN_TIMEZONE).",
        ),
    ] = None,
    keep_for: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Instead: for so long, as '14d'.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="NAME", help="What it is kept for, as in lists.")
    ] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> int:
    """Keep a backup, or a recovery point, from being pruned until a moment.

    Who holds it, until when and for what is signed and listed. A hold is
    never made shorter: `pgben release` ends it.
    """
    work = open_workplace()
    request: dict[str, Any] = {"reason": reason, "label": label, "keep_for": keep_for}
    if until is not None:
        request["until"] = arguments.parse_moment(until, work.zone)
    chosen = arguments.find_backups(backup, work.repository)
    return _request_holds(work, chosen, request, wait=wait, as_json=as_json)


@app.command(epilog=RELEASE_EXAMPLES)
def release(backup: HeldBackup, reason: Reason, wait: Wait = True, as_json: AsJson = False) -> int:
    """Keep a held backup no longer than retention does."""
    work = open_workplace()
    chosen = arguments.find_backups(backup, work.repository)
    if len(chosen) > 1:
        # Of a recovery point those that somebody holds, unless nobody holds any.
        now = work.database.now()
        chosen = [one for one in chosen if _is_held(work, *one, now=now)] or chosen
    request = {"reason": reason, "release": True}
    return _request_holds(work, chosen, request, wait=wait, as_json=as_json)


@app.command(epilog=PRUNE_EXAMPLES)
def prune(
    target: OneTarget = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan with its reasons; remove nothing.")
    ] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> int:
    """Remove backups that retention no longer keeps."""
    return _request_each(target, "prune", dry_run=dry_run, wait=wait, as_json=as_json)


@app.command(epilog=SWEEP_EXAMPLES)
def sweep(
    target: OneTarget = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what is left over and why; remove nothing.")
    ] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> int:
    """Remove what interrupted runs left in the repository; runs by itself once a day."""
    return _request_each(target, "sweep", dry_run=dry_run, wait=wait, as_json=as_json)


def _is_held(work: Workplace, target: Target, backup: BackupId, *, now: datetime) -> bool:
    from pgben_tasks.domain.holds import in_force

    holds = [one.hold for one in work.index.backups(target) if one.id == str(backup)]
    return any(in_force(one, now) for one in holds)


def _request_holds(
    work: Workplace,
    chosen: Iterable[tuple[Target, BackupId]],
    request: dict[str, Any],
    *,
    wait: bool,
    as_json: bool,
) -> int:
    """Request that each of these backups is held, or released."""
    wanted = [
        (str(target), {"target": str(target), "backup": str(backup), **request})
        for target, backup in chosen
    ]
    return enqueue.enqueue_and_follow(work, "hold", wanted, wait=wait, as_json=as_json)


def _request_each(
    target: str | None, kind: JobKind, *, dry_run: bool, wait: bool, as_json: bool
) -> int:
    """Request a job of one target, or of every protected one; return the exit code."""
    work = open_workplace()
    known = work.target_names()
    chosen = arguments.parse_protected([target] if target is not None else known, known)
    wanted = [(str(one), {"target": str(one), "dry_run": dry_run}) for one in chosen]
    return enqueue.enqueue_and_follow(work, kind, wanted, wait=wait, as_json=as_json)
