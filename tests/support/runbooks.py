"""The pages of docs/runbooks: their commands and the sentences they quote, and who follows one."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.support.commands import Ran
from tests.support.reader import WORDS, Reader, in_english

FOLDER: Final = Path(__file__).parents[2] / "docs" / "runbooks"
FOLDERS: Final = {"en": FOLDER, "pt_BR": FOLDER / "pt_BR"}
INDEX: Final = "README"
NAMES: Final = sorted(page.stem for page in FOLDER.glob("*.md") if page.stem != INDEX)
#: How the code blocks of a page begin: typed by the test, or what it has no machine for.
TYPED: Final = "sh"
ELSEWHERE: Final = "sh elsewhere"
_BLOCK: Final = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)
_QUOTE: Final = re.compile(r"^ *> (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Runbook:
    """A page, or some of its sections."""

    sections: tuple[str, ...]

    @classmethod
    def read(cls, name: str, language: str = "en") -> Self:
        """Read the page with this name."""
        return cls.parse((FOLDERS[language] / f"{name}.md").read_text(encoding="utf-8"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the page with this text; what comes before its first heading is section 0."""
        return cls(tuple(text.split("\n## ")))

    def only(self, *numbers: int) -> Runbook:
        """Return some of its sections."""
        return Runbook(tuple(self.sections[number] for number in numbers))

    @property
    def text(self) -> str:
        """All of it."""
        return "\n## ".join(self.sections)

    @property
    def kinds(self) -> list[str]:
        """How its code blocks begin."""
        return [kind for _, kind, _ in _BLOCK.findall(self.text)]

    @property
    def commands(self) -> list[str]:
        """What is typed, a line each, with the words to fill in as in English."""
        return self._lines(TYPED)

    @property
    def elsewhere(self) -> list[str]:
        """What is typed on machines that no test has."""
        return self._lines(ELSEWHERE)

    @property
    def quotes(self) -> list[str]:
        """The sentences that it quotes; ``…`` stands for what differs."""
        return _QUOTE.findall(self.text)

    def _lines(self, wanted: str) -> list[str]:
        return [
            in_english(line.strip())
            for _, kind, block in _BLOCK.findall(self.text)
            if kind == wanted
            for line in block.splitlines()
        ]


class Follower:
    """A reader who types the commands of a page in their order, and sees what is printed."""

    def __init__(self, page: Runbook, reader: Reader) -> None:
        """Begin before the first command."""
        self._page = page
        self.reader = reader
        self._left = deque(page.commands)
        self._shown = ""
        #: What the words in capitals stand for.
        self.known: dict[str, str] = {}

    def see(self, *ran: Ran) -> None:
        """See what else was printed in this situation, as before the page was opened."""
        self._shown += "".join(one.all for one in ran)

    def next(self, count: int = 1, *, code: int = 0) -> Ran:
        """Type the next command, or several; the last one ends with ``code``, the others with 0."""
        for _ in range(count - 1):
            self._type(self._left.popleft(), code=0)
        return self._type(self._left.popleft(), code=code)

    def again(self, beginning: str, *, code: int = 0) -> Ran:
        """Type the first command of the page that begins like this once more."""
        line = next(line for line in self._page.commands if line.startswith(beginning))
        return self._type(line, code=code)

    def pick(self, ran: Ran, pattern: str) -> str:
        """Return what a person picks out of what was printed."""
        found = re.search(pattern, ran.out, re.MULTILINE)
        assert found is not None, f"{pattern!r} is not in:\n{ran.all}"
        return found[1]

    def close(self) -> None:
        """Fail when a command was not typed, or a quoted sentence was not printed."""
        assert not self._left, f"not typed: {list(self._left)}"
        missing = unprinted(self._page.quotes, self._shown)
        assert not missing, f"never printed: {missing}, in:\n{self._shown}"

    def _type(self, line: str, *, code: int) -> Ran:
        open_words = (WORDS & {*re.findall(r"\b[A-Z]+\b", line)}) - self.known.keys()
        assert not open_words, f"nothing was printed for {open_words} in: {line}"
        ran = self.reader.type(line, **self.known)
        assert ran.code == code, f"{line}\n{ran.all}"
        self.see(ran)
        return ran


def unprinted(quotes: Collection[str], shown: str) -> list[str]:
    """Return the quotes that are not in what was shown; a quote has any number of blanks."""
    return [quote for quote in quotes if not re.search(_pattern(quote), shown)]


def _pattern(quote: str) -> str:
    words = (re.escape(part) for part in quote.split("…"))
    return "[^\n]*?".join(words).replace(r"\ ", r"[ ]+")
