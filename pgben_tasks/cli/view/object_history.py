"""How the history of a bucket looks: its snapshots, versions of one object, a suspicion. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import tzinfo
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from rich.console import RenderableType
from rich.text import Text

from pgben_tasks.cli.view import output, remedies
from pgben_tasks.language import counted

if TYPE_CHECKING:
    from pgben_tasks.domain.buckets.history import Part, Span
    from pgben_tasks.domain.target import Target
    from pgben_tasks.health.suspicion import Suspicion
    from pgben_tasks.operations.buckets.history import Night

_NONE: Final = "-"
_STYLES: Final = {"gone": "yellow", "unreadable": "bold red"}
#: So much of a digest tells the versions of one object apart.
_DIGEST: Final = 12
_WIDE: Final = (
    *("backup", "data as of", "state", "objects", "bytes", "added", "bytes added", "changed"),
    *("bytes changed", "tags", "deleted", "bytes deleted", "note"),
)
_NARROW: Final = ("backup", "data as of", "added", "changed", "tags", "deleted", "snapshot")
#: Columns of changes, and the fields they show.
_PARTS: Final = {"added": "added", "changed": "changed", "tags": "retagged", "deleted": "deleted"}
_RIGHT: Final = (
    "objects, bytes, added, bytes added, changed, bytes changed, tags, deleted, bytes deleted"
)


def nights_document(nights: Sequence[Night], share: Decimal) -> list[dict[str, Any]]:
    """Return snapshots as JSON; ``share`` is as for ``nights_table``."""
    return [_night_document(one, share) for one in nights]


def _night_document(one: Night, share: Decimal) -> dict[str, Any]:
    standing, capture, changes = one.standing, one.capture, one.changes
    return {
        "backup": str(one.id),
        "moment": one.moment,
        "state": _state(one),
        "suspect": standing and standing.suspect,
        "acknowledged": standing and standing.acknowledged,
        "objects": capture and capture.objects,
        "bytes": capture and capture.bytes,
        "unreadable": capture and capture.unreadable,
        "compared_with": one.compared_with and str(one.compared_with),
        "changes": changes and asdict(changes),
        "changed_much": changes and changes.mass_change(share),
        "fault": one.fault,
    }


def nights_table(
    nights: Sequence[Night], share: Decimal, zone: tzinfo, *, wide: bool
) -> RenderableType:
    """Return the table of snapshots, newest first as they come.

    A snapshot in which more than ``share`` of the known objects changed or went is marked.
    """
    columns = _WIDE if wide else _NARROW
    rows = []
    # The oldest one is followed by one that is not shown.
    for one, older in zip(nights, [*nights[1:], None], strict=True):
        cells = _cells(one, share, zone, wide=wide)
        cells["note"] = Text("; ").join(_notes(one, older, share))
        about = [cells["note"]] if cells["note"] else []
        cells["snapshot"] = Text("; ").join([_about(one), *about])
        rows.append([cells[name] for name in columns])
    return output.table(columns, rows, right=_RIGHT)


def _cells(one: Night, share: Decimal, zone: tzinfo, *, wide: bool) -> dict[str, Text]:
    capture, changes = one.capture, one.changes
    cells: dict[str, output.Cell] = {
        "backup": str(one.id),
        "data as of": (output.moment if wide else output.minute)(one.moment, zone),
        "state": output.state(_state(one)),
        "objects": output.number(None if capture is None else capture.objects),
        "bytes": output.size(None if capture is None else capture.bytes),
    }
    for name, field in _PARTS.items():
        part: Part | None = None if changes is None else getattr(changes, field)
        cells[name] = output.number(None if part is None else part.objects)
        cells[f"bytes {name}"] = output.size(None if part is None else part.bytes)
    shown = {name: Text(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}
    if changes is not None and changes.mass_change(share) is not None:
        for name in ("changed", "deleted"):
            shown[name].stylize("bold yellow")
    return shown


def _about(one: Night) -> Text:
    """Return the state of a snapshot and what it holds, for a narrow screen."""
    said = [output.state(_state(one))]
    if one.capture is not None:
        said.append(Text(counted(one.capture.objects, "object")))
        said.append(Text(output.size(one.capture.bytes)))
    return Text(", ").join(said)


def _notes(one: Night, older: Night | None, share: Decimal) -> Iterator[Text]:
    """Yield what is odd about a snapshot; ``older`` is the one before it."""
    standing, capture, changes = one.standing, one.capture, one.changes
    if standing is not None and standing.suspect is not None:
        yield output.suspicion(standing.suspect, acknowledged=standing.acknowledged)
    elif changes is not None and (reason := changes.mass_change(share)) is not None:
        yield Text(f"changed much: {reason}", style="yellow")
    if capture is not None and capture.unreadable:
        yield Text(f"{output.number(capture.unreadable)} unreadable", style="yellow")
    if one.fault is not None:
        yield Text(f"cannot be read: {one.fault}", style="bold red")
    elif one.compared_with is None:
        yield Text("nothing older to compare with")
    elif older is not None and older.id != one.compared_with:
        yield Text(f"compared with {one.compared_with}")


def _state(one: Night) -> str:
    return "unreadable" if one.standing is None else one.standing.state.label


def versions_document(bucket: str, key: str, spans: Sequence[Span]) -> list[dict[str, Any]]:
    """Return the history of one object as JSON, newest first; ``spans`` are oldest first."""
    return [
        {
            "version": version,
            "what": _what(one),
            "differs": one.differs,
            "since": one.backups[0].snapshot_time,
            "first": str(one.backups[0].id),
            "last": str(one.backups[-1].id),
            "snapshots": len(one.backups),
            "size": one.entry and one.entry.size,
            "modified": one.entry and one.entry.modified,
            "sha256": one.entry and one.entry.sha256,
            "command": None if version is None else _command(bucket, key, one),
        }
        for version, one in _numbered(spans)
    ]


def versions_table(spans: Sequence[Span], zone: tzinfo, *, wide: bool) -> RenderableType:
    """Return the table of an object's history, newest first; ``spans`` are oldest first."""
    moment = output.moment if wide else output.minute
    rows: list[tuple[output.Cell, ...]] = []
    for version, one in _numbered(spans):
        since = moment(one.backups[0].snapshot_time, zone)
        what = Text(_what(one), style=_STYLES.get(one.what, ""))
        if one.entry is None:
            rows.append((_NONE, since, _NONE, _NONE, _NONE, what))
            continue
        digest = (one.entry.sha256 or _NONE)[: None if wide else _DIGEST]
        stored = moment(one.entry.modified, zone)
        rows.append((str(version), since, output.size(one.entry.size), stored, digest, what))
    columns = ("no.", "since", "size", "modified", "sha256", "what")
    return output.table(columns, rows, right="no., size")


def ways_back(bucket: str, key: str, spans: Sequence[Span]) -> Iterator[str]:
    """Yield for each version the newest snapshot with it, and the command that brings it back.

    Lines are not to be broken: commands are copied.
    """
    for version, one in _numbered(spans):
        if version is not None:
            state = one.source.standing.state.label
            yield f"version {version}, newest in {one.source.id} ({state}):"
            yield f"    {_command(bucket, key, one)}"


def _numbered(spans: Sequence[Span]) -> list[tuple[int | None, Span]]:
    """Return the spans newest first, those with a version with its number, from 1."""
    numbers = count(1)
    return [(None if one.entry is None else next(numbers), one) for one in spans][::-1]


def _what(one: Span) -> str:
    if one.what != "kept":
        return one.what
    if one.differs:
        # Where the sizes differ, so do the bytes.
        return ", ".join(name for name in one.differs if name != "size")
    return "as before" if one.again else "first seen"


def _command(bucket: str, key: str, one: Span) -> str:
    source = one.source
    return remedies.restore_of_object(bucket, str(source.id), key, state=source.standing.state)


def suspicion_document(target: Target, found: Suspicion | None) -> dict[str, Any]:
    """Return a suspicion as JSON, and what can be restored from before it."""
    if found is None:
        return {"suspect_since": None, "before": None}
    suspect, point, backup = found.suspect, found.point, found.backup
    since = {
        "backup": str(suspect.id),
        "moment": suspect.snapshot_time,
        "reason": suspect.standing.suspect,
    }
    before: dict[str, Any] | None = None
    if point is not None:
        command = remedies.plan_of_point(point)
        before = {"point": str(point.id), "moment": point.moment, "command": command}
    elif backup is not None:
        command = remedies.restore_of_backup(target, backup.id)
        before = {"backup": str(backup.id), "moment": backup.snapshot_time, "command": command}
    return {"suspect_since": since, "before": before}


def propose(target: Target, found: Suspicion, zone: tzinfo) -> None:
    """Write since when a bucket is suspect, and what can be restored from before that."""
    suspect, point, backup = found.suspect, found.point, found.backup
    taken = output.moment(suspect.snapshot_time, zone)
    output.say(
        f"suspect since {suspect.id} ({taken}), not acknowledged: {suspect.standing.suspect}",
        style="yellow",
    )
    if point is not None:
        output.say(
            f"newest recovery point before: {point.id} ({output.moment(point.moment, zone)})"
        )
        output.hint(
            f"`{remedies.plan_of_point(point)}` shows what would come back, and the command for it"
        )
    elif backup is not None:
        output.say(
            "no verified recovery point is from before; newest good snapshot before: "
            f"{backup.id} ({output.moment(backup.snapshot_time, zone)})"
        )
        output.hint(f"`{remedies.restore_of_backup(target, backup.id)}` restores it beside")
    else:
        output.say("no verified snapshot is from before", style="yellow")
        output.hint(
            f"`pgben list {target}` shows what there is; `pgben verify {target} --level full` "
            "reads it"
        )
