"""Settings from a file of lines ``NAME=VALUE``, as `pgben init` writes it and a shell reads it.

What a line means here is what ``set -a; . FILE`` makes of it; a line of which a shell would make
more than a value (``$NAME``, a command, a second word) is refused. Values are never repeated.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from stat import S_IMODE
from typing import Final

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.settings.sources import PREFIX

_OTHERS: Final = 0o007
_LIMIT: Final = 1024 * 1024

#: The parts of a value, side by side without a space between them.
_PARTS: Final = re.compile(
    r"'(?P<literal>[^'\0]*)'"
    r'|"(?P<quoted>(?:[^"\\$`\0]|\\[^\n\0])*)"'
    r"|\\(?P<escaped>[^\n\0])"
    r"|(?P<bare>[^\s\0\x01-\x1f'\"\\$`;&|<>()~]+)"
)
_NAME: Final = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=")
_NOTHING: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
#: What ends a value: the line, with a comment or not, or another setting behind it.
_END: Final = re.compile(rf"[ \t]*(?:(?<=[ \t])#[^\n]*)?(?:\n|\Z)|[ \t]+(?={PREFIX}[A-Za-z0-9_]+=)")
#: Between double quotes a shell removes a backslash before these only.
_IN_QUOTES: Final = re.compile(r"\\([\\\"$`])")


def load_file(path: Path) -> None:
    """Set the variables of a file for this process and those that it starts.

    They replace what the environment has. Raises ``ConfigurationError`` for a line that is none,
    for another name than a setting's, and for a file with a secret that every user may read.
    """
    text, mode = _read(path)
    found = parse(text, path)
    _refuse_open(path, mode, found)
    os.environ.update(found)


def parse(text: str, path: Path) -> dict[str, str]:
    """Return the variables that the text of the file ``path`` sets; of one set twice, the last."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if nothing := _NOTHING.match(text, at):
            at = nothing.end()
            continue
        line = text.count("\n", 0, at) + 1
        begin = _NAME.match(text, at)
        if begin is None:
            raise _unreadable(path, line)
        name = begin["name"]
        if not name.startswith(PREFIX):
            raise ConfigurationError(
                f"line {line} of '{path}' sets '{name}', which is not a setting of pgben",
                f"only {PREFIX}… variables are taken; take it out of the file, or let a shell load "
                f"all of them: `set -a; . {path.absolute()}; set +a`",
            )
        value, at = _value(text, begin.end())
        end = _END.match(text, at)
        if end is None:
            raise _unreadable(path, line)
        found[name], at = value, end.end()
    return found


def _value(text: str, at: int) -> tuple[str, int]:
    """Return the value that begins at a position, and where it ends."""
    parts = []
    while part := _PARTS.match(text, at):
        if part["quoted"] is not None:
            parts.append(_IN_QUOTES.sub(r"\1", part["quoted"]))
        else:
            parts.append(part["literal"] or part["escaped"] or part["bare"] or "")
        at = part.end()
    return "".join(parts), at


def _read(path: Path) -> tuple[str, int]:
    """Return the text of a file and its mode."""
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read(_LIMIT + 1)
    except OSError as exc:
        raise ConfigurationError(
            f"the file of settings '{path}' cannot be read: {os.strerror(exc.errno or 0)}",
            "name the file that `pgben init` wrote beside the keys, pgben.env",
        ) from exc
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if len(data) > _LIMIT or (data and not text):
        raise ConfigurationError(
            f"'{path}' is not a file of settings",
            "name the file that `pgben init` wrote beside the keys, pgben.env",
        )
    return text, S_IMODE(mode)


def _unreadable(path: Path, line: int) -> ConfigurationError:
    return ConfigurationError(
        f"line {line} of '{path}' cannot be read; it is not repeated here, as it may hold a secret",
        "write NAME='value' on a line of its own, in single quotes where it has more than letters "
        "and digits",
    )


def _refuse_open(path: Path, mode: int, found: dict[str, str]) -> None:
    """Raise where a file holds secrets and every user may read or change it."""
    if not mode & _OTHERS:
        return
    from pgben_tasks.settings.model import Settings, is_secret  # noqa: PLC0415 - heavy

    secret = {PREFIX + field.upper() for field in Settings.model_fields if is_secret(field)}
    held = sorted(secret & found.keys())
    if held:
        raise ConfigurationError(
            f"the file of settings '{path}' holds {', '.join(held)} and is open to every user "
            f"(mode {mode:04o})",
            f"run `chmod 600 {path}`, and change what others could have read",
        )
