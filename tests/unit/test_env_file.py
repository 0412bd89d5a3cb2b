"""Claims about files of settings: they mean what a shell makes of them, or are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.settings.env_file import load_file, parse
from pgben_tasks.setup.initialise import lines

HARD = {
    "PGBEN_SPACES": "  two  words\t",
    "PGBEN_SINGLE": "it's '' here",
    "PGBEN_DOUBLE": 'a "quoted" word',
    "PGBEN_DOLLAR": "$HOME ${HOME} $(id) `id`",
    "PGBEN_HASH": "#not a comment # at all",
    "PGBEN_EQUALS": "a=b==c",
    "PGBEN_BACKSLASH": "\\n \\\\ \\",
    "PGBEN_SIGNS": "!&|;<>()*?[]{}~^%,:@/+-_.",
    "PGBEN_WORDS": "Zé; ze@example.org; +55 85 5555",
    "PGBEN_EMPTY": "",
    "PGBEN_LINES": "one\ntwo",
}
#: Written by hand, in the ways that people and other programs write such files.
BY_HAND = r"""
# a comment
PGBEN_BARE=postgresql://ana:p%40ss@db:5432/catalog?sslmode=require#x
export PGBEN_EXPORTED='exported'   # a comment behind it
    PGBEN_INDENTED=yes
PGBEN_QUOTED="a \"b\" \\ \$HOME \x 'c'"
PGBEN_JOINED=one" two "'$three'\ four
PGBEN_NOTHING=
PGBEN_ONE='a b'  PGBEN_TWO=2	PGBEN_THREE=   # three on one line
PGBEN_TWICE=first
PGBEN_TWICE=second
PGBEN_LAST=last"""
PRINTED = """
import json, os
print(json.dumps({k: v for k, v in os.environ.items() if k.startswith("PGBEN_")}))
"""


def as_the_shell_has_it(text: str, folder: Path) -> dict[str, str]:
    file = folder / "shell.env"
    file.write_text(text, "utf-8")
    ran = subprocess.run(
        ["sh", "-c", f"set -a; . {file}; set +a; exec {sys.executable} -c '{PRINTED}'"],
        env={"PATH": os.environ["PATH"], "HOME": "/root", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    found: dict[str, str] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("text", [lines(HARD), BY_HAND], ids=["written", "by hand"])
def test_a_file_means_what_a_shell_makes_of_it(text: str, tmp_path: Path) -> None:
    assert parse(text, Path("x")) == as_the_shell_has_it(text, tmp_path)


def test_every_value_that_init_writes_comes_back() -> None:
    assert parse(lines(HARD), Path("x")) == HARD


@given(st.dictionaries(st.sampled_from(sorted(HARD)), st.text(min_size=1, max_size=20)))
@settings(max_examples=50)
def test_whatever_is_written_is_read(environment: dict[str, str]) -> None:
    environment = {name: text.replace("\0", "") for name, text in environment.items()}
    assert parse(lines(environment), Path("x")) == environment


@pytest.mark.parametrize(
    "line",
    [
        "PGBEN_DB_PASS=$SECRET",
        'PGBEN_DB_PASS="${SECRET}"',
        "PGBEN_DB_PASS=`cat secret`",
        "PGBEN_DB_PASS=secret word",
        "PGBEN_DB_PASS=a secret=word",
        "PGBEN_DB_PASS=secret;id",
        "PGBEN_DB_PASS='secret",
        "PGBEN_DB_PASS=secret\\",
        "PGBEN_DB_PASS=~/secret",
        "PGBEN_DB_PASS=secret\r",
        "PGBEN_DB_PASS = secret",
        "PGBEN_DB_PASS: secret",
        "secret",
    ],
)
def test_a_line_of_which_a_shell_makes_more_is_refused_and_not_repeated(line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(f"# one\nPGBEN_LINES='two\nlines'\n{line}\n", Path("pgben.env"))
    assert caught.value.sentence.startswith("line 4 of 'pgben.env' cannot be read")
    assert "secret" not in str(caught.value).lower().replace("may hold a secret", "")


def test_another_programs_setting_is_named_and_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse("PGBEN_DB_NAME=pgben\nLD_PRELOAD=/x\n", Path("/etc/app.env"))
    assert caught.value.sentence == (
        "line 2 of '/etc/app.env' sets 'LD_PRELOAD', which is not a setting of pgben"
    )
    assert "`set -a; . /etc/app.env; set +a`" in caught.value.hint


def test_a_file_with_a_secret_that_all_may_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGBEN_DB_NAME", "PGBEN_DB_PASS"):
        # Put back at the end of the test.
        monkeypatch.setenv(name, "environment")
    file = tmp_path / "pgben.env"
    file.write_text("PGBEN_DB_NAME=pgben\n", "utf-8")
    file.chmod(0o644)
    load_file(file)
    assert os.environ["PGBEN_DB_NAME"] == "pgben"
    file.write_text("PGBEN_DB_NAME=other\nPGBEN_DB_PASS=hunter2\n", "utf-8")
    with pytest.raises(ConfigurationError, match=r"holds PGBEN_DB_PASS .*mode 0644") as caught:
        load_file(file)
    assert f"chmod 600 {file}" in caught.value.hint
    assert "hunter2" not in str(caught.value)
    assert os.environ["PGBEN_DB_NAME"] == "pgben"
    file.chmod(0o640)
    load_file(file)
    assert os.environ["PGBEN_DB_PASS"] == "hunter2"


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * 1_100_000])
def test_what_is_no_file_of_settings_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "pgben.env"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=str(file)):
        load_file(file)
