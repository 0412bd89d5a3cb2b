"""The manual page: made from the commands, current, and well formed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.support import manual_page
from tests.support.needs import needs

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pgben.1"


def test_the_page_is_the_one_that_the_commands_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == manual_page.page(), "`make man` writes it anew"


def test_the_page_has_every_command_with_its_options_and_examples() -> None:
    text = manual_page.page()
    assert '.SS "pgben catalog rebuild"' in text
    restore = text.partition('.SS "pgben restore"')[2].partition("\n.SS")[0]
    assert r"\fB\-\-backup\fR \fIID|latest\fR" in restore
    assert "Default: latest." in restore
    assert r"pgben restore pgben \-\-at \(aq2026\-11\-22 14:30\(aq" in restore
    assert r"\-\-swap" not in restore, "what --help hides"


def test_the_page_and_the_runbook_know_the_same_exit_codes() -> None:
    runbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = runbook.partition("## Exit codes")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == set(
        manual_page.EXIT_CODES
    )


def test_what_a_formatter_would_take_for_its_own_is_escaped() -> None:
    assert manual_page.roff("[cyan]. 'a\\b' --x…[/cyan]") == r"\&. \(aqa\eb\(aq \-\-x\[u2026]"


@needs("mandoc")
def test_mandoc_finds_no_fault() -> None:
    done = run("mandoc", "-Tlint", str(PAGE))
    # A date would have to be changed by hand.
    assert [line for line in done.splitlines() if "missing date" not in line] == []


@needs("groff")
def test_groff_warns_of_nothing() -> None:
    assert run("groff", "-man", "-ww", "-Tutf8", "-z", str(PAGE)) == ""


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr
