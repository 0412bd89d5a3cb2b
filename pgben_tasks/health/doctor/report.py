"""Results of checks, and how checks are run: one that fails is a result, not an end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from pgben_tasks.errors import PgbenError

Status = Literal["ok", "warning", "error"]

#: Words that every check may use.
FAILED = "failed"
UNSEEN = "unseen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one check found of one thing.

    ``check`` and ``word`` together name a sentence of the catalogues, which ``facts`` fill in.
    """

    check: str
    status: Status
    word: str
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """A result without the name of its check, as checks give it."""

    status: Status
    word: str
    facts: dict[str, str] = field(default_factory=dict)


def ok(word: str = "ok", /, **facts: object) -> Finding:
    """Say that something is as it should be."""
    return Finding("ok", word, _texts(facts))


def warning(word: str, /, **facts: object) -> Finding:
    """Say that something works, and should be otherwise."""
    return Finding("warning", word, _texts(facts))


def error(word: str, /, **facts: object) -> Finding:
    """Say that something does not work, or will not when it is needed."""
    return Finding("error", word, _texts(facts))


class Unseen(Exception):
    """A check could not look, because something that another check tells of is away."""


Check = Callable[[], Iterable[Finding]]


def run(checks: Iterable[tuple[str, Check]]) -> Iterator[Result]:
    """Run named checks one after another; give each result as soon as it is there."""
    for name, check in checks:
        try:
            for found in check():
                yield Result(check=name, status=found.status, word=found.word, facts=found.facts)
        except Unseen as exc:
            yield Result(check=name, status="warning", word=UNSEEN, facts={"what": str(exc)})
        except PgbenError as exc:
            facts = {"why": exc.sentence, "remedy": exc.hint}
            yield Result(check=name, status="error", word=FAILED, facts=facts)
        except OSError as exc:
            facts = {"why": f"{exc.strerror or exc}".lower(), "remedy": ""}
            yield Result(check=name, status="error", word=FAILED, facts=facts)


def _texts(facts: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items()}
