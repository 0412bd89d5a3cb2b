"""Results of checks, and how checks are run: one that fails is a result, not an end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pgben_tasks.errors import PgbenError
from pgben_tasks.health.looks import system_error
from pgben_tasks.language import (
    Language,
    translatable as _,
    translate,
    translate_error,
    translation_of_error,
    with_marks,
)

Status = Literal["ok", "warning", "error", "unknown"]

#: Codes of results that every check may have.
CHECK_FAILED: Final = "failed"
UNSEEN: Final = "unseen"
#: Facts that are texts of ours, and those that errors quote as well.
_TEXTS: Final = ("subject", "reason")
_PHRASES: Final = ("needs", "remedy", "why")
#: Facts that are numbers with decimals, some with a unit.
NUMBERS: Final = ("free", "held", "hours", "left", "needed", "rpo", "seconds")
MEND_FIRST: Final = _("mend that first, then ask again")


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
        facts = dict(self.facts)
        for name in facts.keys() & set(_TEXTS):
            facts[name] = translate(facts[name], language)
        for name in facts.keys() & set(_PHRASES):
            facts[name] = translation_of_error(facts[name], language) or facts[name]
        for name in facts.keys() & set(NUMBERS):
            facts[name] = with_marks(facts[name], language)
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


def unseen(reason: str, hint: str, /, targets: Iterable[object] = ()) -> Result:
    """Return the result of what could not be examined, and why; ``run`` adds what that is."""
    of = ", ".join(map(str, targets))
    return Result(
        status="unknown",
        code=UNSEEN,
        sentence=_("not examined: {subject} of {targets}, because {reason}")
        if of
        else _("not examined: {subject}, because {reason}"),
        hint=hint,
        facts=_texts({"reason": reason, **({"targets": of} if of else {})}),
    )


class Unseen(Exception):
    """A check cannot be made, and why; where a part does not answer, its own check says more."""

    def __init__(self, reason: str, hint: str = MEND_FIRST) -> None:
        """Keep reason and hint, translatable both."""
        super().__init__(reason, hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: its name, what it examines (a text, as in "not examined: …"), and how."""

    name: str
    subject: str
    examine: Callable[[], Iterable[Result]]


def run(checks: Iterable[Check]) -> Iterator[Result]:
    """Run checks one after another; yield each result as soon as it is there."""
    for check in checks:
        for found in _run(check):
            subject = {"subject": check.subject} if found.code == UNSEEN else {}
            yield replace(found, check=check.name, facts={**found.facts, **subject})


def _run(check: Check) -> Iterator[Result]:
    try:
        yield from check.examine()
    except Unseen as exc:
        yield unseen(*exc.args)
    except PgbenError as exc:
        yield failed(exc)
    except OSError as exc:
        yield failed(system_error(exc))


def _texts(facts: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items()}
