"""Results of checks, and how checks are run: one that fails is a result, not an end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pgben_tasks.errors import PgbenError
from pgben_tasks.language import (
    Language,
    translatable as _,
    translate,
    translate_error,
    translation_of_error,
)

Status = Literal["ok", "warning", "error"]

#: Codes of results that every check may have.
CHECK_FAILED: Final = "failed"
UNSEEN: Final = "unseen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one check found of one thing: templates for people, and the facts that fill them.

    ``code`` tells the results of one check apart, for tests.
    """

    check: str = ""
    status: Status
    code: str
    sentence: str
    hint: str = ""
    facts: dict[str, str] = field(default_factory=dict)

    def written(self, language: Language) -> tuple[str, str]:
        """Return the sentence and what to do about it (often nothing) in a language."""
        if self.code == CHECK_FAILED:
            return translate_error(self.facts["why"], self.facts["remedy"], language)
        # Phrases that errors quote as well.
        phrases = {
            name: translation_of_error(self.facts[name], language) or self.facts[name]
            for name in ("needs", "remedy")
            if name in self.facts
        }
        facts = self.facts | phrases
        return (
            translate(self.sentence, language, **facts),
            translate(self.hint, language, **facts).strip(),
        )


def ok(sentence: str, /, **facts: object) -> Result:
    """Return the result of something that is as it should be."""
    return Result(status="ok", code="ok", sentence=sentence, facts=_texts(facts))


def warning(code: str, sentence: str, hint: str, /, **facts: object) -> Result:
    """Return the result of something that works, and should be otherwise."""
    return Result(status="warning", code=code, sentence=sentence, hint=hint, facts=_texts(facts))


def error(code: str, sentence: str, hint: str, /, **facts: object) -> Result:
    """Return the result of something that does not work, or will not when it is needed."""
    return Result(status="error", code=code, sentence=sentence, hint=hint, facts=_texts(facts))


def failed(exc: PgbenError) -> Result:
    """Return the result of an error."""
    return error(CHECK_FAILED, "{why}", "{remedy}", why=exc.sentence, remedy=exc.hint)


class Unseen(Exception):
    """A check needs a part that does not answer; the check of that part says why."""


Check = Callable[[], Iterable[Result]]


def run(checks: Iterable[tuple[str, Check]]) -> Iterator[Result]:
    """Run named checks one after another; yield each result as soon as it is there."""
    for name, check in checks:
        for found in _run(check):
            yield replace(found, check=name)


def _run(check: Check) -> Iterator[Result]:
    try:
        yield from check()
    except Unseen as exc:
        yield warning(
            UNSEEN,
            _("could not be looked at without '{what}'"),
            _("mend that first, then ask again"),
            what=exc,
        )
    except PgbenError as exc:
        yield failed(exc)
    except OSError as exc:
        yield failed(PgbenError(f"{exc.strerror or exc}".lower()))


def _texts(facts: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items()}
