"""Ask for work: the ledger's row first, then the message, then follow it. Exit codes of jobs.md."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import os
import pwd
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from pgben_tasks.cli.view import outcome, output
from pgben_tasks.cli.view.follow import Follower
from pgben_tasks.domain.job import EVERYTHING, Job, JobKind
from pgben_tasks.errors import ConfigurationError, PgbenError, RequestRefused, TransientError

if TYPE_CHECKING:
    from pgben_tasks.contracts import Request
    from pgben_tasks.runtime import Workplace

#: The word for every target in the job's key.
_EVERYTHING_IN_KEY = "everything"
#: How long, in seconds, writing and sending jobs goes on after Ctrl-C: as long as a server may be
#: silent. A machine that is busy takes more than one second to send a job.
_GRACE_SECONDS: Final = 4.0
#: The kinds of jobs that --direct can do, without catalog, broker and workers.
_DIRECT = frozenset({"restore", "verify"})


def requester() -> str:
    """Return the person at the terminal: ``<user>@<host>``."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # Containers run as users that no passwd file knows.
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"[:200]


def enqueue_and_follow(
    work: Workplace,
    kind: JobKind,
    wanted: Sequence[tuple[str, dict[str, Any]]],
    *,
    wait: bool,
    as_json: bool,
) -> int:
    """Enqueue one job per (target, request) and, with ``wait``, follow them; return the exit code.

    Requests are checked before anything is written. When the broker is away, the rows stay: the
    reconciler publishes them as soon as it is back.
    """
    for target, fields in wanted:
        parse_request(kind, target, fields)
    jobs: list[Job] = []
    try:
        with _hardly_interrupted():
            unsent = submit(work, kind, wanted, jobs)
    except KeyboardInterrupt:
        return _interrupted(jobs, as_json=as_json)
    if unsent is not None:
        return _left_to_the_reconciler(jobs, unsent, as_json=as_json)
    if not wait:
        return _left_to_the_workers(jobs, as_json=as_json)
    return follow(work, jobs, as_json=as_json)


def follow(work: Workplace, jobs: Sequence[Job], *, as_json: bool) -> int:
    """Follow jobs to their end and show how they ended; return the exit code."""
    follower = Follower(work, jobs)
    try:
        ended = follower.run()
    except KeyboardInterrupt:
        return _interrupted(follower.jobs, as_json=as_json)
    if as_json:
        output.print_json({"jobs": follower.documents()})
    else:
        for job in ended:
            show_end(job, work)
    return outcome.worst_code(outcome.exit_code(job) for job in ended)


def show_end(job: Job, work: Workplace) -> None:
    """Show an ended job: its tables on stdout, its error on stderr."""
    output.show(outcome.job_tables(job, zone=work.zone))
    if job.error is not None:
        output.complain(str(job.error.get("sentence", "")), str(job.error.get("hint", "")))
    elif job.kind == "point" and job.result.get("suspect"):
        output.hint(f"`pgben points {job.result['point']}` shows what was found")
    elif job.result.get("suspect"):
        output.hint(
            "the backup is kept and can be restored by its id, but it is not counted as good "
            "until somebody has looked at it"
        )
    elif job.result.get("after_swap_failed"):
        output.hint(
            "the databases were swapped; start again what was stopped for that, by hand or with "
            "the command of PGBEN_AFTER_SWAP"
        )
    if job.retry_at is not None:
        output.say(f"the next attempt begins at {output.moment(job.retry_at, work.zone)}")


def parse_request(kind: str, target: object, fields: dict[str, Any]) -> Request:
    """Return the request for what was typed; raise ``ConfigurationError`` when it cannot be one.

    Asked by another program the same is a refusal; at a terminal it is wrong usage.
    """
    from pgben_tasks.contracts import request_model

    try:
        return request_model(kind, target).parse(fields)
    except RequestRefused as exc:
        sentence = exc.sentence.removeprefix("the request is malformed: ")
        raise ConfigurationError(
            sentence, f"`pgben {kind} --help` shows what goes together"
        ) from exc


def submit(
    work: Workplace, kind: JobKind, wanted: Sequence[tuple[str, dict[str, Any]]], jobs: list[Job]
) -> PgbenError | None:
    """Write every job, add it to ``jobs``, then send every message.

    Stop sending at the first that is not taken, and return why.
    """
    from pgben_tasks.client import Client
    from pgben_tasks.contracts import request_model

    who = requester()
    requests = []
    for target, fields in wanted:
        name = _EVERYTHING_IN_KEY if target == EVERYTHING else target
        key = f"{kind}:{name}:{uuid4().hex}"
        asked = {**fields, "requested_by": who, "idempotency_key": key}
        requests.append((target, key, request_model(kind, target).parse(asked)))
    for target, key, request in requests:
        job, _ = work.ledger.request(
            kind,
            target=target,
            key=key,
            request=request.model_dump(mode="json"),
            requested_by=who,
        )
        jobs.append(job)
    client = Client(work.settings.redis_url.get_secret_value())
    for job, (_, _, request) in zip(jobs, requests, strict=True):
        try:
            client.send(kind, request)
        except (ConfigurationError, TransientError) as exc:
            return exc
        work.ledger.postpone(job.id)
    return None


@contextmanager
def _hardly_interrupted() -> Iterator[None]:
    """Delay a Ctrl-C to the end of the block, but hardly longer than somebody would wait.

    So no job's row is written without its message, unless a server is silent; then the reconciler
    sends it. Pressed again, it ends the block at once.
    """
    pressed: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)
        signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note), signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
    except TransientError as exc:
        if pressed:
            raise KeyboardInterrupt from exc
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGALRM, before[1])
    if pressed:
        raise KeyboardInterrupt


def _interrupted(jobs: Sequence[Job], *, as_json: bool) -> int:
    """Write which jobs go on after Ctrl-C; return the exit code."""
    for job in jobs:
        if not job.ended:
            output.say(
                f"job {job.id} goes on; `pgben jobs --follow {outcome.short_id(job)}` follows it"
            )
    if as_json:
        output.print_json({"jobs": [outcome.job_document(job) for job in jobs]})
    return outcome.INTERRUPTED


def _left_to_the_reconciler(jobs: Sequence[Job], unsent: PgbenError, *, as_json: bool) -> int:
    names = ", ".join(str(job.id) for job in jobs)
    sentence = (
        f"{unsent.sentence}; job {names} is written, and the reconciler publishes it when the "
        "broker is back"
    )
    hint = _with_direct(
        "check that Redis runs at PGBEN_REDIS_URL; do not ask again, `pgben jobs` shows the job",
        jobs[0].kind,
    )
    if as_json:
        error = {"type": type(unsent).__name__, "sentence": sentence, "hint": hint}
        output.print_json({"error": error, "jobs": [outcome.job_document(job) for job in jobs]})
    else:
        output.complain(sentence, hint)
    return unsent.exit_code


def _with_direct(hint: str, kind: str) -> str:
    """Add to a hint how the same is done without catalog, broker and workers, where it can be."""
    if kind not in _DIRECT:
        return hint
    return f"{hint}; `pgben {kind} … --direct` needs neither catalog nor Redis nor workers"


def _left_to_the_workers(jobs: Sequence[Job], *, as_json: bool) -> int:
    if as_json:
        output.print_json({"jobs": [outcome.job_document(job) for job in jobs]})
        return outcome.DONE
    for job in jobs:
        output.out().print(str(job.id), markup=False)
        output.hint(f"`pgben jobs --follow {outcome.short_id(job)}` follows it")
    return outcome.DONE
