"""The commands that look into snapshots of buckets: objects ls, objects get, objects diff.

`objects history`, which looks at all of them, is in ``history``.
"""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask import direct_mode
from pgben_tasks.cli.commands import object_history
from pgben_tasks.cli.options import AsJson, examples
from pgben_tasks.cli.view import outcome, output, streaming
from pgben_tasks.cli.view.screen import Meter
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from pgben_tasks.domain.buckets.inventory import Entry
    from pgben_tasks.domain.buckets.restore_plan import PlanTotals, Verdict

app = typer.Typer(help="Look into snapshots of buckets; needs an identity, no worker.")

Snapshot = Annotated[
    str, typer.Argument(metavar="ID|TARGET", help="A snapshot's id, or 'bucket/NAME': its newest.")
]
Prefix = Annotated[str, typer.Option(metavar="TEXT", help="Only keys that begin with this.")]

LS_EXAMPLES = examples(
    ("pgben objects ls bucket/pgben-documents --prefix cidadao/42/", "what the newest one holds"),
    ("pgben objects ls ID --json", "the same for scripts, with all that is known of each object"),
)
GET_EXAMPLES = examples(
    ("pgben objects get bucket/pgben-documents cidadao/42/rg.jpg --to rg.jpg", "one document"),
    ("pgben objects get ID KEY --to -", "to standard output"),
)
DIFF_EXAMPLES = examples(
    ("pgben objects diff bucket/pgben-documents", "the newest snapshot, and the bucket now"),
    ("pgben objects diff bucket/pgben-documents ID --prefix cidadao/42/", "an older one"),
    ("pgben objects diff bucket/pgben-documents ID OTHER --json", "two snapshots, for scripts"),
    ("pgben objects diff ID --bucket documents-restored", "a snapshot, and what came of a restore"),
)

#: How a line of a comparison begins, and the word for it in JSON.
_SIGNS = {
    "missing": ("-", "gone"),
    "extra": ("+", "new"),
    "differing": ("~", "changed"),
    "tags": ("~", "changed"),
    "unreadable": ("?", "unreadable"),
}


@app.command("ls", epilog=LS_EXAMPLES)
def list_objects(
    snapshot: Snapshot,
    prefix: Prefix = "",
    as_json: AsJson = False,
) -> int:
    """List the objects of a snapshot, sorted by key."""
    from pgben_tasks.operations.buckets.browse import lines_of

    with direct_mode.open_snapshot(snapshot) as (tools, manifest, folder):
        lines = (line for line in lines_of(tools, manifest, folder) if line.key.startswith(prefix))
        if as_json:
            head = {"target": manifest.target, "snapshot": manifest.backup}
            with streaming.streamed(head, "objects") as document:
                for line in lines:
                    document.add(line.raw.decode().rstrip())
            return outcome.DONE
        count = 0
        for count, line in enumerate(lines, 1):  # noqa: B007 - the last one is the number of lines
            state = "" if line.pack else "  (unreadable)"
            sys.stdout.write(f"{output.size(line.size):>10}  {output.key(line.key)}{state}\n")
        if not count:
            below = f" whose key begins with '{output.key(prefix)}'" if prefix else ""
            output.say(f"snapshot '{manifest.backup}' has no object{below}")
    return outcome.DONE


@app.command("get", epilog=GET_EXAMPLES)
def get_object(
    snapshot: Snapshot,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The object's key, letter by letter.")],
    to: Annotated[
        str, typer.Option(metavar="FILE|-", help="Where its bytes go; '-' is standard output.")
    ],
    as_json: AsJson = False,
) -> int:
    """Fetch one object of a snapshot to a file, checked; show what it carried."""
    from pgben_tasks.operations.buckets.browse import find, take

    if not to or Path(to).is_dir():
        raise ConfigurationError(
            f"--to names no file: '{to}'", "name a file that is to be made, or '-'"
        )
    if to == "-" and as_json:
        raise ConfigurationError("--json and --to - were given", "both write to standard output")
    with direct_mode.open_snapshot(snapshot) as (tools, manifest, folder):
        entry = find(tools, manifest, key, folder)
        meter = Meter(output.err())
        with meter.bars:
            taken = take(tools, manifest, entry, folder, meter)
        if to == "-":
            with taken.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            return outcome.DONE
        _keep(taken, Path(to))
    facts = _facts(entry)
    if as_json:
        output.print_json({"snapshot": manifest.backup, "file": to, **facts})
    else:
        output.out().print(output.facts(_shown(entry, tools.zone)))
    return outcome.DONE


@app.command("diff", epilog=DIFF_EXAMPLES)
def diff_objects(
    snapshot: Snapshot,
    others: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID] [OTHER]",
            help="After a target: its snapshot. Then another one; without it, the bucket as it is.",
        ),
    ] = None,
    prefix: Prefix = "",
    bucket: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Compare with this bucket, such as a restored one."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Compare a snapshot with the bucket, or with another snapshot: - gone, + new, ~ changed.

    With the bucket, contents decide: what was stored again as it was is not a
    change. Tags are asked for object by object, where the server keeps any.
    """
    from pgben_tasks.domain.buckets.restore_plan import KeyChoice, between
    from pgben_tasks.operations.buckets.browse import open_inventory
    from pgben_tasks.operations.buckets.compare import chosen, compare_live
    from pgben_tasks.operations.buckets.restoring import capture_of

    first, other = _compared(snapshot, others or [])
    if bucket is not None and other is not None:
        raise ConfigurationError("--bucket and two snapshots were given", "two are compared")
    choice = KeyChoice(prefix=prefix)
    with direct_mode.open_snapshot(first) as (tools, manifest, folder):
        inventory = open_inventory(tools, manifest, folder)
        if other is None:
            live = tools.other_bucket(bucket or manifest.target_name.name)
            output.say(f"comparing snapshot '{manifest.backup}' with {live.describe()}")
            capture = capture_of(manifest)
            if not capture.settings.knows_object_tags:
                output.say("its server kept no tags of objects, so none are compared")
            found = compare_live(tools, live, capture, inventory, choice, folder)
            head = {"snapshot": manifest.backup, "with": live.describe()}
            _show(found, head, as_json=as_json)
            return outcome.DONE
        with direct_mode.open_snapshot(other) as (_, second, apart):
            output.say(f"comparing snapshot '{manifest.backup}' with '{second.backup}'")
            later = open_inventory(tools, second, apart)
            tags = all(capture_of(one).settings.knows_object_tags for one in (manifest, second))
            both = between(chosen(inventory, choice), chosen(later, choice), tags=tags)
            head = {"snapshot": manifest.backup, "with": second.backup}
            _show(both, head, as_json=as_json)
    return outcome.DONE


def _compared(snapshot: str, others: list[str]) -> tuple[str, str | None]:
    """Read which snapshots are compared; None stands for the bucket."""
    left = list(others)
    first = snapshot
    target = None
    if not arguments.looks_like_backup(snapshot):
        target = arguments.parse_target(snapshot)
        if left:
            first = f"{target}/{left.pop(0)}"
    for one in others:
        BackupId.parse(one.rpartition("/")[2])
    other = left.pop(0) if left else None
    if left:
        raise ConfigurationError(
            "too many snapshots were named", "two are compared, or one with the bucket"
        )
    if other is not None and target is not None:
        other = f"{target}/{other}"
    return first, other


def _show(verdicts: Iterable[Verdict], head: dict[str, str], *, as_json: bool) -> None:
    """Write each difference as it is found, then the totals."""
    from pgben_tasks.domain.buckets.restore_plan import PlanTotals

    totals = PlanTotals()
    if as_json:
        with streaming.streamed(head, "differences") as document:
            for verdict in verdicts:
                totals.count(verdict)
                if verdict.found != "same":
                    _, change = _SIGNS[verdict.found]
                    fields = {"key": verdict.key, "change": change, "differs": verdict.differs}
                    document.add(json.dumps({**fields, "size": verdict.size}))
            document.totals = {"totals": _totals(totals)}
        return
    for verdict in verdicts:
        totals.count(verdict)
        if verdict.found != "same":
            sign, _ = _SIGNS[verdict.found]
            why = f"  ({', '.join(verdict.differs)})" if verdict.differs else ""
            sys.stdout.write(f"{sign} {output.key(verdict.key)}{why}\n")
    words = (f"{output.number(count)} {word}" for word, count in _totals(totals).items())
    sys.stdout.write(", ".join(words) + "\n")


def _totals(totals: PlanTotals) -> dict[str, int]:
    return {
        "gone": totals.objects_of("missing"),
        "new": totals.objects_of("extra"),
        "changed": totals.objects_of("differing", "tags"),
        "same": totals.objects_of("same"),
        "unreadable": totals.objects_of("unreadable"),
    }


def _keep(taken: Path, destination: Path) -> None:
    """Copy the object, whole or not at all; a file that exists is never replaced."""
    from pgben_tasks.files.durable import durable_file

    try:
        with taken.open("rb") as source, durable_file(destination, replace=False) as file:
            shutil.copyfileobj(source, file)
    except FileExistsError:
        raise ConfigurationError(
            f"'{destination}' exists already", "nothing is replaced; name another file"
        ) from None
    except OSError as exc:
        raise ConfigurationError(
            f"'{destination}' cannot be written: {exc.strerror}", "name another file"
        ) from exc


def _shown(entry: Entry, zone: tzinfo) -> Iterator[tuple[str, output.Cell]]:
    """Yield what an object carried, a name and a value a line."""
    yield "size", output.size(entry.size)
    yield "sha256", entry.sha256 or "-"
    yield "modified", output.moment(entry.modified, zone)
    for title, carried in (
        ("header", entry.headers),
        ("metadata", entry.metadata),
        ("tag", entry.tags or {}),
    ):
        for name, value in carried.items():
            yield title, f"{output.key(name)}: {output.key(value)}"


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "size": entry.size,
        "sha256": entry.sha256,
        "modified": output.plain(entry.modified),
        "headers": entry.headers,
        "metadata": entry.metadata,
        "tags": entry.tags,
    }


app.add_typer(object_history.app)
