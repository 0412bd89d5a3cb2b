"""The commands that look into snapshots of buckets: objects ls, objects get."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgben_tasks.cli import arguments, outcome, output
from pgben_tasks.cli.options import AsJson, examples
from pgben_tasks.errors import BackupNotFound, ConfigurationError

if TYPE_CHECKING:
    from pgben_tasks.domain.documents import Manifest
    from pgben_tasks.domain.inventory import Entry
    from pgben_tasks.operations.toolbox import Toolbox

app = typer.Typer(help="Look into snapshots of buckets; needs an identity, no worker.")

Snapshot = Annotated[
    str, typer.Argument(metavar="ID|TARGET", help="A snapshot's id, or 'bucket/NAME': its newest.")
]

LS_EXAMPLES = examples(
    ("pgben objects ls bucket/pgben-documents --prefix cidadao/42/", "what the newest one holds"),
    ("pgben objects ls ID --json", "one JSON document a line, for scripts"),
)
GET_EXAMPLES = examples(
    ("pgben objects get bucket/pgben-documents cidadao/42/rg.jpg --to rg.jpg", "one document"),
    ("pgben objects get ID KEY --to -", "to standard output"),
)


@app.command("ls", epilog=LS_EXAMPLES)
def list_objects(
    snapshot: Snapshot,
    prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="Only keys that begin with this.")
    ] = "",
    as_json: AsJson = False,
) -> int:
    """List the objects of a snapshot, sorted by key."""
    from pgben_tasks.operations.browse_objects import lines_of

    with _opened(snapshot) as (tools, manifest, folder):
        for line in lines_of(tools, manifest, folder):
            if not line.key.startswith(prefix):
                continue
            if as_json:
                sys.stdout.write(line.raw.decode())
            else:
                state = "" if line.pack else "  (unreadable)"
                # A key may hold anything; what a terminal would obey is shown as text.
                shown = line.key if line.key.isprintable() else repr(line.key)
                sys.stdout.write(f"{output.size(line.size):>10}  {shown}{state}\n")
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
    from pgben_tasks.operations.browse_objects import find, take

    if to == "-" and as_json:
        raise ConfigurationError("--json and --to - were given", "both write to standard output")
    with _opened(snapshot) as (tools, manifest, folder):
        entry = find(tools, manifest, key, folder)
        taken = take(tools, manifest, entry, folder)
        if to == "-":
            with taken.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            return outcome.DONE
        _keep(taken, Path(to))
    facts = _facts(entry)
    if as_json:
        output.print_json({"snapshot": manifest.backup, "file": to, **facts})
    else:
        output.out().print(output.facts([(name, str(value)) for name, value in facts.items()]))
    return outcome.DONE


def _keep(taken: Path, destination: Path) -> None:
    """Copy the object; a file that exists is never replaced."""
    try:
        with taken.open("rb") as source, destination.open("xb") as file:
            destination.chmod(0o600)
            shutil.copyfileobj(source, file)
    except FileExistsError:
        raise ConfigurationError(
            f"'{destination}' exists already", "nothing is replaced; name another file"
        ) from None
    except OSError as exc:
        raise ConfigurationError(
            f"'{destination}' cannot be written: {exc.strerror}", "name another file"
        ) from exc


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "size": entry.size,
        "sha256": entry.sha256,
        "modified": output.plain(entry.modified),
        "headers": entry.headers,
        "metadata": entry.metadata,
        "tags": entry.tags,
    }


@contextmanager
def _opened(text: str) -> Iterator[tuple[Toolbox, Manifest, Path]]:
    """Find a snapshot; give what it is opened with, and a private folder that vanishes."""
    from pgben_tasks.direct import DirectPlace
    from pgben_tasks.operations.survey import survey

    place = DirectPlace.load()
    if arguments.looks_like_backup(text):
        found = arguments.backup(text, place.repository)
        target, backup = found.target, found.backup
    else:
        target = arguments.target(text)
        newest = survey(place.repository, target).newest_good
        backup = None if newest is None else newest.known.id
    if backup is None:
        raise BackupNotFound(
            f"'{target}' has no verified snapshot", "`pgben list` shows the backups there are"
        )
    manifest = place.repository.manifest(target, backup)
    with (
        place.tools(target) as tools,
        tempfile.TemporaryDirectory(prefix="objects-", dir=tools.spool) as folder,
    ):
        yield tools, manifest, Path(folder)
