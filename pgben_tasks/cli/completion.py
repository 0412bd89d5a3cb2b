"""The options that install and print the completion of bash, zsh and fish.

The scripts are typer's. They run `pgben` itself with ``_PGBEN_COMPLETE``, which reads no settings.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.completion import get_completion_inspect_parameters, install_callback, show_callback

from pgben_tasks.cli.view import output
from pgben_tasks.errors import ConfigurationError

# This also registers what answers the shells.
get_completion_inspect_parameters()

#: zsh loads the script at the first completion, which typer's then leaves without an answer.
_ZSH_ANSWERS: Final = """
if (( $+compstate )); then
  _pgben_completion "$@"
fi
"""


def _install(context: typer.Context, parameter: typer.CallbackParam, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    try:
        said = _ask_typer(install_callback, context, parameter).splitlines()[0]
        shell, _, path = said.partition(" completion installed in ")
        if shell == "zsh":
            with Path(path).open("a", encoding="utf-8") as script:
                script.write(_ZSH_ANSWERS)
    except (OSError, UnicodeError) as exc:
        raise ConfigurationError(
            f"completion cannot be installed: {exc}",
            "`pgben --show-completion` prints it; load that in the shell's own start-up file",
        ) from exc
    output.say(f"{said}; it works in shells that are started from now on")
    raise typer.Exit


def _show(context: typer.Context, parameter: typer.CallbackParam, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    script = _ask_typer(show_callback, context, parameter)
    typer.echo(script + (_ZSH_ANSWERS if script.startswith("#compdef") else ""), nl=False)
    raise typer.Exit


def _ask_typer(
    callback: Callable[..., Any], context: typer.Context, parameter: typer.CallbackParam
) -> str:
    """Return what typer's own option prints; it ends the program where it is done."""
    said = StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said), suppress(SystemExit):
            callback(context, parameter, True)
    except typer.Exit as exc:
        raise ConfigurationError(
            "no shell with completion was found among the processes that started this one",
            "type it at the prompt of bash, zsh or fish",
        ) from exc
    return said.getvalue()


InstallCompletion = Annotated[
    bool,
    typer.Option(
        "--install-completion",
        callback=_install,
        is_eager=True,
        expose_value=False,
        help="Complete commands and options in this shell (bash, zsh, fish) from now on.",
    ),
]
ShowCompletion = Annotated[
    bool,
    typer.Option(
        "--show-completion",
        callback=_show,
        is_eager=True,
        expose_value=False,
        help="Print what --install-completion would install.",
    ),
]
