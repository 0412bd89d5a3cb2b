"""How checks of the doctor are run, and how their results are written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgben_tasks.health.doctor
from pgben_tasks.errors import StoreUnavailable
from pgben_tasks.health.doctor.checks import CHECKS
from pgben_tasks.health.doctor.report import (
    CHECK_FAILED,
    NUMBERS,
    UNSEEN,
    Check,
    Result,
    Unseen,
    ok,
    run,
    unseen,
    warning,
)
from pgben_tasks.language import Language, translate
from tests.support.texts import calls, gaps_in, texts_in

FOLDER = Path(pgben_tasks.health.doctor.__file__).parent
GIVING = ("ok", "warning", "error", "unseen", "Unseen")
LANGUAGES: tuple[Language, ...] = ("en", "pt_BR")


def results() -> list[ast.Call]:
    """Return the code of every result that a check can give."""
    return [call for path in FOLDER.glob("*.py") for call in calls(path, *GIVING)]


@pytest.mark.parametrize("call", results(), ids=ast.unparse)
def test_every_result_fills_its_sentence_and_reads_like_the_others(call: ast.Call) -> None:
    given = {one.arg for one in call.keywords}
    for text in texts_in(call):
        # Facts that several results share are passed as a mapping.
        assert None in given or set(gaps_in(text)) <= given
        named = text.startswith(("Redis", "PGBEN_", "{", "'"))
        assert named or text[:1].islower()
        assert not text.endswith(".")


def test_the_results_of_the_checks_are_found() -> None:
    assert sum(len(texts_in(call)) for call in results()) > 90


def test_a_fact_is_never_read_as_a_template() -> None:
    for language in LANGUAGES:
        assert "{secret}" in ok("this is the node '{node}'", node="{secret}").written(language)[0]


def test_numbers_have_the_marks_of_the_language() -> None:
    found = ok(
        "the newest verified backup of {target} is {hours} h old, PGBEN_RPO is {rpo} h",
        target="postgres/a.b",
        hours="30.5",
        rpo="24",
    )
    assert "is 30.5 h old" in found.written("en")[0]
    assert found.written("pt_BR")[0] == (
        "o backup verificado mais novo de postgres/a.b foi feito há 30,5 h; PGBEN_RPO é de 24 h"
    )
    room = ok(
        "the largest database ({needed}) fits into the spool ({left} left)",
        needed="1.5 MiB",
        left="77.2 GiB",
    )
    assert room.written("pt_BR")[0] == "o maior banco (1,5 MiB) cabe no spool (77,2 GiB livres)"


def _numbers(path: Path) -> Iterator[str]:
    """Yield the facts of a module's results that are written with decimals."""
    for call in calls(path, *GIVING):
        for one in call.keywords:
            text = ast.unparse(one.value)
            if one.arg and (".1f" in text or text.startswith(("_hours(", "size("))):
                yield one.arg


def test_every_fact_with_decimals_is_known_as_a_number() -> None:
    found = {name for path in FOLDER.glob("*.py") for name in _numbers(path)}
    assert {"hours", "rpo", "seconds", "free"} <= found <= set(NUMBERS)


def _raised(exc: Exception) -> list[Result]:
    raise exc


def test_one_check_that_fails_keeps_no_other_back() -> None:
    def away() -> Iterator[Result]:
        yield ok("all is well")
        raise StoreUnavailable("it is away", "look at it")

    def blind() -> Iterator[Result]:
        yield from _raised(Unseen("the catalog cannot be asked"))

    def broken() -> Iterator[Result]:
        yield from _raised(PermissionError(13, "Permission denied"))

    checks = {
        "one": away,
        "two": blind,
        "three": broken,
        "four": lambda: [warning("odd", "this is odd", "look")],
    }
    found = list(run(Check(name=name, subject="mail", examine=one) for name, one in checks.items()))
    assert [(one.check, one.status, one.code) for one in found] == [
        ("one", "ok", "ok"),
        ("one", "error", CHECK_FAILED),
        ("two", "unknown", UNSEEN),
        ("three", "error", CHECK_FAILED),
        ("four", "warning", "odd"),
    ]
    assert found[1].written("en") == found[1].written("pt_BR") == ("it is away", "look at it")
    assert found[2].written("en")[0] == ("not examined: mail, because the catalog cannot be asked")
    assert found[2].written("pt_BR") == (
        "não foi possível examinar o envio de e-mails: o catálogo não pode ser consultado",
        "corrija isso primeiro e rode de novo",
    )
    assert found[3].written("en") == ("permission denied", "")
    assert found[3].written("pt_BR") == ("permissão negada", "")


def test_what_could_not_be_examined_is_named_by_its_check_and_targets() -> None:
    def some() -> Iterator[Result]:
        yield unseen("it is away", "look", ["postgres/a", "bucket/b"])

    (found,) = run([Check(name="clocks", subject="the clock", examine=some)])
    said = "not examined: the clock of postgres/a, bucket/b, because it is away"
    assert found.written("en") == (said, "look")
    assert all(translate(subject, "pt_BR") != subject for subject, _ in CHECKS.values())
