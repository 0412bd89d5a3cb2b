"""Every step of every chain has its operation and its task, and chains differ where they should."""

from __future__ import annotations

import pytest

import pgben_tasks.tasks  # noqa: F401 - registers the tasks
from pgben_tasks import canvases, names
from pgben_tasks.app import app
from pgben_tasks.operations.chains import STEPS, STEPS_OF_CHAIN, step_of
from pgben_tasks.operations.postgres import restore, swap

STEPS_OF_ALL_CHAINS = sorted({name for chain in canvases.CHAINS.values() for name, _ in chain})


def test_there_is_no_operation_without_a_step() -> None:
    assert sorted(STEPS) == STEPS_OF_ALL_CHAINS
    for chain, name in STEPS_OF_CHAIN:
        assert name in [step for step, _ in canvases.CHAINS[chain]]


@pytest.mark.parametrize("name", STEPS_OF_ALL_CHAINS)
def test_every_step_has_a_task_that_says_what_it_does(name: str) -> None:
    assert app.tasks[name].__doc__ == STEPS[name].operation.__doc__


def test_a_swap_selects_and_finishes_in_its_own_way() -> None:
    for name, plain, swapping in (
        (names.RESTORE_POSTGRES_SELECT, restore.select, swap.select),
        (names.RESTORE_POSTGRES_FINISH, restore.finish, swap.finish),
    ):
        assert step_of("restore", name).operation is plain
        assert step_of("swap", name).operation is swapping
        assert step_of("swap", name).locks == step_of("restore", name).locks
