"""Every step of every chain has its operation, the very one that its task runs."""

from __future__ import annotations

from typing import Any

import pytest

import pgben_tasks.tasks  # noqa: F401 - registers the tasks
from pgben_tasks import canvases
from pgben_tasks.app import app
from pgben_tasks.contracts import JSON
from pgben_tasks.operations.chains import OPERATIONS, Operation

STEPS = sorted({name for chain in canvases.CHAINS.values() for name, _ in chain})


class Stand:
    """Stands where a task stands when its body runs, and notes what the body asks for."""

    def step(self, raw: JSON, body: Operation, **_options: Any) -> JSON:
        self.body = body
        return raw


@pytest.mark.parametrize("name", STEPS)
def test_a_step_in_one_process_is_what_its_task_runs(name: str) -> None:
    stand = Stand()
    app.tasks[name].run.__func__(stand, {})
    assert OPERATIONS[name] is stand.body


def test_there_is_no_operation_without_a_step() -> None:
    assert sorted(OPERATIONS) == STEPS
