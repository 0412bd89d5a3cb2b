"""The runbooks: the same in both languages, complete, short, and what is not typed is counted."""

from __future__ import annotations

import re

import pytest

from tests.support.reader import WORDS, in_english
from tests.support.runbooks import ELSEWHERE, FOLDERS, INDEX, NAMES, TYPED, Runbook, unprinted

#: How many lines are for machines that the tests have not, and all of the others are typed.
ELSEWHERE_LINES = 21
#: A page for a tired person.
MOST_LINES = 125
HEADINGS = {
    "en": ("What you see", "What to do", "How you know it is done"),
    "pt_BR": ("O que se vê", "O que fazer", "Como saber que terminou"),
}
CONTACTS = {"en": "**Contacts**: ", "pt_BR": "**Contatos**: "}
PAGES = [(name, language) for name in NAMES for language in FOLDERS]
#: The pages of several causes have a heading for each instead.
CAUSES = ("database-backup-fails", "bucket-backup-fails", "restore-fails")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_the_same_commands_and_quotes_in_both_languages(name: str) -> None:
    english, portuguese = (Runbook.read(name, language) for language in ("en", "pt_BR"))
    assert portuguese.commands == english.commands
    assert portuguese.elsewhere == english.elsewhere
    assert portuguese.quotes == english.quotes
    assert len(portuguese.sections) == len(english.sections)


def test_both_languages_have_the_same_pages() -> None:
    for folder in FOLDERS.values():
        assert sorted(page.stem for page in folder.glob("*.md")) == sorted([*NAMES, INDEX])


@pytest.mark.parametrize("language", FOLDERS)
def test_the_index_leads_to_every_page_and_to_no_other(language: str) -> None:
    text = (FOLDERS[language] / f"{INDEX}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+ \| \[([\w-]+)\.md\]\(\1\.md\) \|$", text, re.MULTILINE)
    assert sorted(rows) == NAMES


@pytest.mark.parametrize(("name", "language"), PAGES)
def test_a_page_is_short_and_has_its_parts(name: str, language: str) -> None:
    page = Runbook.read(name, language)
    assert len(page.text.splitlines()) <= MOST_LINES
    headings = [section.partition("\n")[0] for section in page.sections[1:]]
    seen, do, done = HEADINGS[language]
    assert done in headings
    if name in CAUSES:
        assert len(headings) == 4
        assert [one for one in page.sections[1:4] if "\n> " not in one] == []
    else:
        assert headings[0] == seen
        assert name == "lost-key" or headings[1] == do
    assert CONTACTS[language] in page.text
    assert page.commands[0].startswith("set -a; . /etc/pgben/") or name == "everything-lost"


@pytest.mark.parametrize(("name", "language"), PAGES)
def test_every_code_block_says_whether_it_is_typed(name: str, language: str) -> None:
    page = Runbook.read(name, language)
    assert set(page.kinds) <= {TYPED, ELSEWHERE}
    assert len(page.kinds) * 2 == len(re.findall(r"^ *```", page.text, re.MULTILINE))
    # A block that is made by its indentation would be typed by nobody.
    assert re.findall(r"^    .*", page.text, re.MULTILINE) == []


def test_what_is_not_typed_is_for_machines_that_no_test_has() -> None:
    lines = [line for name in NAMES for line in Runbook.read(name).elsewhere]
    assert len(lines) == ELSEWHERE_LINES
    programs = {line.split()[0] for line in lines}
    assert programs == {"age-keygen", "apt-get", "kubectl", "systemctl"}


@pytest.mark.parametrize(("name", "language"), PAGES)
def test_every_word_in_capitals_of_a_command_is_one_that_readers_know(
    name: str, language: str
) -> None:
    page = Runbook.read(name, language)
    for line in [*page.commands, *page.elsewhere]:
        plain = re.sub(r"'[^']*'", "", line)
        assert {*re.findall(r"\b[A-Z]{2,}\b", plain)} <= {*WORDS, "DER"}, line


def test_words_are_the_same_in_english_and_after_translation() -> None:
    assert in_english("pgben undo TRABALHO --confirm NOME") == "pgben undo JOB --confirm NAME"
    assert in_english("PGBEN_DB_HOST=HOST") == "PGBEN_DB_HOST=HOST"


def test_a_quote_that_is_not_printed_is_noticed() -> None:
    shown = "error: the spool '/a' has 12 bytes free, the dump\nstate      verified\n"
    assert unprinted(["the spool '…' has … bytes free", "state verified"], shown) == []
    lost = ["the spool '…' is full", "free, … verified", "the spools"]
    assert unprinted(lost, shown) == lost


def test_blocks_and_quotes_below_a_step_are_found() -> None:
    page = Runbook.parse(
        "# One\n\n## What\n\n1. Do\n\n   ```sh\n   pgben list\n   ```\n\n   > said … so\n\n"
        "```sh elsewhere\nreboot\n```\n"
    )
    assert page.commands == ["pgben list"]
    assert page.elsewhere == ["reboot"]
    assert page.quotes == ["said … so"]
    assert page.only(0).commands == []
