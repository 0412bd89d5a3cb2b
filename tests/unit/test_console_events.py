"""What Flower keeps of events: no personal data, no failure twice, no worker that is none."""

from __future__ import annotations

from typing import Any

import pytest

from pgben_tasks.console.events import MaskedState, masked_event, masked_tasks, shown

pytestmark = pytest.mark.unit

CANARY = "529.982.247-25"
JOB = "3f0c9a2b-1111-4222-8333-444444444444"
REQUEST = {
    "target": "bucket/pgben-documents",
    "backup": "20261123T050000Z-1f0c9a",
    "keys": [f"{CANARY}/rg.jpg"],
    "prefix": CANARY,
    "reason": f"asked for by {CANARY}",
    "requested_by": CANARY,
}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
def test_arguments_show_target_job_and_backup_only(whole: bool) -> None:
    text = repr((REQUEST,))
    found = shown(text if whole else text[:160])
    assert "target=bucket/pgben-documents" in found
    assert CANARY not in found


@pytest.mark.parametrize(
    "text",
    [
        f"({{'target': '{CANARY}'}},)",
        f"({{'target': 'postgres/{CANARY} x'}},)",
        f"({{'job': '{CANARY}'}},)",
        f"({{'state': '{CANARY}', 'backup': '{CANARY}'}},)",
        f"('{CANARY}',)",
        f"{{'keys': [\"'target': '{CANARY}'\"]}}",
    ],
)
def test_a_value_that_is_no_target_or_job_is_not_shown(text: str) -> None:
    assert CANARY not in shown(text)


def test_events_and_answers_of_workers_are_masked() -> None:
    event = {
        "type": "task-received",
        "args": repr((REQUEST,)),
        "kwargs": repr(REQUEST),
        "result": repr({"job": JOB, "result": REQUEST}),
        "traceback": CANARY,
    }
    assert CANARY not in str(masked_event(event))
    answer = [{"request": {"args": [REQUEST], "kwargs": REQUEST, "id": JOB}}, {"args": [REQUEST]}]
    masked = masked_tasks(answer)
    assert CANARY not in str(masked)
    assert masked[0]["request"]["id"] == JOB


def event(kind: str, clock: int, **fields: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": "root",
        "hostname": "all@node",
        "timestamp": 1.0,
        "local_received": 1.0,
        "clock": clock,
        "pid": 1,
        **fields,
    }


@pytest.fixture
def state() -> MaskedState:
    return MaskedState(max_tasks_in_memory=100)


def failures(state: MaskedState) -> int:
    return sum(counter["task-failed"] for counter in state.counter.values())


def test_a_failed_job_counts_once_and_both_rows_are_red(state: MaskedState) -> None:
    state.event(event("task-received", 1, name="pgben.backup.postgres"))
    state.event(event("task-received", 2, uuid="step", name="pgben.backup.postgres.dump"))
    state.event(event("task-failed", 3, uuid="step", exception="X()", traceback=""))
    state.event(event("task-failed", 4, exception="X()", traceback="", root=True))
    assert failures(state) == 1
    assert (state.tasks["root"].state, state.tasks["step"].state) == ("FAILURE", "FAILURE")


def test_whoever_cancels_from_elsewhere_is_no_worker(state: MaskedState) -> None:
    state.event(event("task-received", 1, name="pgben.backup.postgres"))
    state.event(event("task-failed", 2, hostname="pgben", exception="X()", root=True))
    assert set(state.workers) == {"all@node"}
    assert state.tasks["root"].state == "FAILURE"
    assert failures(state) == 0
    # What nobody has begun has no row to turn red.
    state.event(event("task-failed", 3, uuid="unknown", hostname="pgben", exception="X", root=True))
    assert set(state.workers) == {"all@node"}
