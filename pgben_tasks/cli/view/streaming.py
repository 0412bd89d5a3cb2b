"""JSON documents that are written while they are made, so that their lists need no memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import typer

from pgben_tasks.cli.view import outcome, output
from pgben_tasks.errors import PgbenError
from pgben_tasks.redaction import redact


@contextmanager
def streamed(fields: Mapping[str, object], name: str) -> Iterator[Streamed]:
    """Yield what writes one JSON document to stdout, with a list ``name`` that never is in memory.

    An error within the block ends the document with an ``error``, so that it is JSON all the same;
    one before anything was written is left to the caller.
    """
    writing = Streamed(fields, name)
    try:
        yield writing
    except (PgbenError, KeyboardInterrupt) as exc:
        if not writing.begun:
            raise
        writing.end({"error": _error(exc)})
        code = exc.exit_code if isinstance(exc, PgbenError) else outcome.INTERRUPTED
        raise typer.Exit(code) from exc
    writing.end(writing.totals)


class Streamed:
    """A JSON document that is written while it is made; see ``streamed``."""

    def __init__(self, fields: Mapping[str, object], name: str) -> None:
        """Write nothing yet."""
        self.begun = False
        #: What follows the list.
        self.totals: dict[str, object] = {}
        self._fields = fields
        self._name = name

    def add(self, element: str) -> None:
        """Write an element of the list, which is JSON already."""
        sys.stdout.write((",\n" if self.begun else self._head()) + element)
        self.begun = True

    def end(self, more: Mapping[str, object]) -> None:
        """Write the end of the list, and what follows it."""
        if not self.begun:
            sys.stdout.write(self._head())
        last = [f", {_json(key)}: {_json(value)}" for key, value in more.items()]
        sys.stdout.write(f"\n]{''.join(last)}}}\n")

    def _head(self) -> str:
        first = [f"{_json(key)}: {_json(value)}, " for key, value in self._fields.items()]
        return f"{{{''.join(first)}{_json(self._name)}: [\n"


def _error(exc: BaseException) -> dict[str, str]:
    """Return an error as JSON has it."""
    if not isinstance(exc, PgbenError):
        return {"type": "Interrupted", "sentence": "the command was interrupted", "hint": ""}
    said = {"sentence": output.as_typed(exc.sentence), "hint": output.as_typed(exc.hint)}
    return {"type": type(exc).__name__, **{name: redact(text) for name, text in said.items()}}


def _json(value: object) -> str:
    return json.dumps(value, default=output.plain, ensure_ascii=False)
