"""`pgben points`: which recovery points there are, and what the cross-check of one found."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer
from rich.console import RenderableType
from rich.text import Text

from pgben_tasks.cli.ask import direct_mode
from pgben_tasks.cli.options import AsJson, Direct, Wide, examples
from pgben_tasks.cli.view import outcome, output, remedies
from pgben_tasks.domain.listing import point_document
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import (
    BackupNotFound,
    CatalogLost,
    ConfigurationError,
    DatabaseUnavailable,
    PgbenError,
)

if TYPE_CHECKING:
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.domain.points import KnownPoint
    from pgben_tasks.domain.references import Fault
    from pgben_tasks.runtime import Workplace

app = typer.Typer()

POINTS_EXAMPLES = examples(
    ("pgben points", "databases and documents as of one moment, newest first"),
    ("pgben points --wide", "the same with every member and its state"),
    ("pgben points ID", "one: its members, and rows whose objects are not as they say"),
    ("pgben points ID --csv rows.csv", "all of these rows, to correct them"),
    ("pgben points --direct", "from the repository itself, signatures checked; needs no catalog"),
)
#: How many faults a screen shows; all are in the CSV.
_SHOWN: Final = 10
_COLUMNS: Final = (
    *("fault", "bucket", "key", "reference", "row", "expected", "found", "recoverable_from"),
)
_STDOUT: Final = "-"


@app.command(epilog=POINTS_EXAMPLES)
def points(
    point: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One recovery point, in full.")
    ] = None,
    csv_file: Annotated[
        str | None,
        typer.Option(
            "--csv", metavar="FILE", help="Of one: write every fault to a new file, or to -."
        ),
    ] = None,
    direct: Direct = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> int:
    """List recovery points: backups of all databases and buckets that belong together."""
    if csv_file is not None and (point is None or as_json):
        raise ConfigurationError(
            "--csv needs the id of a recovery point, and goes without --json",
            "`pgben points` lists them",
        )
    work = direct_mode.open_work(direct=direct)
    found = read_points(work)
    if point is not None:
        _show_one(work, _named(found, point), csv_file, as_json=as_json)
    elif as_json:
        shown = [point_document(one, datetime.now(UTC)) for one in found]
        output.print_json({"repository": work.repository.id, "points": shown})
    elif found:
        table = _points_and_members if output.is_wide(wide) else _points_table
        output.show([table(found, work.zone)], wide=wide)
    elif work.settings.forms_points:
        output.say(f"there are no recovery points in {work.repository.describe()}")
        output.hint("`pgben backup --all` forms one")
    else:
        output.say("a recovery point joins databases with buckets; both are not protected here")
        output.hint("see PGBEN_DB_NAME, PGBEN_BUCKETS and PGBEN_MINIO_ACCESS_KEY")
    return outcome.DONE


def read_points(
    work: Workplace | DirectPlace, *, until_good: bool = False, index: bool = True
) -> tuple[KnownPoint, ...]:
    """Return the recovery points of the index, or of the repository where none answers.

    Without ``index`` it is not asked: it was, and did not answer.
    """
    from pgben_tasks.health.points import UNTIL_GOOD, indexed_points, stored_points
    from pgben_tasks.runtime import Workplace

    if index and isinstance(work, Workplace):
        try:
            return indexed_points(work)
        except (DatabaseUnavailable, CatalogLost) as exc:
            output.say(f"{exc.sentence}; reading the repository instead", style="yellow")
            output.hint(exc.hint)
    return stored_points(work.repository, until=UNTIL_GOOD if until_good else None)


def show_first_line(work: Workplace | DirectPlace, found: Sequence[KnownPoint]) -> None:
    """Write the line that `pgben list` begins with, where recovery points are formed."""
    from pgben_tasks.domain.points import newest_good

    good = newest_good(found)
    if good is not None:
        of = output.minute(good.moment, work.zone)
        line = Text(f"recovery point of {of}: {good.state} ({good.id})")
    elif found:
        line = Text(
            f"recovery point: none is verified, the newest is {found[0].state}", style="yellow"
        )
    elif work.settings.forms_points:
        line = Text("recovery point: none yet; `pgben backup --all` forms one", style="yellow")
    else:
        return
    output.out().print(line)


def _named(found: Sequence[KnownPoint], text: str) -> KnownPoint:
    wanted = BackupId.parse(text)
    for one in found:
        if one.id == wanted:
            return one
    raise BackupNotFound(
        f"there is no recovery point '{wanted}'", "`pgben points` shows those there are"
    )


def _points_table(found: Sequence[KnownPoint], zone: tzinfo) -> RenderableType:
    rows = [
        (
            str(one.id),
            output.minute(one.moment, zone),
            output.state(one.state),
            output.number(len(one.members)),
            _faults(one),
            output.hold(one.hold_at(datetime.now(UTC)), zone),
        )
        for one in found
    ]
    columns = ("recovery point", "data as of", "state", "backups", "faulty rows", "note")
    return output.table(columns, rows, right="backups, faulty rows")


def _faults(one: KnownPoint) -> output.Cell:
    if one.check is None:
        return "-"
    return Text(output.number(one.faults), style="yellow" if one.faults else "")


def _points_and_members(found: Sequence[KnownPoint], zone: tzinfo) -> RenderableType:
    rows = [
        (
            str(one.id),
            output.moment(one.moment, zone),
            member.target,
            member.backup,
            output.moment(member.snapshot_time, zone),
            output.state(state),
            _faults(one),
            output.hold(one.hold_at(datetime.now(UTC)), zone),
        )
        for one in found
        for member, state in zip(one.members, one.states, strict=True)
    ]
    columns = (
        *("recovery point", "data as of", "target", "backup", "its data", "state"),
        *("faulty rows", "note"),
    )
    return output.table(columns, rows, right="faulty rows")


def _show_one(
    work: Workplace | DirectPlace, one: KnownPoint, csv_file: str | None, *, as_json: bool
) -> None:
    """Show a point with the first of its faults, or write all of them."""
    if csv_file is not None:
        if one.check is None:
            raise ConfigurationError(
                f"rows and objects of recovery point '{one.id}' were not compared",
                "PGBEN_REFERENCES says what is compared; `pgben jobs` tells why it was not",
            )
        with _stored_faults(work, one) as faults:
            _write_csv(csv_file, faults)
        return
    if as_json:
        output.print_json(point_document(one, datetime.now(UTC)))
        return
    members = [
        (member.target, member.backup, output.state(state))
        for member, state in zip(one.members, one.states, strict=True)
    ]
    output.show(
        [
            output.facts(_facts(one, work.zone), title=f"recovery point {one.id}"),
            output.table(("member", "backup", "state"), members),
        ]
    )
    if one.check is None or one.check.faults is None:
        return
    try:
        with _stored_faults(work, one) as faults:
            _show_faults(one, faults)
    except PgbenError as exc:
        output.say(f"which rows these are cannot be read here: {exc.sentence}", style="yellow")
        output.hint(exc.hint or "set PGBEN_INVENTORY_IDENTITY_FILE or PGBEN_AGE_IDENTITY_FILE")


def _facts(one: KnownPoint, zone: tzinfo) -> Iterator[tuple[str, output.Cell]]:
    yield "state", output.state(one.state)
    yield "data as of", output.moment(one.moment, zone)
    yield "formed", output.moment(one.started, zone)
    hold = one.hold_at(datetime.now(UTC))
    if hold is not None:
        yield "kept", output.hold(hold, zone)
    check = one.check
    if check is None:
        yield "rows and objects", "not compared"
        return
    yield (
        "compared",
        f"{output.number(check.references)} rows, {output.number(check.objects)} objects",
    )
    words = {
        "missing": "objects missing",
        "unreadable": "objects not kept",
        "size": "other sizes",
        "hash": "other hashes",
        "metadata": "without metadata they need",
        "orphan": "objects of no row",
        "recoverable": "missing, in older snapshots",
    }
    for name, shown in words.items():
        count = getattr(check, name)
        if count:
            style = "" if name in {"orphan", "recoverable"} else "yellow"
            yield shown, Text(output.number(count), style=style)


@contextmanager
def _stored_faults(work: Workplace | DirectPlace, one: KnownPoint) -> Iterator[Iterator[Fault]]:
    """Yield the faults of a point, opened in a private folder that is removed after."""
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.operations import spool
    from pgben_tasks.operations.points.check import open_faults

    place = work if isinstance(work, DirectPlace) else DirectPlace.load()
    with place.tools() as tools, spool.passing_folder(tools.spool) as folder:
        yield open_faults(tools, place.repository.point(one.id), folder)


def _show_faults(one: KnownPoint, faults: Iterator[Fault]) -> None:
    """Show the first faults of rows, and how objects that older snapshots have come back."""
    rows: list[tuple[output.Cell, ...]] = []
    back: list[str] = []
    for fault in faults:
        if fault.kind == "orphan":
            continue
        if fault.backup is not None and len(back) < _SHOWN:
            back.append(remedies.restore_of_object(fault.bucket, fault.backup, fault.key))
        if len(rows) < _SHOWN:
            said = ": ".join(filter(None, (fault.expected, fault.found)))
            of = f"{fault.reference} {fault.row or ''}".strip()
            rows.append((fault.kind, output.key(of), output.key(fault.key), output.key(said)))
    if rows:
        output.show([output.table(("fault", "row", "key", "said: found"), rows, below=2)])
    if one.faults > len(rows):
        output.say(
            f"and {output.number(one.faults - len(rows))} more; `pgben points {one.id} --csv FILE` "
            "writes all"
        )
    for line in back:
        output.hint(f"`{line}`")


def _write_csv(name: str, faults: Iterable[Fault]) -> None:
    with _opened(name) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for one in faults:
            said = (one.reference, one.row, one.expected, one.found, one.backup)
            writer.writerow((one.kind, one.bucket, one.key, *said))
    if name != _STDOUT:
        output.say(f"written to '{name}'; it names people's documents: keep it as they are kept")


@contextmanager
def _opened(name: str) -> Iterator[IO[str]]:
    """Open a new file that only its owner reads, or standard output."""
    if name == _STDOUT:
        yield sys.stdout
        return
    try:
        descriptor = os.open(Path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise ConfigurationError(
            f"'{name}' cannot be written: {(exc.strerror or 'unknown').lower()}",
            "name a new file in a folder that you may write to",
        ) from exc
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        yield file
