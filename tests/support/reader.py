"""A person with a shell and a page of ours: types its commands, and sees what they print."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support import commands
from tests.support.commands import Ran
from tests.support.deployment import process_environment

#: What stands for something that the reader knows, from Portuguese to English.
_PLACEHOLDERS: Final = {
    "APLICACAO": "APPLICATION",
    "ARQUIVO": "FILE",
    "CHAVE": "KEY",
    "NOME": "NAME",
    "NOVO": "NEW",
    "OUTRO": "OTHER",
    "PONTO": "POINT",
    "PORTA": "PORT",
    "TRABALHO": "JOB",
}
#: All such words, in English.
WORDS: Final = frozenset({*_PLACEHOLDERS.values(), "HOST", "ID", "URL"})
_WORD: Final = re.compile(r"\b[A-Z]+\b")


def in_english(line: str) -> str:
    """Return a line of a page with the words that stand for something as in the English page."""
    return _WORD.sub(lambda word: _PLACEHOLDERS.get(word[0], word[0]), line)


class Reader:
    """A person with a shell of their own, in which nothing is set at first.

    What one line sets, the next ones know.
    """

    def __init__(
        self, folder: Path, *, files: Mapping[str, Path], programs: Sequence[Path] = ()
    ) -> None:
        """Begin in ``folder``; ``files`` are where what the pages name lies here.

        ``programs`` are folders with more programs than pgben.
        """
        self.folder = folder
        self._files = files
        self._out, self._err = folder / "shown.out", folder / "shown.err"
        commands.install(folder)
        clean = process_environment(None)
        path = [str(folder), *map(str, programs), clean["PATH"]]
        self._shell = subprocess.Popen(
            ["/bin/sh"],
            env={**clean, "PATH": os.pathsep.join(path)},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the shell; one that waits for a command is ended."""
        self._shell.terminate()
        self._shell.communicate(timeout=10)

    def type(self, *lines: str, **known: str) -> Ran:
        """Type lines up to the first that fails; ``known`` are the words to fill in.

        Returns how the last one ended, and what all of them printed.
        """
        out = err = ""
        code = 0
        for line in lines:
            code = self._typed(self._filled(line, known))
            out += self._out.read_text(encoding="utf-8")
            err += self._err.read_text(encoding="utf-8")
            if code:
                break
        return Ran(code=code, out=out, err=err)

    def _filled(self, line: str, known: Mapping[str, str]) -> str:
        filled = _WORD.sub(lambda word: known.get(word[0], word[0]), line)
        for named in sorted(self._files, key=len, reverse=True):
            filled = filled.replace(named, str(self._files[named]))
        return filled

    def _typed(self, line: str) -> int:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        typed = f"{{ {line}\n}} >'{self._out}' 2>'{self._err}' </dev/null; echo $?\n"
        self._shell.stdin.write(typed)
        self._shell.stdin.flush()
        ended = self._shell.stdout.readline()
        assert ended, f"the shell ended at: {line}"
        return int(ended)
