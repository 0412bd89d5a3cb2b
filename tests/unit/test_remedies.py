"""Commands that bring something back are typed into a shell as they are shown."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.cli.commands import points
from pgben_tasks.cli.view import remedies
from pgben_tasks.domain.references import Fault
from pgben_tasks.domain.states import State

BACKUP = "20261123T050000Z-1f0c9a"


@given(key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_command_is_one_printable_line_whatever_the_key(key: str) -> None:
    command = remedies.restore_of_object("papers", BACKUP, key)
    assert command.isprintable()
    if key.isprintable():
        assert shlex.split(command)[-1] == f"--key={key}"


def test_plain_keys_are_not_quoted() -> None:
    assert remedies.restore_of_object("papers", BACKUP, "a/b.jpg") == (
        f"pgben restore bucket/papers --backup {BACKUP} --in-place --confirm papers --key=a/b.jpg"
    )


@pytest.mark.parametrize(
    ("state", "option"), [(State.DAMAGED, "--damaged"), (State.UNVERIFIED, "--unverified")]
)
def test_what_a_restore_must_be_told_is_in_the_command(state: State, option: str) -> None:
    command = remedies.restore_of_object("papers", BACKUP, "a", state=state)
    assert f" --backup {BACKUP} {option} " in command
    assert all(one.needs_permission == (one in {State.DAMAGED, State.UNVERIFIED}) for one in State)


def test_a_key_that_no_line_can_hold_comes_back_by_a_command_on_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault = Fault(kind="missing", bucket="papers", key="a\nb", reference="r", backup="ID")
    one: Any = SimpleNamespace(id="ID", faults=1)
    points._show_faults(one, iter([fault]))
    assert "--confirm papers $'--key=a\\x0ab'`\n" in capsys.readouterr().err
