"""The catalogues of `locale/`: complete, without leftovers, compiled, and what reads them."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest

from pgben_tasks.domain.message import fault_of_command, fault_of_message
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.language import (
    ERRORS,
    LOCALE,
    TEXTS,
    Language,
    translate,
    translate_error,
    translation_of_error,
)
from pgben_tasks.settings import Settings
from tests.support import poison
from tests.support.texts import calls, gaps_in

FOLDER = LOCALE / "pt_BR" / "LC_MESSAGES"
SOURCES = [FOLDER / "pgben.po", FOLDER / "errors.po"]
BOTH = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
CODE = sorted(LOCALE.parent.rglob("*.py"))


@pytest.fixture(scope="module")
def catalogue() -> Any:
    """Return the tool for catalogues; it needs Babel, as developers have it."""
    return import_module("tests.support.catalogue")


def test_every_language_but_english_has_its_catalogues(catalogue: Any) -> None:
    assert [source.stem for source in SOURCES] == [TEXTS, ERRORS]
    for language in {*get_args(Language)} - {"en"}:
        assert {path for path in catalogue.sources() if path.parents[1].name == language} == {
            LOCALE / language / "LC_MESSAGES" / source.name for source in SOURCES
        }


@BOTH
def test_every_text_is_translated_and_no_translation_is_left_over(
    catalogue: Any, source: Path
) -> None:
    texts = catalogue.collect(source.stem)
    assert len(texts) > 200
    known = catalogue.read(source)
    assert {text for text in texts if not known.get(text)} == set(), "run `make catalogues`"
    assert set(known) == texts, "run `make catalogues`"


@BOTH
def test_a_translation_has_the_gaps_of_its_original(catalogue: Any, source: Path) -> None:
    for text, translation in catalogue.read(source).items():
        assert gaps_in(translation) == gaps_in(text), text


@BOTH
def test_no_translation_is_the_english_text(catalogue: Any, source: Path) -> None:
    same = {text for text, translation in catalogue.read(source).items() if text == translation}
    # SQL, and a word that is Portuguese as well.
    assert {text for text in same if not text.startswith(("ALTER ROLE", "GRANT "))} <= {"Backup"}


@BOTH
def test_the_compiled_catalogue_is_current(catalogue: Any, source: Path) -> None:
    assert catalogue.read_compiled(source) == catalogue.read(source), "run `make catalogues`"


def test_no_pattern_of_an_error_hides_another(catalogue: Any) -> None:
    for text, translation in catalogue.read(SOURCES[1]).items():
        values = [f"x{number}/y" for number in range(len(gaps_in(text)))]
        found = translation_of_error(text.format(*values), "pt_BR")
        assert found == translation.format(*values), text


def test_an_error_is_known_again_with_the_error_that_it_quotes() -> None:
    said = translate_error(
        "backup '20261123T050000Z-1f0c9a' cannot be believed: the signature of 'is missing' does "
        "not fit its bytes",
        "restore it from the copy",
        "pt_BR",
    )
    assert said == (
        (
            "não se pode confiar no backup '20261123T050000Z-1f0c9a': a assinatura de "
            "'is missing' não corresponde aos bytes"
        ),
        "restaure-o da cópia",
    )


def test_a_number_in_an_error_has_the_marks_of_the_language_and_a_name_keeps_its_own() -> None:
    said = "the spool '/spool/1,024' has 1,234,567 bytes free, {0} needs about {1}"
    assert translation_of_error(said.format("the dump", "22,000,000"), "pt_BR") == (
        "o spool '/spool/1,024' tem 1.234.567 bytes livres, o dump precisa de cerca de 22.000.000"
    )
    assert translation_of_error("a PostgreSQL client of version 17.10", "pt_BR") == (
        "um cliente PostgreSQL da versão 17.10"
    )


def test_what_is_wrong_with_a_message_is_translated() -> None:
    target = "postgres/pgben"
    found = [fault_of_message(one) for one in poison.messages(target, 200, seed=3)]
    found += [fault_of_command(one) for one in poison.commands(target, seed=3)]
    for fault in {fault for fault in found if fault}:
        said = f"a message of the queue 'backup' was set aside: {fault} (12 bytes, SHA-256 ab)"
        assert (translation_of_error(fault, "pt_BR") or fault) != fault
        assert fault not in (translation_of_error(said, "pt_BR") or fault), said


def test_faults_of_settings_are_translated_line_by_line() -> None:
    environment = {
        "PGBEN_DB_PORT": "x",
        "PGBEN_DB_PROT": "1",
        "PGBEN_PRUNE_BRAKE": "1.2",
        "PGBEN_SMTP_SECURITY": "ssl",
        "PGBEN_SMTP_PASS_FILE": "/nonexistent/smtp",
    }
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(environment)
    sentence, hint = translate_error(caught.value.sentence, caught.value.hint, "pt_BR")
    assert sentence == "5 configurações estão erradas"
    assert hint.splitlines() == [
        (
            "PGBEN_SMTP_PASS_FILE aponta para '/nonexistent/smtp', que não pode ser lido: "
            "arquivo ou pasta inexistente"
        ),
        "PGBEN_DB_PROT não é uma configuração: você quis dizer PGBEN_DB_PORT?",
        "PGBEN_DB_PORT deve ser um número inteiro",
        "PGBEN_PRUNE_BRAKE deve ser no máximo 1",
        "PGBEN_SMTP_SECURITY deve ser 'none', 'starttls' ou 'tls'",
    ]


def test_an_error_is_never_half_translated() -> None:
    known, unknown = "restore it from the copy", "say it to somebody"
    assert translate_error(unknown, known, "pt_BR") == (unknown, known)
    assert translate_error(known, unknown, "pt_BR") == (known, unknown)
    assert translate_error(known, known, "en") == (known, known)
    assert translate_error(known, "", "pt_BR") == ("restaure-o da cópia", "")


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
