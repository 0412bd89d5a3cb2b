"""The commands about jobs: jobs, jobs retry, cancel."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pgben_tasks.cli import arguments
from pgben_tasks.cli.ask import enqueue
from pgben_tasks.cli.ask.installation import open_workplace
from pgben_tasks.cli.options import AsJson, Wide, examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.domain.job import Job, unrepeatable
from pgben_tasks.errors import (
    ConfigurationError,
    RequestRefused,
    TransientError,
)

if TYPE_CHECKING:
    from pgben_tasks.runtime import Workplace

app = typer.Typer()

#: The word before a job that asks for a new attempt of it; no job's id begins so.
RETRY: Final = "retry"

JOBS_EXAMPLES = examples(
    ("pgben jobs", "the newest jobs"),
    ("pgben jobs 1f0c9a2b", "one job with its steps; the beginning of its id is enough"),
    ("pgben jobs --follow", "follow everything that runs until nothing runs any more"),
    ("pgben jobs retry 1f0c9a2b", "begin a failed or cancelled job again at once"),
    ("pgben jobs retry 1f0c9a2b --follow", "the same, and wait for its end"),
)
CANCEL_EXAMPLES = examples(
    ("pgben cancel 1f0c9a2b", "cancel a job; the beginning of its id is enough"),
    ("pgben cancel 1f0c9a2b --json", "the same for scripts: exit 0 means that it is cancelled"),
)


@app.command(epilog=JOBS_EXAMPLES)
def jobs(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[retry] JOB",
            help="A job's id, or its beginning; with 'retry' before it: begin that job again.",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Follow to the end; the exit code is the job's.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many to show.")] = 20,
    wide: Wide = False,
    as_json: AsJson = False,
) -> int:
    """Show jobs: asked for, running, ended; or begin a failed or cancelled one again."""
    again, job = asked(words or [])
    if job is not None:
        arguments.parse_job(job)
    work = open_workplace()
    if again:
        return _retry(work, work.ledger.find(job or ""), follow=follow, as_json=as_json)
    if follow:
        chosen = [work.ledger.find(job)] if job else work.ledger.jobs(limit=limit, open_only=True)
        if not chosen:
            output.say("nothing runs")
        return enqueue.follow(work, chosen, as_json=as_json)
    if job is not None:
        return _show_job(work, work.ledger.find(job), wide=wide, as_json=as_json)
    found = work.ledger.jobs(limit=limit)
    swaps = work.swaps.states(found)
    if as_json:
        documents = [outcome.job_document(one, swap=swaps.get(one.id)) for one in found]
        output.print_json({"jobs": documents})
    elif found:
        shown = outcome.jobs_table(found, work.zone, wide=output.is_wide(wide), swaps=swaps)
        output.show([shown], wide=wide)
    else:
        output.say("there are no jobs yet")
    return outcome.DONE


@app.command(epilog=CANCEL_EXAMPLES)
def cancel(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or its beginning.")],
    as_json: AsJson = False,
) -> int:
    """Cancel a job: a waiting one at once, a running one within seconds."""
    from pgben_tasks.runtime.cancel import STOPS, cancel_job, remains

    work = open_workplace()
    before = work.ledger.find(arguments.parse_job(job))
    cancelled, untold = cancel_job(work, before, who=enqueue.requester())
    if untold is not None:
        output.say(
            f"{untold.sentence}, so a caller that waits for this job's result does not know yet"
        )
    if as_json:
        output.print_json({"jobs": [outcome.job_document(cancelled)]})
        return outcome.DONE
    output.say(f"job {cancelled.id} is cancelled")
    left = remains(work, before)
    if left.replaced:
        named = ", ".join(f"'{one}'" for one in left.replaced)
        output.say(f"it has replaced {named}, and that stays")
        output.hint(left.way_back)
    if before.state == "running":
        output.hint(STOPS)
    return outcome.DONE


def asked(words: Sequence[str]) -> tuple[bool, str | None]:
    """Read what was typed after `pgben jobs`: whether to begin again, and which job."""
    match list(words):
        case []:
            return False, None
        case [job] if job != RETRY:
            return False, job
        case [first, job] if first == RETRY:
            return True, job
        case _:
            raise ConfigurationError(
                "the jobs command takes one job, or 'retry' and one job",
                "`pgben jobs --help` shows examples; `pgben jobs` lists the jobs",
            )


def _retry(work: Workplace, job: Job, *, follow: bool, as_json: bool) -> int:
    queued = retry_job(work, job)
    if follow:
        return enqueue.follow(work, [queued], as_json=as_json)
    if as_json:
        output.print_json({"jobs": [outcome.job_document(queued)]})
        return outcome.DONE
    output.say(f"job {queued.id} is queued again")
    output.hint(f"`pgben jobs --follow {outcome.short_id(queued)}` follows it")
    return outcome.DONE


def _show_job(work: Workplace, job: Job, *, wide: bool, as_json: bool) -> int:
    steps, swaps = work.ledger.steps(job.id), work.swaps.states([job])
    if as_json:
        output.print_json({"jobs": [outcome.job_document(job, steps, swap=swaps.get(job.id))]})
        return outcome.DONE
    shown = [outcome.jobs_table([job], work.zone, wide=output.is_wide(wide), swaps=swaps)]
    if steps:
        shown.append(outcome.step_table(steps, work.zone))
    output.show(shown, wide=wide)
    if job.ended:
        enqueue.show_end(job, work)
    return outcome.DONE


def retry_job(work: Workplace, job: Job) -> Job:
    """Queue a failed or cancelled ``job`` for a new attempt, under its key and window.

    Raises ``RequestRefused`` for any other, and when the request itself was the fault. A broker
    that is away is not a failure: the reconciler sends the message as soon as it is back.
    """
    from pgben_tasks.client import Client
    from pgben_tasks.contracts import request_model

    why = unrepeatable(job)
    if why is None:
        request = request_model(job.kind, job.target).parse(job.request_again)
        if not work.ledger.queue_again(job.id):
            why = f"job '{job.id}' was begun again by somebody else"
    if why is not None:
        raise RequestRefused(why, "`pgben jobs` shows it; ask for a new job instead")
    work.audit(job, result="queued again", who=enqueue.requester())
    try:
        Client(_broker(work)).send(job.kind, request, task_id=job.root_task)
    except (ConfigurationError, TransientError) as exc:
        output.say(f"{exc.sentence}; the reconciler sends it when the broker is back")
    else:
        work.ledger.postpone(job.id)
    return work.ledger.job(job.id)


def _broker(work: Workplace) -> str:
    return work.settings.redis_url.get_secret_value()
