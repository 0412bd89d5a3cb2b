"""The commands about the catalog itself: rebuild."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import RenderableType
from rich.text import Text

from pgben_tasks.cli.ask import enqueue
from pgben_tasks.cli.options import AsJson, Wide, examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.cli.view.screen import Meter
from pgben_tasks.language import counted

if TYPE_CHECKING:
    from pgben_tasks.setup.catalog_rebuild import Rebuilt

app = typer.Typer(no_args_is_help=True, help="Maintain the catalog itself.")

REBUILD_EXAMPLES = examples(
    ("pgben catalog rebuild", "make catalog and index anew from the repository alone"),
    ("pgben catalog rebuild --dry-run", "show what would be written; change nothing"),
    ("pgben catalog rebuild --json", "for scripts: exit 5 when the audit trail is broken"),
)
#: The order of the columns; a state that no backup has gets none.
_STATES: Final = ("verified", "verified (unopened)", "unverified", "damaged", "missing", "expired")
#: Findings of the trail that are shown; --json has all.
_SHOWN: Final = 20


@app.callback()
def catalog() -> None:
    """Maintain the catalog itself."""


@app.command(epilog=REBUILD_EXAMPLES)
def rebuild(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be written; change nothing.")
    ] = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> int:
    """Bring a lost catalog back from the repository: every backup, its state, the audit trail."""
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.setup.catalog_rebuild import rebuild as run

    meter = Meter(output.err())
    try:
        with meter.bars:
            done = run(DirectPlace.load(), meter, who=enqueue.requester(), dry_run=dry_run)
    except KeyboardInterrupt:
        output.say("interrupted: an index is written whole or not at all; run the command again")
        return outcome.INTERRUPTED
    if as_json:
        output.print_json(_document(done, dry_run=dry_run))
    else:
        _show(done, dry_run=dry_run, wide=wide)
    return outcome.DAMAGED if done.breaks or done.points.unreadable else outcome.DONE


def _document(done: Rebuilt, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "made": list(done.made),
        "targets": [
            {
                "target": str(one.index.target),
                "states": dict(one.index.states),
                "suspect": one.index.suspects,
                "added": one.added,
                "changed": one.changed,
                "last_sequence": one.sequence,
            }
            for one in done.targets
        ],
        "points": {
            "points": len(done.points.documents),
            "findings": [one.model_dump(mode="json") for _, one in done.points.unreadable],
        },
        "audit": {
            "entries": len(done.trail.entries),
            "taken_up": done.taken.taken,
            "put_behind": done.taken.put_behind,
            "findings": [one.model_dump(mode="json") for one in done.breaks],
        },
    }


def _show(done: Rebuilt, *, dry_run: bool, wide: bool) -> None:
    verb = "would be made" if dry_run else "made now"
    if done.made:
        output.show([output.table((verb,), [(one,) for one in done.made])], wide=wide)
    title = "what the index would hold" if dry_run else "what the index holds"
    table = _counts_by_state if output.is_wide(wide) else _counts_in_words
    output.show([table(done, title)], wide=wide)
    _show_points(done)
    _show_trail(done, dry_run=dry_run)


def _counts_in_words(done: Rebuilt, title: str) -> RenderableType:
    """Return the table for a terminal: a column of what there is of each state."""
    rows: list[tuple[output.Cell, ...]] = []
    for one in done.targets:
        counts = {**one.index.states, "suspect": one.index.suspects}
        held = Text(", ").join(
            Text(f"{output.number(count)} {state}", style=output.STYLES.get(state, ""))
            for state, count in counts.items()
            if count
        )
        numbers = (one.added, one.changed, one.sequence)
        rows.append((str(one.index.target), *map(output.number, numbers), held))
    columns = ("target", "added", "changed", "last number", "backups")
    return output.table(columns, rows, title=title, right=", ".join(columns[1:4]))


def _counts_by_state(done: Rebuilt, title: str) -> RenderableType:
    """Return the table of `--wide`: a column for each state."""
    found = {state for one in done.targets for state in one.index.states}
    states = [*(one for one in _STATES if one in found), *sorted(found - set(_STATES))]
    rows = [
        (
            str(one.index.target),
            *(_count(one.index.states.get(state, 0), state) for state in states),
            _count(one.index.suspects, "suspect"),
            output.number(one.added),
            output.number(one.changed),
            output.number(one.sequence),
        )
        for one in done.targets
    ]
    columns = ("target", *states, "suspect", "added", "changed", "last number")
    return output.table(columns, rows, title=title, right=", ".join(columns[1:]))


def _show_points(done: Rebuilt) -> None:
    if done.points.documents:
        shown = counted(len(done.points.documents), "recovery point")
        output.out().print(f"recovery points: {shown} in the repository", markup=False)
    if done.points.unreadable:
        output.complain(
            f"recovery points that cannot be believed: {len(done.points.unreadable)}, first "
            f"{done.points.unreadable[0][1].detail}",
            "they are left out of the index; their members stay. `pgben verify` names each",
        )


def _show_trail(done: Rebuilt, *, dry_run: bool) -> None:
    console = output.out()
    verb = "would be taken up" if dry_run else "taken up"
    entries = counted(len(done.trail.entries), "entry", "entries")
    trail = f"audit trail: {entries} in the repository"
    console.print(f"{trail}, {output.number(done.taken.taken)} {verb}", markup=False)
    if done.taken.put_behind:
        moved = output.number(done.taken.put_behind)
        console.print(f"put behind them, of the new catalog: {moved}", markup=False)
    if not done.breaks:
        return
    shown = [(one.kind, one.path, one.detail) for one in done.breaks[:_SHOWN]]
    console.print(output.table(("break", "where", "what"), shown, below=2))
    if len(done.breaks) > _SHOWN:
        console.print(Text(f"and {output.number(len(done.breaks) - _SHOWN)} more; see --json"))
    output.complain(
        f"the audit trail is broken in {counted(len(done.breaks), 'place')}",
        "compare with a copy of the repository and find out who can write to it; keep both as "
        "evidence. The index is whole, the trail goes on after its newest entry, and the breaks "
        "stand in it",
    )


def _count(number: int, state: str) -> output.Cell:
    return Text(output.number(number), style=output.STYLES.get(state, "") if number else "dim")
