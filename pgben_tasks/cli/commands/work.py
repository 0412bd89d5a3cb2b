"""The commands that ask workers for backups, and to verify them."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask import direct_mode, enqueue
from pgben_tasks.cli.ask.installation import open_workplace
from pgben_tasks.cli.options import AsJson, Direct, Wait, examples
from pgben_tasks.cli.view import output
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import ConfigurationError, RequestRefused

if TYPE_CHECKING:
    from pgben_tasks.runtime import Workplace

app = typer.Typer()

BACKUP_EXAMPLES = examples(
    ("pgben backup pgben", "back up one database and wait until it is verified"),
    ("pgben backup bucket/pgben-documents", "take a snapshot of one bucket"),
    ("pgben backup --all --no-wait", "enqueue one job per protected database and bucket"),
    ("pgben backup pgben --json", "the same for scripts: exit 0 means stored and verified"),
    (
        "pgben backup --all --hold 14d --label release-42 --max-age 1h",
        "before a release: exit 0 means verified and kept, a new one or one that is there",
    ),
)
VERIFY_EXAMPLES = examples(
    ("pgben verify", "look at every backup of every target: presence, sizes, signatures"),
    ("pgben verify pgben --level full", "read every stored byte of one target again"),
    ("pgben verify 20261123T050000Z-1f0c9a --level full", "one backup"),
    ("pgben verify --level full --direct", "here and now, without Redis, workers or the catalog"),
)


@app.command(epilog=BACKUP_EXAMPLES)
def backup(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TARGET]...", help="'pgben', 'postgres/pgben' or 'bucket/NAME'."),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Every protected database, then every bucket, joined in a recovery point."
        ),
    ] = False,
    hold: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Keep it for so long ('14d'), whatever retention would remove."
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --hold: what it is kept for, as in lists."),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="With --hold: why; signed and kept beside it."),
    ] = None,
    max_age: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Make none where a verified one is not older ('1h'); hold that one.",
        ),
    ] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> int:
    """Back up databases and buckets: capture, store, prune, read back.

    With --hold the exit code is 0 only when the backup is verified and held:
    a deployment may go on then, and not before.
    """
    asked = {"hold_for": hold, "label": label, "reason": reason, "max_age": max_age}
    keeping = {name: value for name, value in asked.items() if value is not None}
    work = open_workplace()
    known = work.target_names()
    if everything and targets:
        raise ConfigurationError("targets and --all were given", "give one of the two")
    if not (everything or targets) and len(known) > 1:
        raise ConfigurationError(
            "several targets are protected, and none was named",
            f"name some of {', '.join(known)}, or give --all",
        )
    if everything and _forms_points(work):
        return direct_mode.run_or_enqueue(work, "point", None, keeping, wait=wait, as_json=as_json)
    chosen = arguments.parse_protected(targets or known, known)
    wanted = [(str(one), {"target": str(one), **keeping}) for one in chosen]
    return enqueue.enqueue_and_follow(work, "backup", wanted, wait=wait, as_json=as_json)


def _forms_points(work: Workplace) -> bool:
    """Return whether backups of everything are joined; not while an older worker counts."""
    from pgben_tasks.operations.points.form import require_new_workers

    if not work.settings.forms_points:
        return False
    try:
        require_new_workers(work.workers)
    except RequestRefused as exc:
        output.say(f"{exc.sentence}; the backups are made without one", style="yellow")
        return False
    return True


@app.command(epilog=VERIFY_EXAMPLES)
def verify(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[TARGET|ID]", help="A target, a backup's id, or nothing for all."),
    ] = None,
    level: Annotated[
        Literal["quick", "full"],
        typer.Option(help="'quick': presence and signatures; 'full': every stored byte."),
    ] = "quick",
    full: Annotated[bool, typer.Option("--full", hidden=True)] = False,
    direct: Direct = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> int:
    """Verify stored backups; exit 5 when anything is found."""
    work = direct_mode.open_work(direct=direct, wait=wait)
    request: dict[str, Any] = {"level": "full" if full else level}
    target: Target | None = None
    if what is not None and arguments.looks_like_backup(what):
        target, found = arguments.find_backup(what, work.repository)
        request |= {"target": str(target), "backup": str(found)}
    elif what is not None:
        target = arguments.parse_known(what, work)
        request["target"] = str(target)
    return direct_mode.run_or_enqueue(work, "verify", target, request, wait=wait, as_json=as_json)
