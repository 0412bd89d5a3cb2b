"""The commands about the console's users: console user add, list, remove."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pgben_tasks.cli.options import AsJson, examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from pgben_tasks.adapters.accounts import Accounts, Role

app = typer.Typer(no_args_is_help=True, help="Maintain the console.")
user = typer.Typer(no_args_is_help=True, help="Maintain the users of the console.")
app.add_typer(user, name="user")

_SETTING: Final = "PGBEN_CONSOLE_USERS_FILE"

UsersFile = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help=f"The file of users; default: that of {_SETTING}."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]

ADD_EXAMPLES = examples(
    ("pgben console user add maria --operate", "ask for a password; she may start and cancel jobs"),
    ("pgben console user add tv --watch --password-file tv.txt", "one that may only look"),
    ("pgben console user add maria --operate --replace", "a new password"),
    ("pgben console user add maria --watch --file secrets/console_users", "in a file of its own"),
)
LIST_EXAMPLES = examples(
    ("pgben console user list", "who may log in, and what each may do"),
    ("pgben console user list --json", "the same for scripts"),
)
REMOVE_EXAMPLES = examples(
    ("pgben console user remove maria", "she is logged out with her next request"),
)


@app.callback()
def console() -> None:
    """Maintain the console."""


@user.command(epilog=ADD_EXAMPLES)
def add(
    name: Name,
    *,
    operate: Annotated[
        bool, typer.Option("--operate", help="It may look, and start, cancel and acknowledge.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="It may only look.")] = False,
    password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the password; default: it is asked for, or read from standard input "
            "where that is no terminal.",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give a user that is there a new password and role.")
    ] = False,
    file: UsersFile = None,
) -> int:
    """Let somebody log in to the console."""
    role = _role(operate=operate, watch=watch)
    accounts = _accounts(file)
    accounts.require_free(name, replace=replace)
    accounts.add(name, role, _password(password_file), replace=replace)
    output.say(f"user '{name}' may {role}")
    return outcome.DONE


@user.command("list", epilog=LIST_EXAMPLES)
def list_users(*, file: UsersFile = None, as_json: AsJson = False) -> int:
    """Show who may log in to the console; no passwords."""
    found = sorted(_accounts(file).all().values(), key=lambda one: one.name)
    if as_json:
        output.print_json({"users": [{"name": one.name, "role": one.role} for one in found]})
    elif found:
        output.show([output.table(("user", "role"), [(one.name, one.role) for one in found])])
    else:
        output.say("nobody may log in")
        output.hint("`pgben console user add NAME --operate` adds somebody")
    return outcome.DONE


@user.command(epilog=REMOVE_EXAMPLES)
def remove(name: Name, *, file: UsersFile = None) -> int:
    """Let somebody no longer log in to the console."""
    _accounts(file).remove(name)
    output.say(f"user '{name}' is removed")
    return outcome.DONE


def _accounts(file: Path | None) -> Accounts:
    from pgben_tasks.adapters.accounts import Accounts

    if file is None:
        from pgben_tasks.settings import Settings

        file = Settings.load().console_users_file
    if file is None:
        raise ConfigurationError(
            "no file of the console's users is set",
            f"set {_SETTING} to the path of one, new or not, or name it with --file",
        )
    return Accounts(file)


def _role(*, operate: bool, watch: bool) -> Role:
    if operate == watch:
        raise ConfigurationError(
            "what the user may do was not said" if not operate else "two roles were given",
            "give one of --operate (start and cancel jobs) and --watch (look only)",
        )
    return "operate" if operate else "watch"


def _password(file: Path | None) -> str:
    """Return the password: a file's, what is typed twice, or what standard input holds."""
    if file is not None:
        from pgben_tasks.adapters.keys.secrets import read_secret

        return read_secret(file, what="password file").rstrip("\r\n")
    if sys.stdin.isatty():
        typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return typed
    try:
        return sys.stdin.buffer.read().decode().rstrip("\r\n")
    except UnicodeDecodeError:
        # Without its cause, which carries the bytes.
        raise ConfigurationError(
            "the password on standard input is not text in UTF-8", "send it in UTF-8"
        ) from None
