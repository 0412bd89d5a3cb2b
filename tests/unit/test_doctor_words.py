"""Every result that a check can give has its words, in both languages."""

from __future__ import annotations

import ast
import inspect
import string
import textwrap
from collections.abc import Iterator

import pytest

from pgben_tasks.errors import StoreUnavailable
from pgben_tasks.health.doctor.checks import CHECKS
from pgben_tasks.health.doctor.report import (
    FAILED,
    UNSEEN,
    Finding,
    Result,
    Unseen,
    ok,
    run,
    warning,
)
from pgben_tasks.words import doctor as words

ENGLISH, PORTUGUESE = words.CATALOGUES["en"], words.CATALOGUES["pt_BR"]


def told() -> Iterator[tuple[str, set[str] | None]]:
    """Yield the name of every result in the checks' code, with its facts where they stand there."""
    for check, function in CHECKS.items():
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        for call in ast.walk(tree):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                continue
            if call.func.id not in {"ok", "warning", "error"}:
                continue
            facts = {one.arg for one in call.keywords if one.arg is not None}
            whole = all(one.arg is not None for one in call.keywords)
            for word in _words(call):
                yield f"{check}.{word}", facts if whole else None


def _words(call: ast.Call) -> list[str]:
    if not call.args:
        return ["ok"]
    first = call.args[0]
    if isinstance(first, ast.Constant):
        return [str(first.value)]
    # The one word that is chosen at run time, and the one that every check may use.
    return {"what": ["server", "client"], "FAILED": []}[ast.unparse(first)]


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize(
    ("name", "facts"), [*told()], ids=lambda one: one if isinstance(one, str) else ""
)
def test_every_result_has_its_words_in_both_languages(name: str, facts: set[str] | None) -> None:
    for catalogue in (ENGLISH, PORTUGUESE):
        sentence, hint = catalogue[name]
        if facts is not None:
            assert fields(sentence) | fields(hint) <= facts
        named = sentence.startswith(("Redis", "PGBEN_", "{", "'"))
        assert named or sentence[:1].islower()
        assert not sentence.endswith(".")


def test_no_words_are_left_over() -> None:
    known = {name for name, _ in told()} | {"any.failed", "any.unseen"}
    assert set(ENGLISH) == known
    failed = {f"{check}.{FAILED}" for check in CHECKS}
    assert set(PORTUGUESE) - failed == known


def test_a_fact_is_never_read_as_a_template() -> None:
    result = Result(check="node", status="ok", word="ok", facts={"node": "{secret}"})
    assert "{secret}" in words.written(result, "en")[0]


def _raised(exc: Exception) -> list[Finding]:
    raise exc


def test_one_check_that_fails_keeps_no_other_back() -> None:
    def away() -> Iterator[Finding]:
        yield ok()
        raise StoreUnavailable("it is away", "look at it")

    def blind() -> Iterator[Finding]:
        yield from _raised(Unseen("catalog"))

    def broken() -> Iterator[Finding]:
        yield from _raised(PermissionError(13, "Permission denied"))

    checks = {"one": away, "two": blind, "three": broken, "four": lambda: [warning("odd")]}
    results = list(run(checks.items()))
    assert [(one.check, one.status, one.word) for one in results] == [
        ("one", "ok", "ok"),
        ("one", "error", FAILED),
        ("two", "warning", UNSEEN),
        ("three", "error", FAILED),
        ("four", "warning", "odd"),
    ]
    assert words.written(results[1], "en") == ("it is away", "look at it")
    assert words.written(results[1], "pt_BR")[0].endswith("it is away")
    assert words.written(results[3], "en") == ("permission denied", "")
