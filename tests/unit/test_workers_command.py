"""`python -m workers`: what its help names, and what it says of a wrong role."""

from __future__ import annotations

import pytest

from pgben_tasks.errors import ConfigurationError
from workers.__main__ import PROCESSES, ROLES, command, main, parse


def test_the_help_has_a_line_for_every_role_within_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    first = [line.split(maxsplit=1)[0] for line in lines if line.startswith("  ")]
    assert [*ROLES, "beat", "flower", "metrics"] == list(PROCESSES)
    assert first[: len(PROCESSES)] == list(PROCESSES)


@pytest.mark.parametrize("role", PROCESSES)
def test_flags_after_a_role_go_to_celery_as_they_are(role: str) -> None:
    given = ["--loglevel=DEBUG", "--conf=/etc/x"]
    assert parse([role, *given]) == (role, given)
    assert command(role, given)[-2:] == given


@pytest.mark.parametrize(
    ("given", "sentence", "hint"),
    [
        ([], "no role was given", "the roles are backup, restore, verify, maintenance, all, beat"),
        (["bakcup"], "there is no role 'bakcup'", "did you mean 'backup'? the roles are backup, "),
        (["--loglevel=INFO"], "no role was given", "the roles are "),
    ],
)
def test_a_wrong_role_is_refused_with_a_list_of_the_roles(
    given: list[str], sentence: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse(given)
    assert refused.value.sentence == sentence
    assert refused.value.hint.startswith(hint)


def test_a_wrong_role_ends_as_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["workers", "bakcup"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: there is no role 'bakcup'\nHINT: ")
