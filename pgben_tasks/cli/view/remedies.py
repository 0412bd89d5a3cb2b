"""Commands that bring something back, as they are typed into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pgben_tasks.domain.states import State

if TYPE_CHECKING:
    from pgben_tasks.domain.points import KnownPoint
    from pgben_tasks.domain.target import BackupId, Target

#: What a restore has to be told to take a backup in one of these states.
_PERMISSIONS: Final = {State.DAMAGED: "--damaged", State.UNVERIFIED: "--unverified"}


def restore_of_object(bucket: str, backup: str, key: str, *, state: State = State.VERIFIED) -> str:
    """Return the command that brings one object of a snapshot back; ``state`` is the snapshot's."""
    words = ("pgben", "restore", f"bucket/{bucket}", "--backup", backup, *_permissions(state))
    # In one word with its option, a key may begin with a dash.
    return _typed((*words, "--in-place", "--confirm", bucket, f"--key={key}"))


def restore_of_backup(target: Target, backup: BackupId) -> str:
    """Return the command that restores one backup."""
    return _typed(("pgben", "restore", str(target), "--backup", str(backup)))


def plan_of_point(point: KnownPoint) -> str:
    """Return the command that shows what a recovery point brings back, and how."""
    return _typed(("pgben", "plan", "--all", "--point", str(point.id)))


def _permissions(state: State) -> tuple[str, ...]:
    return (_PERMISSIONS[state],) if state.needs_permission else ()


def _typed(words: Iterable[str]) -> str:
    """Join words so that a shell reads each of them as it is, on one line."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """Quote a word; one with control characters as bash and zsh take it, on one line."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode())
