"""Ask what a restore would bring back: a worker, which has the keys and the servers, or here."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgben_tasks.cli.view import output, plan as view
from pgben_tasks.errors import PgbenError, RequestRefused, TransientError

if TYPE_CHECKING:
    from pgben_tasks.direct.place import DirectPlace
    from pgben_tasks.runtime import Workplace

#: How long, in seconds, a worker's answer is waited for.
_PATIENCE: Final = 60.0


def ask(work: Workplace | DirectPlace, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the plan of a restore as ``contracts.PlanRequest`` asks, as plain JSON.

    Raises what the plan raises, and ``TransientError`` when no restore worker answers.
    """
    from pgben_tasks.runtime import Workplace

    if not isinstance(work, Workplace):
        return _here(work, fields)
    if not has_worker(work):
        raise TransientError(
            "no restore worker is running, and only such a one knows what stands in the way",
            "start one: `python -m workers restore`; `--direct` looks from this machine",
        )
    from celery.exceptions import TimeoutError as NoAnswer

    from pgben_tasks.client import Client

    client = Client(work.settings.redis_url.get_secret_value())
    result = client.plan(expires=_PATIENCE, **fields)
    try:
        answer: dict[str, Any] = result.get(timeout=_PATIENCE)
    except NoAnswer as exc:
        raise TransientError(
            f"no restore worker has answered within {_PATIENCE:.0f} s",
            "all of them may be at work; `pgben jobs` shows it; `--direct` looks from this machine",
        ) from exc
    finally:
        result.forget()
    return answer


def show_first(
    work: Workplace | DirectPlace, fields: dict[str, Any], *, in_place: bool
) -> dict[str, Any] | None:
    """Write the plan of the restore that is about to be asked for, on stderr; return it.

    A plan that cannot be made stops no restore: whatever is wrong, that will say so itself. A
    catalog that does not answer stops it here: it would not take the job either.
    """
    from pgben_tasks.runtime import Workplace

    if isinstance(work, Workplace) and not has_worker(work):
        output.say("no restore worker is running, so there is no plan to show", style="yellow")
        return None
    try:
        found = ask(work, fields)
    except (PgbenError, RequestRefused) as exc:
        output.say(f"there is no plan to show: {output.as_typed(exc.sentence)}", style="yellow")
        return None
    view.show(found, work.zone, in_place=in_place, console=output.err())
    return found


def has_worker(work: Workplace) -> bool:
    """Return whether a worker that restores sends heartbeats."""
    return any(name.startswith("restore.") for name in work.workers.living())


def _here(place: DirectPlace, fields: dict[str, Any]) -> dict[str, Any]:
    from pgben_tasks.contracts import PlanRequest
    from pgben_tasks.domain.target import Target
    from pgben_tasks.operations.points.plan import plan

    request = PlanRequest.parse(fields)
    targets = () if request.target is None else (Target.parse(request.target),)
    with place.tools(*targets) as tools:
        return plan(request, tools).to_json()
