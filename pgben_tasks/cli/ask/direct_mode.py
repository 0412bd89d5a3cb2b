"""Work in this process: run a chain in direct mode, show its progress and end; open a snapshot.

Bars, tables, JSON and exit codes are those of following a job; there is only no job to follow
afterwards, so an interruption undoes what was begun.
"""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgben_tasks import names
from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask import enqueue
from pgben_tasks.cli.ask.installation import open_workplace
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.cli.view.screen import Screen
from pgben_tasks.domain.job import EVERYTHING, Job, JobKind
from pgben_tasks.domain.target import LATEST
from pgben_tasks.errors import ConfigurationError, PgbenError

if TYPE_CHECKING:
    from pgben_tasks.direct.chain import Chain
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.domain.documents import Manifest
    from pgben_tasks.domain.target import Target
    from pgben_tasks.operations.toolbox import Toolbox
    from pgben_tasks.runtime import Workplace


def open_work(*, direct: bool, wait: bool = True) -> Workplace | DirectPlace:
    """Return what a command works with; ``--direct`` and ``--no-wait`` exclude each other."""
    if not direct:
        return open_workplace()
    if not wait:
        raise ConfigurationError(
            "--direct and --no-wait were given",
            "no worker is asked, so there is nobody to leave the work to",
        )
    from pgben_tasks.direct.place import DirectPlace

    return DirectPlace.load()


def target_to_restore(work: Workplace | DirectPlace, text: str) -> Target:
    """Read a target to restore: a protected one or, in direct mode, any that has a backup."""
    from pgben_tasks.runtime import Workplace

    if isinstance(work, Workplace):
        (chosen,) = arguments.parse_protected([text], work.target_names())
        return chosen
    return arguments.parse_known(text, work)


def run_or_enqueue(
    work: Workplace | DirectPlace,
    kind: JobKind,
    target: Target | None,
    fields: dict[str, Any],
    *,
    wait: bool,
    as_json: bool,
) -> int:
    """Leave a job to the workers and follow it or, in direct mode, do it here.

    ``target`` None means everything. Return the exit code.
    """
    from pgben_tasks.runtime import Workplace

    if isinstance(work, Workplace):
        named = EVERYTHING if target is None else str(target)
        return enqueue.enqueue_and_follow(work, kind, [(named, fields)], wait=wait, as_json=as_json)
    return run_here(work, kind, fields, target=target, as_json=as_json)


def run_here(
    place: DirectPlace,
    kind: JobKind,
    fields: dict[str, Any],
    *,
    target: Target | None,
    as_json: bool,
) -> int:
    """Run one job in this process and show how it ended; return the exit code."""
    from pgben_tasks.direct.chain import Chain, MemoryRow

    asked = {**fields, "requested_by": enqueue.requester()}
    request = enqueue.parse_request(kind, fields.get("target"), asked)
    _warn(place, kind)
    named = EVERYTHING if target is None else str(target)
    job = place.job(kind, request, target=named)
    screen = Screen(output.err())
    with place.tools(*(() if target is None else (target,))) as tools:
        row = MemoryRow(job, tools.clock)
        chain = Chain(row, tools, screen, on_change=screen.show_steps, retry=screen.retry)
        with screen.showing(chain):
            ended = _run_to_end(chain)
    _report_copy(chain, ended)
    if as_json:
        document = outcome.job_document(ended, chain.steps)
        output.print_json({"jobs": [document], "direct": {"recorded": place.records}})
    else:
        output.show(outcome.job_tables(ended, zone=place.zone))
        if ended.error is not None:
            output.complain(ended.error["sentence"], ended.error["hint"])
    return outcome.INTERRUPTED if ended.state == "cancelled" else outcome.exit_code(ended)


def _run_to_end(chain: Chain) -> Job:
    """Run a chain; return its job as it ended, also when it failed or was interrupted."""
    from pgben_tasks.operations import spool

    try:
        # Another command of this machine may be sweeping what ended ones left.
        with spool.occupied(chain.folder):
            return chain.run()
    except KeyboardInterrupt:
        return replace(chain.job, state="cancelled", ended_at=chain.tools.clock.now())
    except PgbenError as exc:
        if not chain.job.ended:
            chain.row.fail(chain.job.step or "", exc)
        return chain.job


def _warn(place: DirectPlace, kind: JobKind) -> None:
    output.say(
        "direct mode: no lock of a catalog is held and nothing is written to a ledger or audit "
        "trail; stop the maintenance worker where one still runs, or it may prune meanwhile",
        style="yellow",
    )
    if kind == "verify" and not place.records:
        output.say(
            "no key at hand may sign what is found, so nothing is recorded in the repository "
            "(PGBEN_SIGNING_KEY_FILE)",
            style="yellow",
        )


def _report_copy(chain: Chain, ended: Job) -> None:
    """Write whether the copy exists when its restore did not succeed."""
    if ended.kind != "restore" or ended.state == "succeeded":
        return
    into = chain.job.context["into"]
    if ended.target.startswith("bucket/"):
        output.say(_objects_left(ended, into), style="yellow")
        return
    if ended.step in {names.RESTORE_POSTGRES_SELECT, names.RESTORE_POSTGRES_FETCH}:
        # Whether or not the server could be asked: only the step after these makes a database.
        output.say("no new database was made; nothing was changed")
    elif chain.left is not None:
        output.say(
            f"the unfinished copy '{into}' could not be looked for or removed: "
            f'{chain.left.sentence}; when it is there, drop it: DROP DATABASE "{into}"',
            style="bold red",
        )
    elif chain.removed:
        output.say(f"the unfinished copy '{into}' was removed; nothing else was changed")
    elif chain.job.context.get("finishing"):
        output.say(f"the copy '{into}' was whole already and stays", style="yellow")
    else:
        output.say("no new database was made; nothing was changed")


def _objects_left(ended: Job, into: str) -> str:
    """Return what an unfinished restore of objects has changed."""
    aside = ended.context.get("aside")
    if ended.context.get("copying"):
        return f"the objects that were copied to '{into}' so far stay there"
    if ended.step == names.RESTORE_BUCKET_REPLACE_ASIDE:
        return f"nothing was overwritten; copies lie in '{aside}'"
    if ended.step in {names.RESTORE_BUCKET_REPLACE_WRITE, names.RESTORE_BUCKET_REPLACE_FINISH}:
        return f"what was put back into '{into}' stays; what was overwritten lies in '{aside}'"
    return "nothing was changed"


@contextmanager
def open_snapshot(
    text: str, *, at: datetime | None = None
) -> Iterator[tuple[Toolbox, Manifest, Path]]:
    """Yield the tools for a snapshot, its manifest, and a private folder that is removed after.

    ``text`` is an id, or a target: then the newest verified one, or the newest listed by ``at``.
    """
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.operations.repository.selection import choose_backup

    place = DirectPlace.load()
    if arguments.looks_like_backup(text):
        target, backup = arguments.find_backup(text, place.repository)
    else:
        target = arguments.parse_known(text, place)
        now = datetime.now(UTC)
        backup = choose_backup(place.repository, target, at or LATEST, now=now).backup.id
    _require_bucket(target, "name a snapshot of a bucket")
    manifest = place.repository.manifest(target, backup)
    with _tools_and_folder(place, target) as (tools, folder):
        yield tools, manifest, folder


@contextmanager
def open_bucket(text: str) -> Iterator[tuple[Toolbox, Target, Path]]:
    """Yield the tools for a bucket's snapshots, its name, and a folder as ``open_snapshot`` does.

    ``text`` names a bucket that is protected here, or has a snapshot in the repository.
    """
    from pgben_tasks.direct.place import DirectPlace

    place = DirectPlace.load()
    target = arguments.parse_known(text, place)
    _require_bucket(target, "name a bucket, as in 'bucket/NAME'")
    with _tools_and_folder(place, target) as (tools, folder):
        yield tools, target, folder


@contextmanager
def _tools_and_folder(place: DirectPlace, target: Target) -> Iterator[tuple[Toolbox, Path]]:
    from pgben_tasks.operations import spool

    with place.tools(target) as tools, spool.passing_folder(tools.spool) as folder:
        yield tools, folder


def _require_bucket(target: Target, hint: str) -> None:
    if target.kind != "bucket":
        raise ConfigurationError(f"'{target}' is no bucket", hint)
