"""The commands that only read: list, show, config."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask import direct_mode
from pgben_tasks.cli.commands.points import read_points, show_first_line
from pgben_tasks.cli.options import AsJson, Direct, Wide, examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.domain.listing import Listed, point_document
from pgben_tasks.errors import CatalogLost, ConfigurationError, DatabaseUnavailable, PgbenError
from pgben_tasks.language import counted

if TYPE_CHECKING:
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.domain.buckets.capture import BucketCapture
    from pgben_tasks.domain.documents import Manifest, Verification
    from pgben_tasks.domain.restorability import RestoreSite
    from pgben_tasks.domain.states import BackupStanding
    from pgben_tasks.domain.target import Target
    from pgben_tasks.ports import Repository
    from pgben_tasks.runtime import Workplace
    from pgben_tasks.settings.model import Row

app = typer.Typer()

LIST_EXAMPLES = examples(
    ("pgben list", "every backup of every target, newest first"),
    ("pgben list --wide", "the same with tables, rows and objects, a line for each backup"),
    ("pgben list pgben --json", "one target, for scripts"),
    ("pgben list --direct", "from the repository itself, signatures checked; needs no catalog"),
)
SHOW_EXAMPLES = examples(
    ("pgben show 20261123T050000Z-1f0c9a", "what one backup holds and what was verified of it"),
    ("pgben show ID --direct", "the same with trusted keys and the repository alone"),
)
CONFIG_EXAMPLES = examples(
    ("pgben config", "every setting, its value and where it came from; secrets are hidden"),
)


@app.command("list", epilog=LIST_EXAMPLES)
def list_backups(
    target: Annotated[
        str | None, typer.Argument(metavar="[TARGET]", help="'pgben' or 'postgres/pgben'.")
    ] = None,
    direct: Direct = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> int:
    """List backups, newest first."""
    wanted = None if target is None else arguments.parse_target(target)
    work = direct_mode.open_work(direct=direct)
    found, answered = _found(work, wanted)
    unprotected = wanted is not None and wanted not in work.settings.targets()
    if unprotected and not found:
        # Nobody has it, or the index does not know of it.
        wanted = arguments.parse_known(str(wanted), work)
        found = _read_repository(work.repository, wanted)
    if unprotected:
        output.say(f"'{wanted}' is not protected by this installation any more", style="yellow")
    from pgben_tasks.domain.points import newest_good

    # What is asked of one target is not about everything.
    points = read_points(work, until_good=True, index=answered) if target is None else ()
    if as_json:
        point = newest_good(points)
        document = {
            "repository": work.repository.id,
            "point": point and point_document(point, datetime.now(UTC)),
        }
        output.print_json({**document, "backups": [one.to_json() for one in found]})
    elif found:
        if target is None:
            show_first_line(work, points)
        tables = _wide_table if output.is_wide(wide) else _tables_of_targets
        output.show(tables(found, work.zone), wide=wide)
    else:
        of = f" of '{wanted}'" if wanted else ""
        output.say(f"there are no backups{of} in {work.repository.describe()}")
        output.hint(f"`pgben backup {wanted or '--all'}` makes one")
    return outcome.DONE


def _found(work: Workplace | DirectPlace, target: Target | None) -> tuple[list[Listed], bool]:
    """Read the index, or the repository itself; return also whether an index answered."""
    from pgben_tasks.adapters.catalog.absent import NoWorkers
    from pgben_tasks.health.listing import read_index
    from pgben_tasks.runtime import Workplace

    if isinstance(work, Workplace):
        try:
            return read_index(work, target), True
        except (DatabaseUnavailable, CatalogLost) as exc:
            _say_lost(exc)
        return _read_repository(work.repository, target), False
    return _read_repository(work.repository, target, here=NoWorkers().restore_site()), False


def _say_lost(exc: PgbenError) -> None:
    """Write that the catalog cannot be asked, and what can be done; the repository answers."""
    output.say(f"{exc.sentence}; reading the repository instead", style="yellow")
    output.hint(exc.hint)


@app.command(epilog=SHOW_EXAMPLES)
def show(
    backup: Annotated[str, typer.Argument(metavar="ID", help="A backup's id; see `pgben list`.")],
    direct: Direct = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> int:
    """Show one backup: its signed manifest, and every statement about it."""
    from pgben_tasks.domain.states import state_at, state_of
    from pgben_tasks.health.restorability import newest_manifest, standing_now
    from pgben_tasks.operations.repository.survey import missing_at

    work = direct_mode.open_work(direct=direct)
    target, found = arguments.find_backup(backup, work.repository)
    manifest = work.repository.manifest(target, found)
    statements = work.repository.verifications(target, found)
    newest, site = newest_manifest(work.repository, target, but=manifest), _restore_site(work)
    if direct:
        standing = state_at(manifest, statements, needs=missing_at(site, manifest, newest))
    else:
        standing = state_of(manifest, statements)
    now = standing_now(standing, manifest, newest, site)
    if as_json:
        output.print_json(_backup_document(manifest, statements, standing, now))
    else:
        output.show(_backup_tables(manifest, statements, standing, now, work.zone), wide=wide)
    return outcome.DONE


def _restore_site(work: Workplace | DirectPlace) -> RestoreSite:
    """Return the clients that restores would run with, as far as they are known."""
    from pgben_tasks.adapters.catalog.absent import NoWorkers
    from pgben_tasks.domain.restorability import UNKNOWN_SITE
    from pgben_tasks.runtime import Workplace

    if not isinstance(work, Workplace):
        return NoWorkers().restore_site()
    try:
        return work.workers.restore_site()
    except PgbenError as exc:
        _say_lost(exc)
        return UNKNOWN_SITE


@app.command(epilog=CONFIG_EXAMPLES)
def config(wide: Wide = False, as_json: AsJson = False) -> int:
    """Show the effective settings and where each came from; secrets are hidden."""
    from pgben_tasks.settings import Settings, require_settings

    settings = Settings.load()
    rows = settings.rows()
    try:
        require_settings()
    except ConfigurationError as exc:
        output.say(f"{exc.sentence}; these are the defaults", style="yellow")
        output.hint(exc.hint)
    if settings.retired:
        output.hint(
            f"retired settings do nothing and are left aside: {', '.join(settings.retired)}"
        )
    for doubt in settings.doubtful:
        output.hint(str(doubt))
    if as_json:
        output.print_json({"settings": [row._asdict() for row in rows]})
    else:
        output.show([_settings_table(rows)], wide=wide)
    return outcome.DONE


def _settings_table(rows: Iterable[Row]) -> RenderableType:
    shown = [(row.name, row.origin, row.value) for row in rows]
    return output.table(("setting", "origin", "value"), shown)


def _read_repository(
    repository: Repository, target: Target | None, *, here: RestoreSite | None = None
) -> list[Listed]:
    """Read every manifest and statement, checking signatures; needs no catalog.

    ``here`` are this machine's clients where it judges what can be restored, as in direct mode.
    """
    targets = repository.targets() if target is None else [target]
    return [line for one in targets for line in _surveyed(repository, one, here)]


def _tables_of_targets(found: Sequence[Listed], zone: tzinfo) -> Iterator[RenderableType]:
    """Yield the tables of `pgben list` for a terminal: one for each target."""
    for target, backups in groupby(found, key=lambda one: one.target):
        rows = [
            (
                one.backup,
                output.minute(one.taken, zone),
                output.state(one.state),
                output.size(one.stored_bytes),
                _note(one, zone),
            )
            for one in backups
        ]
        columns = ("backup", "data as of", "state", "stored", "note")
        yield output.table(columns, rows, title=target, right="stored")


def _wide_table(found: Sequence[Listed], zone: tzinfo) -> Iterator[RenderableType]:
    """Yield the one table of `pgben list --wide`."""
    columns = (
        "target",
        "backup",
        "data as of",
        "state",
        "stored",
        "tables",
        "rows or objects",
        "note",
    )
    rows = [
        (
            one.target,
            one.backup,
            output.moment(one.taken, zone),
            output.state(one.state),
            output.size(one.stored_bytes),
            output.number(one.tables),
            output.number(one.rows if one.objects is None else one.objects),
            _note(one, zone),
        )
        for one in found
    ]
    yield output.table(columns, rows, right="stored, tables, rows or objects")


def _note(one: Listed, zone: tzinfo) -> output.Cell:
    held = output.hold(one.hold, zone)
    if one.needs is not None:
        said = Text(f"needs {one.needs}", style="bold red")
    elif one.suspect is None:
        said = Text(one.detail)
    else:
        said = output.suspicion(one.suspect, acknowledged=one.acknowledged)
    return Text("; ").join([said, Text(held)]) if said.plain and held else said + Text(held)


def _backup_document(
    manifest: Manifest,
    statements: Sequence[Verification],
    standing: BackupStanding,
    now: tuple[str, str | None],
) -> dict[str, Any]:
    """Return all that is known of a backup as JSON; ``now`` is its state and what it needs."""
    hold = standing.hold_at(datetime.now(UTC))
    return {
        "state": now[0],
        "needs": now[1],
        "suspect": standing.suspect,
        "acknowledged": standing.acknowledged,
        "held": hold is not None,
        "hold": hold and hold.to_json(),
        "stored_bytes": manifest.stored_bytes,
        "plain_bytes": manifest.plain_bytes,
        "rows": manifest.rows,
        "objects": manifest.objects,
        "manifest": manifest.values(),
        "verifications": [one.values() for one in statements],
    }


def _backup_tables(
    manifest: Manifest,
    statements: Sequence[Verification],
    standing: BackupStanding,
    now: tuple[str, str | None],
    zone: tzinfo,
) -> Iterator[RenderableType]:
    """Yield the tables of `pgben show`."""
    state, needs = now
    took = manifest.finished - manifest.started
    lines: list[tuple[str, output.Cell]] = [
        ("target", manifest.target),
        ("state", output.state(state)),
        *([("needs", Text(needs, style="bold red"))] if needs else ()),
        ("data as of", output.moment(manifest.snapshot_time, zone)),
        ("sequence", output.number(manifest.sequence)),
        ("took", output.duration(took)),
        *(_database_facts(manifest) if manifest.postgres else ()),
        *(_bucket_facts(manifest.bucket, zone) if manifest.bucket else ()),
        ("stored", _stored(manifest)),
        ("sealed to", ", ".join(manifest.recipients) or Text("nobody: not sealed", style="yellow")),
        ("last verified", output.moment(standing.last_verified, zone)),
        ("job", manifest.job),
    ]
    hold = standing.hold_at(datetime.now(UTC))
    if hold is not None:
        lines.insert(2, ("kept", output.hold(hold, zone)))
    if standing.suspect:
        seen = " (acknowledged)" if standing.acknowledged else ""
        lines.insert(2, ("suspect", Text(standing.suspect + seen, style="yellow")))
    yield output.facts(lines, title=f"backup {manifest.backup}")
    tables = manifest.postgres.tables if manifest.postgres else ()
    biggest = sorted(tables, key=lambda one: one.rows, reverse=True)[:10]
    if biggest:
        rows = [(output.number(one.rows), f"{one.schema_name}.{one.table}") for one in biggest]
        yield output.table(("rows", "largest tables"), rows, right="rows")
    if statements:
        yield output.table(
            ("verified", "kind", "packs", "read", "opened", "findings"),
            [_statement(one, zone) for one in statements],
            right="packs, read",
        )


def _stored(manifest: Manifest) -> str:
    return f"{output.size(manifest.stored_bytes)} in {counted(len(manifest.packs), 'pack')}"


def _database_facts(manifest: Manifest) -> Iterator[tuple[str, output.Cell]]:
    capture = manifest.database
    yield "server", capture.server_version
    yield "dumped by", f"pg_dump {manifest.tools.get('pg_dump', '-')}, {capture.dump_compression}"
    yield "database", f"{output.size(capture.database_bytes)} of '{capture.owner}'"
    yield "tables, rows", f"{output.number(len(capture.tables))}, {output.number(capture.rows)}"


def _bucket_facts(capture: BucketCapture, zone: tzinfo) -> Iterator[tuple[str, output.Cell]]:
    yield "objects", f"{output.number(capture.objects)}, {output.size(capture.bytes)}"
    changed = f"{output.number(capture.fetched)} fetched, {output.number(capture.gone)} gone"
    yield "changes", f"{changed}, since the snapshot before"
    if capture.unreadable:
        unreadable = counted(capture.unreadable, "key")
        yield "unreadable", Text(unreadable, style="bold red")
    if capture.tags_unread:
        yield (
            "tags",
            Text(
                f"of {counted(capture.tags_unread, 'object')} as they were read before, "
                f"the oldest {output.moment(capture.tags_as_of, zone)}",
                style="yellow",
            ),
        )
    yield "versioning", capture.settings.versioning


def _statement(one: Verification, zone: tzinfo) -> tuple[output.Cell, ...]:
    found = "; ".join(f"{each.kind} {each.path}: {each.detail}" for each in one.findings)
    return (
        output.moment(one.at, zone),
        one.kind,
        output.number(one.packs_checked),
        output.size(one.bytes_read),
        "yes" if one.opened else "no",
        Text(found, style="bold red") if found else ", ".join(one.reasons) or "none",
    )


def _surveyed(repository: Repository, target: Target, here: RestoreSite | None) -> Iterator[Listed]:
    from pgben_tasks.domain.restorability import UNKNOWN_SITE
    from pgben_tasks.health.restorability import surveyed_now
    from pgben_tasks.operations.repository.survey import judged_at, survey

    surveyed = survey(repository, target)
    if here is not None:
        surveyed = judged_at(here, surveyed)
    for backup, finding in surveyed.unreadable:
        yield Listed(
            target=str(target), backup=str(backup), state="unreadable", detail=finding.detail
        )
    judged = surveyed_now(surveyed, UNKNOWN_SITE)
    for one, (state, needs) in zip(surveyed.backups, judged, strict=True):
        yield Listed(
            target=str(target),
            backup=one.manifest.backup,
            state=state,
            needs=needs,
            suspect=one.known.standing.suspect,
            acknowledged=one.known.standing.acknowledged,
            taken=one.known.snapshot_time,
            stored_bytes=one.known.bytes,
            tables=one.manifest.tables,
            rows=one.manifest.rows,
            objects=one.manifest.objects,
            verified_at=one.known.standing.last_verified,
            hold=one.known.standing.hold_at(datetime.now(UTC)),
        )
