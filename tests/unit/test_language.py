"""The catalogues of `locale/`: complete, without leftovers, compiled, and what reads them."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest

from pgben_tasks.language import LOCALE, Language, translate
from tests.support.texts import calls, gaps_in

SOURCE = LOCALE / "pt_BR" / "LC_MESSAGES" / "pgben.po"
CODE = sorted(LOCALE.parent.rglob("*.py"))


@pytest.fixture(scope="module")
def catalogue() -> Any:
    """Return the tool for catalogues; it needs Babel, as developers have it."""
    return import_module("tests.support.catalogue")


def test_every_language_but_english_has_a_catalogue(catalogue: Any) -> None:
    assert {path.parents[1].name for path in catalogue.sources()} | {"en"} == set(
        get_args(Language)
    )


def test_every_text_is_translated_and_no_translation_is_left_over(catalogue: Any) -> None:
    texts = catalogue.collect()
    assert len(texts) > 200
    known = catalogue.read(SOURCE)
    assert {text for text in texts if not known.get(text)} == set(), "run `make catalogues`"
    assert set(known) == texts, "run `make catalogues`"


def test_a_translation_has_the_gaps_of_its_original(catalogue: Any) -> None:
    for text, translation in catalogue.read(SOURCE).items():
        assert gaps_in(translation) == gaps_in(text), text


def test_the_compiled_catalogue_is_current(catalogue: Any) -> None:
    assert catalogue.read_compiled(SOURCE) == catalogue.read(SOURCE), "run `make catalogues`"


@pytest.mark.parametrize(
    "call",
    [
        call
        for path in CODE
        for call in calls(path, "translate")
        if isinstance(call.args[0], ast.Constant)
    ],
    ids=ast.unparse,
)
def test_a_text_is_given_the_values_of_its_gaps(call: ast.Call) -> None:
    text = ast.literal_eval(call.args[0])
    assert gaps_in(text) == sorted(one.arg or "" for one in call.keywords)


def test_only_this_module_reads_catalogues() -> None:
    def imports_gettext(path: Path) -> bool:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        return any(
            isinstance(node, ast.Import) and any(one.name == "gettext" for one in node.names)
            for node in ast.walk(tree)
        )

    assert [path.name for path in CODE if imports_gettext(path)] == ["language.py"]


def test_texts_are_translated_and_values_are_taken_as_they_are() -> None:
    assert translate("set {names}", "en", names="{0} %s") == "set {0} %s"
    assert translate("set {names}", "pt_BR", names="{0} %s") == "defina {0} %s"
    assert translate("no such text {x}", "pt_BR", x=1) == "no such text 1"
    assert translate("", "pt_BR") == translate("", "en") == ""
