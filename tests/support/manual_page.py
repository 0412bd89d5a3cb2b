"""Writes docs/pgben.1, the manual page: ``make man``.

Everything comes from the commands themselves; a test compares the page with what this gives.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, Final

import typer
from rich.text import Text

from pgben_tasks import __version__
from pgben_tasks.cli.main import app
from pgben_tasks.cli.view import outcome
from pgben_tasks.errors import TransientError

EXIT_CODES: Final = {
    outcome.DONE: "Done, and verified where that applies.",
    outcome.FAILED: "Failed, or cancelled.",
    outcome.USAGE: "Wrong usage or settings.",
    outcome.REFUSED: "Refused: a rule protects data; nothing was changed.",
    outcome.SUSPECT: "The backup is there, and does not count: suspect, incomplete, or not "
    "restorable here. Of a restore in place or an undo: it is done, and the command after the swap "
    "failed.",
    outcome.DAMAGED: "Damage was found.",
    TransientError.exit_code: "Busy or away for now.",
    outcome.INTERRUPTED: "Interrupted; the job goes on.",
    outcome.OUTPUT_CLOSED: "Whoever read standard output went away.",
}
_ENVIRONMENT: Final = (
    "Every setting is a variable PGBEN_*; `pgben config` shows them, where each came from, and no "
    "secrets. `pgben init` writes those of the keys to a file that a shell and systemd read. Among "
    "the project's pages docs/configuration.md describes each setting, docs/operations.md what to "
    "do when something fails."
)
#: What a formatter would take for its own, or print as another character than was typed.
_ESCAPED: Final = {
    "\\": r"\e",
    "-": r"\-",
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
}


def page() -> str:
    """Return the whole page."""
    return "\n".join(_lines()) + "\n"


def roff(text: str) -> str:
    """Return text, whose markup is dropped, as a formatter of manual pages reads it."""
    plain = Text.from_markup(text).plain
    written = "".join(
        _ESCAPED.get(one, one if one.isascii() else rf"\[u{ord(one):04X}]") for one in plain
    )
    return rf"\&{written}" if written.startswith(".") else written


def _flowing(text: str) -> Iterator[str]:
    """Yield text that a formatter fills into lines of its own."""
    for line in textwrap.wrap(text, 72, break_on_hyphens=False, break_long_words=False):
        yield roff(line)


def _lines() -> Iterator[str]:
    root: Any = typer.main.get_command(app)
    yield r".\" Made from the commands by `make man`; a test keeps it current."
    yield f'.TH PGBEN 1 "" "pgben {__version__}" "User Commands"'
    # Lines are neither stretched nor hyphenated: people copy names from them.
    yield from (".ad l", ".nh")
    yield from (".SH NAME", r"pgben \- back up PostgreSQL databases and buckets, and restore them")
    yield from (".SH SYNOPSIS", ".B pgben", r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]")
    yield from (".SH DESCRIPTION", *_flowing(root.help), *_examples(root.epilog))
    yield from (".SH OPTIONS", *_parameters(root))
    yield from (
        ".TP",
        r"\fB\-h\fR, \fB\-\-help\fR",
        "Show what can be given; after any command, too.",
    )
    yield ".SH COMMANDS"
    for path, command in _commands(root, "pgben"):
        yield f'.SS "{roff(path)}"'
        yield from _usage(path, command)
        yield from _paragraphs(command.help)
        yield from _parameters(command)
        yield from _examples(command.epilog)
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES.items():
        yield from (".TP", f".B {code}", *_flowing(meaning))
    yield from (".SH ENVIRONMENT", *_flowing(_ENVIRONMENT))


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with what is typed for it."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _usage(path: str, command: Any) -> Iterator[str]:
    arguments = [one.metavar for one in command.params if one.param_type_name == "argument"]
    yield rf"\fB{roff(path)}\fR [\fIOPTIONS\fR] {roff_words(arguments)}".rstrip()


def roff_words(words: list[str]) -> str:
    """Return words for people to replace; brackets of theirs are no markup."""
    return " ".join(roff(word.replace("[", r"\[")) for word in words)


def _paragraphs(text: str | None) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text or "")):
        yield from (".PP", *_flowing(" ".join(paragraph.split())))


def _parameters(command: Any) -> Iterator[str]:
    """Yield what a command can be given: arguments, then options."""
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    for one in sorted(shown, key=lambda one: one.param_type_name != "argument"):
        yield ".TP"
        if one.param_type_name == "argument":
            yield rf"\fI{roff_words([one.metavar])}\fR"
        else:
            names = ", ".join(rf"\fB{roff(name)}\fR" for name in (*one.opts, *one.secondary_opts))
            yield names if one.is_flag else rf"{names} \fI{roff_words([_value(one)])}\fR"
        yield from _flowing(one.help)
        if not getattr(one, "is_flag", False) and one.default not in {None, ""}:
            yield rf"Default: {roff(str(one.default))}."


def _value(option: Any) -> str:
    """Return the word for what an option takes."""
    kind = option.type_descriptor
    return option.metavar or ("|".join(kind.choices) if kind.is_choice else "N")


def _examples(epilog: str | None) -> Iterator[str]:
    if epilog:
        title, *lines = epilog.splitlines()
        yield from (".PP", roff(title) + ":", ".PP", ".EX", *map(roff, lines), ".EE")


if __name__ == "__main__":
    sys.stdout.write(page())
