"""The command that brings everything back to new servers: bootstrap."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import RenderableType
from rich.text import Text

from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask import answers, enqueue
from pgben_tasks.cli.options import AsJson, examples
from pgben_tasks.cli.view import outcome, output, plan as view
from pgben_tasks.cli.view.screen import Screen
from pgben_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from pgben_tasks.domain.target import BackupId
    from pgben_tasks.setup.bootstrap import Bootstrapped
    from pgben_tasks.setup.new_site import NewSite

app = typer.Typer()

_WITHOUT_QUESTIONS: Final = (
    "pgben bootstrap --repository file:///mnt/repository --identity escrow-identity.txt "
    "--fingerprint '3f2a 9c41 …' --postgres-host db --postgres-password-file db.txt "
    "--s3-endpoint https://s3:9000 --s3-access-key pgben --s3-secret-file s3.txt"
)
EXAMPLES = examples(
    ("pgben bootstrap --repository file:///mnt/repository", "ask for everything else"),
    (
        _WITHOUT_QUESTIONS + " --dry-run",
        "look at everything, change nothing; without --dry-run, do it",
    ),
    ("pgben bootstrap …", "typed again, it goes on with what was interrupted"),
)


@app.command(epilog=EXAMPLES)
def bootstrap(  # noqa: PLR0913 - every answer has an option
    *,
    repository: Annotated[
        str | None, typer.Option(metavar="URL", help="The repository: file:///… or s3://….")
    ] = None,
    repository_endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Server of an s3:// repository.")
    ] = None,
    repository_access_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Its access key.")
    ] = None,
    repository_secret_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="File with its secret key.")
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The escrow key, or another identity of the old site."),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            metavar="HEX", help="Fingerprint of the public keys, as the recovery card has it."
        ),
    ] = None,
    postgres_host: Annotated[
        str | None, typer.Option(metavar="HOST", help="The new PostgreSQL server, empty.")
    ] = None,
    postgres_port: Annotated[
        str | None, typer.Option(metavar="PORT", help="Its port; default: 5432.")
    ] = None,
    postgres_user: Annotated[
        str | None, typer.Option(metavar="ROLE", help="A superuser of it; default: postgres.")
    ] = None,
    postgres_password_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="File with that role's password.")
    ] = None,
    s3_endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="The new S3 server, empty.")
    ] = None,
    s3_access_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Its access key.")
    ] = None,
    s3_secret_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="File with its secret key.")
    ] = None,
    keys: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            help="Where the keys and settings of the new site are written.",
        ),
    ] = Path("pgben-keys"),
    point: Annotated[
        str, typer.Option(metavar="ID|latest", help="A recovery point, or the newest verified one.")
    ] = "latest",
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The newest verified one of this moment or before."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at everything, show it, change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Bring everything back to new, empty servers, from the repository alone.

    Needed are a credential for the repository, an identity that opens its backups, and the
    fingerprint on the recovery card. Other settings of the new site are taken from PGBEN_…
    variables. Without PGBEN_CATALOG_URL the catalog goes to the new PostgreSQL server, too.
    """
    given = {
        "--repository": repository,
        "--repository-endpoint": repository_endpoint,
        "--repository-access-key": repository_access_key,
        "--repository-secret-file": repository_secret_file,
        "--postgres-host": postgres_host,
        "--postgres-port": postgres_port,
        "--postgres-user": postgres_user,
        "--postgres-password-file": postgres_password_file,
        "--s3-endpoint": s3_endpoint,
        "--s3-access-key": s3_access_key,
        "--s3-secret-file": s3_secret_file,
    }
    answered = answers.gather(given, identity=identity, fingerprint=fingerprint, ask=not as_json)
    from pgben_tasks.setup.new_site import Answers, as_json as site_document, inspect

    site = inspect(
        Answers(
            environment=answered.environment,
            identity=answered.identity,
            fingerprint=answered.fingerprint,
            keys=keys,
            wanted=_wanted(point, at, answered.environment),
        )
    )
    if dry_run and as_json:
        output.print_json({"dry_run": True, **site_document(site)})
    elif dry_run:
        output.show(_tables(site))
    if dry_run:
        return outcome.REFUSED if site.obstacles else outcome.DONE
    return _carry_out(site, as_json=as_json)


def _carry_out(site: NewSite, *, as_json: bool) -> int:
    from pgben_tasks.setup.bootstrap import bootstrap as carry_out

    output.show(_tables(site), console=output.err())
    screen = Screen(output.err())
    try:
        with screen.showing():
            done = carry_out(
                site,
                who=enqueue.requester(),
                now=datetime.now(UTC),
                onlooker=screen,
                announce=lambda what: screen.console.print(Text(f"→ {what}", style="bold")),
            )
    except KeyboardInterrupt:
        output.say("interrupted: the same command, typed again, goes on")
        return outcome.INTERRUPTED
    if as_json:
        output.print_json(_document(site, done))
    else:
        _show(site, done)
    if done.job.state == "succeeded" and done.rebuilt is not None and done.rebuilt.breaks:
        return outcome.DAMAGED
    return outcome.exit_code(done.job)


def _wanted(point: str, at: str | None, environment: dict[str, str]) -> BackupId | datetime | None:
    """Return the recovery point that was asked for; None means the newest verified one."""
    from pgben_tasks.domain.target import LATEST, BackupId
    from pgben_tasks.domain.windows import parse_zone
    from pgben_tasks.settings import Settings

    if at is not None and point != LATEST:
        raise ConfigurationError("--at and an id were given", "give one of the two")
    if at is not None:
        usual = Settings.model_fields["timezone"].default
        zone = parse_zone(environment.get("PGBEN_TIMEZONE") or usual)
        return arguments.parse_moment(at, zone)
    return None if point == LATEST else BackupId.parse(point)


def _tables(site: NewSite) -> Iterator[RenderableType]:
    """Yield what comes back, to where, and what stands in the way."""
    from pgben_tasks import runtime

    plan = site.plan.to_json()
    yield from view.contents(plan, site.settings.zone)
    catalog = runtime.catalog_database(site.settings)
    yield output.facts(
        [
            ("repository", site.settings.repository),
            ("opened by", ", ".join(site.opened_by)),
            ("databases to", str(runtime.first_server(site.settings))),
            ("buckets to", site.settings.minio_url),
            ("catalog to", f"{catalog.name} at {catalog.server}"),
            ("keys to", str(site.answers.keys)),
        ],
        title="from where, and to where",
    )
    for newer, state in site.passed_over.items():
        yield Text(f"recovery point {newer} is newer and is not taken: {state}", style="yellow")
    if site.catalog_beside:
        yield Text(
            "the catalog goes to the server of the databases and falls with it; PGBEN_CATALOG_URL "
            "names another",
            style="yellow",
        )
    if site.job is not None:
        begun = "has ended well" if site.job.state == "succeeded" else "was begun; it goes on"
        yield Text(f"a bootstrap to these servers {begun}", style="yellow")
    for sentence, _ in site.obstacles:
        yield Text(f"in the way: {sentence}", style="bold red")
    if not site.obstacles:
        yield Text("nothing stands in the way", style="green")


def _document(site: NewSite, done: Bootstrapped) -> dict[str, Any]:
    return {
        "repository": site.known.repository,
        "point": str(site.point),
        "passed_over": dict(site.passed_over),
        "made": list(done.made.made),
        "public_keys": done.made.public_keys,
        "cards_outdated": done.made.cards_outdated,
        "trail_breaks": [
            one.model_dump(mode="json") for one in (done.rebuilt.breaks if done.rebuilt else ())
        ],
        "roles_without_password": list(done.roles),
        "files": [str(path) for path in (*done.made.files, *done.files)],
        "job": outcome.job_document(done.job),
    }


def _show(site: NewSite, done: Bootstrapped) -> None:
    output.show(outcome.job_tables(done.job, zone=site.settings.zone))
    if done.rebuilt is not None and done.rebuilt.breaks:
        output.complain(
            f"the audit trail is broken: {done.rebuilt.breaks[0].detail}",
            "`pgben catalog rebuild` lists every break; compare with a copy of the repository",
        )
    if done.job.error is not None:
        output.complain(done.job.error["sentence"], done.job.error["hint"])
        output.hint("once that is mended, the same command, typed again, goes on")
        return
    _show_what_to_do(site, done)


def _show_what_to_do(site: NewSite, done: Bootstrapped) -> None:
    """Write what is left to a person, in the order of doing it."""
    file = done.made.keys.file("pgben.env")
    if done.roles:
        output.hint(
            f"roles may log in and have no password: {', '.join(done.roles)}; for each that is "
            "used: ALTER ROLE … PASSWORD …"
        )
    output.hint(f"see that all is well: `pgben --env-file {file} doctor`")
    output.hint(
        f"start a Redis (PGBEN_REDIS_URL) and the processes, with the settings of {file}: "
        "`python -m workers all`, `python -m workers beat`"
    )
    output.hint(
        f"print {done.made.keys.file('recovery-card.txt')}, and destroy the cards printed before: "
        "the public keys have a new fingerprint"
    )
    if "operations" not in site.opened_by:
        output.hint(
            "the identity that was given is no operations key; its copy is "
            f"{done.made.keys.file('operations-identity.txt')}. Make a new operations key "
            "(`age-keygen`), add its public half to recipients.txt and PGBEN_AGE_RECIPIENTS, put "
            "it in place of the copy, and run `pgben init`; backups of before are restored with "
            "the old one, so lock that away again"
        )
