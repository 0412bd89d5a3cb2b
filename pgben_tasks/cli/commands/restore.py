"""The commands that bring backups back: restore and undo."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask import direct_mode, enqueue, plan as plan_first
from pgben_tasks.cli.ask.installation import open_workplace
from pgben_tasks.cli.commands import plan as plans
from pgben_tasks.cli.options import AsJson, Confirm, Direct, Wait, examples
from pgben_tasks.cli.view import outcome, output, streaming
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.domain.swap import check_confirmation
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import ConfigurationError, RestoreRefused

if TYPE_CHECKING:
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.domain.buckets.restore_plan import Found, PlanTotals, Verdict
    from pgben_tasks.runtime import Workplace

app = typer.Typer()

RESTORE_EXAMPLES = examples(
    ("pgben restore pgben", "the newest verified backup, beside the original"),
    ("pgben restore pgben --at '2026-11-22 14:30'", "the newest taken by then (PGBEN_TIMEZONE)"),
    ("pgben restore pgben --backup 20261123T050000Z-1f0c9a --into pgben_copy", "one backup"),
    ("pgben restore pgben --in-place --confirm pgben", "in the original's place, which is kept"),
    ("pgben restore bucket/pgben-documents --prefix cidadao/42/", "objects, into a new bucket"),
    ("pgben restore bucket/pgben-documents --in-place --dry-run", "what would be put back"),
    (
        "pgben restore bucket/pgben-documents --in-place --confirm pgben-documents",
        "objects, back into their own bucket; what is overwritten is copied aside",
    ),
    ("pgben restore --all", "everything of the newest verified recovery point, beside"),
    (
        "pgben restore --all --in-place --confirm pgben --confirm pgben-documents",
        "everything in the originals' place; `pgben plan --all` writes the whole command",
    ),
    (
        "pgben restore pgben --direct --into pgben",
        "onto an empty server, when Redis, workers and the catalog are gone",
    ),
)
UNDO_EXAMPLES = examples(
    ("pgben undo 1f0c9a2b --confirm pgben", "the database that job replaced takes its name again"),
    (
        "pgben undo 7be01d44 --confirm pgben",
        "of a restore of everything: every swap, one confirm each",
    ),
)

#: What the plan of a restore in place shows, in this order, and the words for it.
_SHOWN: dict[Found, str] = {
    "missing": "missing, would be put back",
    "differing": "differing, would be copied aside and put back",
    "tags": "differing in tags only, would be given back",
    "same": "the same",
    "extra": "extra, stay without --delete-extra",
    "unreadable": "not in the snapshot, stay as they are",
}

#: The fields of a request that choose what comes back.
_CHOICE: Final = frozenset({"target", "backup", "at"})


@app.command(epilog=RESTORE_EXAMPLES)
def restore(  # noqa: PLR0913 - one parameter per option
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="'pgben', 'postgres/pgben' or 'bucket/NAME'."),
    ] = None,
    *,
    backup: Annotated[
        str, typer.Option(metavar="ID|latest", help="A backup's id, or the newest verified one.")
    ] = "latest",
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The newest verified backup taken by this moment."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything of a recovery point, each where it was.")
    ] = False,
    point: Annotated[
        str,
        typer.Option(
            metavar="ID|latest", help="With --all: a point's id, or the newest verified one."
        ),
    ] = "latest",
    into: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The new database or bucket; default: a name with 'restored' and the time.",
        ),
    ] = None,
    swap: Annotated[
        bool,
        typer.Option("--swap", hidden=True, help="Of a database: another word for --in-place."),
    ] = False,
    confirm: Confirm = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Take a backup that was never verified.")
    ] = False,
    damaged: Annotated[
        bool,
        typer.Option(
            "--damaged", help="Of a bucket: what is whole of a damaged backup, by its id."
        ),
    ] = False,
    prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="Of a bucket: only keys that begin with this.")
    ] = "",
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Of a bucket: only this object; may be repeated."),
    ] = None,
    put_below: Annotated[
        str, typer.Option(metavar="TEXT", help="Of a bucket: put this before every key.")
    ] = "",
    settings: Annotated[
        bool, typer.Option("--settings", help="Of a bucket: give the copy its settings, too.")
    ] = False,
    roles: Annotated[
        bool,
        typer.Option(
            "--roles",
            help="Of a database: make all roles of its server that are missing, as they were; "
            "without passwords.",
        ),
    ] = False,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="Of a database: put the copy in the original's place, which is kept. Of a "
            "bucket: put back what is missing or differs; the rest stays as it is.",
        ),
    ] = False,
    delete_extra: Annotated[
        bool,
        typer.Option(
            "--delete-extra",
            help="In place: remove what the snapshot does not know; it lies aside.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="In place: compare only, change nothing (keys: --json)."),
    ] = False,
    direct: Direct = False,
    wait: Wait = True,
    as_json: AsJson = False,
    old_list: Annotated[bool, typer.Option("--list", hidden=True)] = False,
    old_postgres: Annotated[str | None, typer.Option("--postgres", hidden=True)] = None,
    old_minio: Annotated[str | None, typer.Option("--minio", hidden=True)] = None,
) -> int:
    """Restore beside the original or, with --in-place, in its place."""
    if old_list:
        return _list_the_old_way(as_json=as_json)
    work = direct_mode.open_work(direct=direct, wait=wait)
    of_bucket: dict[str, object] = {
        "--damaged": damaged,
        "--prefix": prefix,
        "--key": key,
        "--put-below": put_below,
        "--delete-extra": delete_extra,
    }
    old = old_postgres or old_minio
    if old is not None:
        target, backup = _named_the_old_way(work, old)
    if everything or point != "latest":
        alone = {"a target": target, "--into": into, "--unverified": unverified, **of_bucket}
        _require_everything({"--backup": backup != "latest", **alone}, everything=everything)
        everywhere = {
            "in_place": in_place or swap,
            "confirm": confirm or [],
            "settings": settings,
            "roles": roles,
        }
        wanted = plans.choice(work, None, point=point, at=at)
        return _restore_all(work, wanted, everywhere, dry_run=dry_run, wait=wait, as_json=as_json)
    if at is not None and backup != "latest":
        raise ConfigurationError("--backup and --at were given", "give one of the two")
    chosen = _chosen(work, target)
    swap = swap or (in_place and chosen.kind == "postgres")
    _require_a_catalog_to_swap(chosen, swap=swap, direct=direct)
    only = {"prefix": prefix, "keys": tuple(key or ()), "put_below": put_below}
    if dry_run:
        _require_plan(chosen, only, in_place=in_place)
        until = None if at is None else arguments.parse_moment(at, work.zone)
        snapshot = str(chosen) if backup == "latest" else f"{chosen}/{backup}"
        return _show_plan(snapshot, until, only, as_json=as_json)
    bucket = {
        **only,
        "settings": settings,
        "in_place": in_place and not swap,
        "delete_extra": delete_extra,
        "allow_damaged": damaged,
    }
    request: dict[str, Any] = {
        "target": str(chosen),
        "allow_unverified": unverified,
        **_replacement(chosen, confirm or [], swap=swap, in_place=in_place),
        **_bucket_fields(chosen, bucket),
        **_roles_field(chosen, asked=roles),
    }
    request |= plans.choice(work, str(chosen), backup=backup, at=at)
    if at is not None:
        output.say(f"restoring the data as of {output.moment(request['at'], work.zone)} or before")
    if into is not None:
        request["into"] = into if chosen.kind == "bucket" else arguments.parse_database(into)
    enqueue.parse_request("restore", str(chosen), request)
    if not as_json:
        wanted = {name: request[name] for name in _CHOICE & set(request)}
        plan_first.show_first(work, wanted, in_place=swap or in_place)
    if swap or in_place:
        check_confirmation(chosen.name, request["confirm"])
    return direct_mode.run_or_enqueue(work, "restore", chosen, request, wait=wait, as_json=as_json)


@app.command(epilog=UNDO_EXAMPLES)
def undo(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="The job that swapped; see `pgben jobs`.")
    ],
    *,
    confirm: Confirm = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> int:
    """Undo a swap: the replaced database takes its name again, the restored one is kept."""
    work = open_workplace()
    swapped = work.ledger.find(arguments.parse_job(job))
    if swapped.kind == "restore_all":
        return enqueue.enqueue_and_follow(
            work,
            "undo_all",
            [(EVERYTHING, {"job": swapped.id, "confirm": tuple(confirm or ())})],
            wait=wait,
            as_json=as_json,
        )
    target = arguments.parse_target(swapped.target)
    if swapped.kind not in {"restore", "undo"} or target.kind != "postgres":
        raise ConfigurationError(
            f"job '{swapped.id}' is a {swapped.kind} of '{target}', which swaps nothing",
            "`pgben jobs` shows the restores; only one of a database with --in-place can be undone",
        )
    name = _one_name(target, confirm or [])
    check_confirmation(target.name, name)
    request = {"target": str(target), "job": swapped.id, "confirm": name}
    return enqueue.enqueue_and_follow(
        work, "undo", [(str(target), request)], wait=wait, as_json=as_json
    )


def _chosen(work: Workplace | DirectPlace, target: str | None) -> Target:
    if target is None:
        raise ConfigurationError(
            "no target was named",
            f"name one of {', '.join(work.target_names())}, or give --all",
        )
    return direct_mode.target_to_restore(work, target)


def _require_a_catalog_to_swap(target: Target, *, swap: bool, direct: bool) -> None:
    if not (swap and direct):
        return
    raise ConfigurationError(
        f"--direct and --in-place were given for the database '{target.name}'",
        "without the catalog nobody would end a swap that dies; where the database is gone, or its "
        f"server new, give --into {target.name}; where it is there, restore beside and exchange "
        "the names with psql, as the README shows",
    )


def _require_everything(given: dict[str, object], *, everything: bool) -> None:
    """Refuse what goes with a single target only."""
    if not everything:
        raise ConfigurationError(
            "--point was given without --all", "a single target takes --backup or --at"
        )
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise ConfigurationError(
            f"{' and '.join(wrong)} and --all were given",
            "everything comes back whole, each where it was; restore a single target otherwise",
        )


def _restore_all(
    work: Workplace | DirectPlace,
    wanted: dict[str, Any],
    fields: dict[str, Any],
    *,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> int:
    """Ask for a restore of everything, after its plan; with ``dry_run`` show that only."""
    from pgben_tasks.runtime import Workplace

    if dry_run:
        return plans.show_plan(work, wanted, in_place=fields["in_place"], as_json=as_json)
    if not isinstance(work, Workplace):
        raise ConfigurationError(
            "--direct and --all were given",
            "without the catalog nobody would end what dies half-way; `pgben plan --all --direct` "
            "names the backups of the point: restore them one by one, with --direct and --backup",
        )
    request = {**wanted, **fields}
    enqueue.parse_request("restore_all", None, request)
    if not as_json:
        shown = plan_first.show_first(work, wanted, in_place=fields["in_place"])
        if shown is not None and "at" not in request:
            # A newer point may form before the job begins, and nobody has seen its plan.
            request["point"] = shown["point"]
    if fields["in_place"] and not fields["confirm"]:
        raise RestoreRefused(
            "everything would be replaced, and nothing was given to confirm that",
            "give the name of each database and bucket once more, with `--confirm`; the last line "
            "of `pgben plan --all` is the whole command",
        )
    return direct_mode.run_or_enqueue(
        work, "restore_all", None, request, wait=wait, as_json=as_json
    )


def _one_name(target: Target, confirm: list[str]) -> str | None:
    """Return the name that was given to confirm a replacement of one thing; refuse several."""
    if len(confirm) > 1:
        raise ConfigurationError(
            f"several names were confirmed, and only '{target.name}' would be replaced",
            f"give one: --confirm {target.name}",
        )
    return confirm[0] if confirm else None


def _replacement(
    target: Target, confirm: list[str], *, swap: bool, in_place: bool
) -> dict[str, Any]:
    """Return the fields of a request to replace something, if that was asked for."""
    if swap and target.kind == "bucket":
        raise ConfigurationError(
            "a bucket is not swapped", "put objects back with --in-place, or restore beside it"
        )
    if swap or in_place:
        name = _one_name(target, confirm)
        return {"confirm": name, **({"swap": True} if swap else {})}
    if confirm:
        raise ConfigurationError(
            "--confirm was given without --in-place", "nothing would be replaced"
        )
    return {}


def _bucket_fields(target: Target, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that only a restore of a bucket has; refuse them for a database."""
    if target.kind == "bucket":
        return asked
    if any(asked.values()):
        raise ConfigurationError(
            f"'{target}' is a database, which has no keys",
            "--prefix, --key, --put-below, --settings, --delete-extra and --damaged are of buckets",
        )
    return {}


def _require_plan(target: Target, only: dict[str, Any], *, in_place: bool) -> None:
    """Refuse where there is no plan to show, or where no restore could be asked for like that."""
    if target.kind != "bucket" or not in_place:
        raise ConfigurationError(
            "--dry-run was given without a restore in place",
            "only `pgben restore bucket/NAME --in-place` overwrites what exists",
        )
    fields = {"target": str(target), "in_place": True, **only}
    enqueue.parse_request("restore", str(target), fields)


def _show_plan(snapshot: str, at: datetime | None, only: dict[str, Any], *, as_json: bool) -> int:
    """Compare the bucket with a snapshot here and now, and show what a restore in place would do.

    ``only`` has the ``prefix`` and the ``keys`` that are asked for.
    """
    from pgben_tasks.domain.buckets.restore_plan import KeyChoice, PlanTotals
    from pgben_tasks.operations.buckets.browse import open_inventory
    from pgben_tasks.operations.buckets.compare import compare_live
    from pgben_tasks.operations.buckets.restoring import capture_of, require_found

    totals = PlanTotals()
    choice = KeyChoice(prefix=only["prefix"], keys=frozenset(only["keys"]))
    with direct_mode.open_snapshot(snapshot, at=at) as (tools, manifest, folder):
        live = tools.other_bucket(manifest.target_name.name)
        output.say(f"comparing snapshot '{manifest.backup}' with {live.describe()}")
        capture, inventory = capture_of(manifest), open_inventory(tools, manifest, folder)

        def verdicts() -> Iterator[Verdict]:
            for verdict in compare_live(tools, live, capture, inventory, choice, folder):
                totals.count(verdict)
                yield verdict
            require_found(
                choice,
                readable=totals.readable,
                unreadable=totals.objects_of("unreadable"),
                backup=manifest.backup,
            )

        if not as_json:
            deque(verdicts(), maxlen=0)
            columns = ("objects", "bytes", "what")
            output.show([output.table(columns, _rows(totals), right="objects, bytes")])
            return outcome.DONE
        head = {"target": manifest.target, "snapshot": manifest.backup, "dry_run": True}
        with streaming.streamed(head, "objects") as document:
            for verdict in verdicts():
                if verdict.found != "same":
                    fields = {"key": verdict.key, "found": verdict.found}
                    differs = {"differs": verdict.differs, "size": verdict.size}
                    document.add(json.dumps(fields | differs))
            document.totals = {"totals": _counted(totals)}
    return outcome.DONE


def _roles_field(target: Target, *, asked: bool) -> dict[str, bool]:
    """Return what says that all roles of the server are made; refuse it of a bucket."""
    if asked and target.kind == "bucket":
        raise ConfigurationError(
            f"--roles was given for the bucket '{target.name}'", "roles are of databases"
        )
    return {"roles": True} if asked else {}


def _counted(totals: PlanTotals) -> dict[str, dict[str, int]]:
    return {
        found: {"objects": totals.objects_of(found), "bytes": totals.size(found)}
        for found in _SHOWN
    }


def _rows(totals: PlanTotals) -> list[tuple[str, str, str]]:
    return [
        (output.number(totals.objects_of(found)), output.size(totals.size(found)), words)
        for found, words in _SHOWN.items()
        if totals.objects_of(found)
    ]


def _named_the_old_way(work: Workplace | DirectPlace, text: str) -> tuple[str, str]:
    target, backup = map(str, arguments.find_backup(text, work.repository))
    output.say(f"this is now: pgben restore {target} --backup {backup}")
    return target, backup


def _list_the_old_way(*, as_json: bool) -> int:
    from pgben_tasks.cli.commands.backups import list_backups

    output.say("this is now: pgben list")
    return list_backups(as_json=as_json)
