"""The API for services that speak HTTP: the public entry tasks, and what became of them.

Its addresses and answers are those of Flower's API. Everything else of Flower that would start,
change or stop something is denied for everybody.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import structlog
from celery import states
from tornado.web import HTTPError

from pgben_tasks import canvases, names
from pgben_tasks.console.handlers import Handler, status_of
from pgben_tasks.contracts import (
    REQUESTS,
    TASK_REQUESTS,
    Request,
    check_same_job,
    request_model,
)
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.errors import ConfigurationError, PgbenError, RequestRefused, TransientError
from pgben_tasks.results import PROGRESS

log = structlog.get_logger(__name__)

#: The kind of job of every entry task that begins one.
KINDS: Final[Mapping[str, str]] = {
    canvases.entry(kind, target)[0]: kind
    for kind in REQUESTS
    for target in ("postgres/any", "bucket/any")
}
#: How long a caller is kept waiting for an end, by default and at most.
_LONGEST_WAIT: Final = 8 * 3600.0
_WAIT: Final = 3600.0
#: Seconds between two looks whether a job has ended.
_LOOK_EVERY: Final = 0.5
#: How keys of scheduled windows end (``domain.job.window_key``).
_WINDOW_KEY: Final = re.compile(r":\d{4}-\d\d-\d\dT\d\d:\d\dZ$")
_READ_ONLY: Final = (
    "Flower's own pages are read-only here: nobody stops workers or tasks past the ledger"
)


class ApiHandler(Handler):
    """Base of what programs are answered: JSON, also for errors."""

    @property
    def wants_json(self) -> bool:
        """Yes: programs ask."""
        return True

    @property
    def needs_token(self) -> bool:
        """Whether the session of a browser sent this.

        A browser may remember name and password as well; then the body has to be declared as JSON,
        which no form of another site can.
        """
        return self.request.headers.get("Authorization") is None

    def answer(self, document: Mapping[str, Any], status: int = HTTPStatus.OK) -> None:
        """Write a JSON document."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.finish(json.dumps(document, ensure_ascii=False, default=str) + "\n")

    def outcome_of(self, task_id: str) -> dict[str, Any]:
        """Return what became of a task; blocks. ``TransientError`` when its store is away."""
        return outcome(task_id, self.shared.facts.client.outcome(task_id))

    def refuse(self, error: PgbenError, status: int | None = None) -> None:
        """Answer with an error of ours."""
        self.answer({"error": error_document(error)}, status or status_of(error))

    def write_error(self, status_code: int, **named: Any) -> None:
        """Answer an error as JSON, where it is not about the login."""
        error = (named.get("exc_info") or (None, None, None))[1]
        if isinstance(error, PgbenError):
            self.refuse(error)
        elif status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}:
            super().write_error(status_code, **named)
        else:
            sentence = HTTPStatus(status_code).phrase.lower()
            self.answer(
                {"error": {"code": "HTTPError", "sentence": sentence, "hint": ""}}, status_code
            )


class ReadOnly(ApiHandler):
    """Stands before everything of Flower that changes something."""

    def post(self, *_: str) -> None:
        """Refuse it."""
        error = RequestRefused(
            _READ_ONLY, "docs/flower.md says which tasks may be started, and how"
        )
        self.refuse(error, HTTPStatus.FORBIDDEN)

    get = put = delete = patch = post


class Apply(ApiHandler):
    """Starts an entry task: ``async-apply`` answers with its id, ``apply`` with its end."""

    async def post(self, way: str, name: str) -> None:
        """Check the request, send it and answer."""
        if name not in names.ENTRY_TASKS and name not in names.READ_ONLY_TASKS:
            error = RequestRefused(
                "no public task has this name", "docs/tasks.md lists the tasks of services"
            )
            self.refuse(error, HTTPStatus.NOT_FOUND)
            return
        if name in names.ENTRY_TASKS and not self.visitor.may_operate:
            error = RequestRefused(
                f"'{self.visitor.name}' may watch, and '{name}' starts or changes something",
                "use a login that may operate",
            )
            self.refuse(error, HTTPStatus.FORBIDDEN)
            return
        try:
            fields, wait = self._read_body()
            task_id = await self._send(name, fields)
        except (RequestRefused, TransientError, ConfigurationError) as exc:
            self.refuse(exc)
            return
        log.info("asked", user=self.visitor.name, task=name, way=way)
        if way == "async-apply":
            self.answer({"task-id": task_id, "state": states.PENDING})
            return
        self.answer(await self._end_of(task_id, wait))

    def _read_body(self) -> tuple[dict[str, Any], float]:
        """Return the fields of the request, and how long its end is waited for."""
        hint = "send a JSON object, with the header Content-Type: application/json"
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestRefused("the body is not declared as JSON", hint)
        try:
            body = json.loads(self.request.body)
        except (ValueError, RecursionError):
            raise RequestRefused("the body is no JSON", hint) from None
        if not isinstance(body, dict):
            raise RequestRefused("the body is no JSON object", hint)
        try:
            wait = float(body.pop("timeout", self.get_query_argument("timeout", str(_WAIT))))
        except (TypeError, ValueError, OverflowError):
            wait = math.nan
        if not math.isfinite(wait):
            raise RequestRefused("`timeout` is no number of seconds", "leave it out")
        return request_fields(body), min(max(wait, 0), _LONGEST_WAIT)

    async def _send(self, name: str, fields: dict[str, Any]) -> str:
        """Send the request and return the id to wait on; a key that has a job already is that."""
        shared = self.shared
        asked = {**fields, "requested_by": self.visitor.name}
        client = shared.facts.client
        if name in TASK_REQUESTS:
            return str((await shared.run(client.ask, name, asked, _WAIT)).id)
        kind = KINDS[name]
        request = request_model(kind, fields.get("target")).parse(asked)
        entry, _queue = canvases.entry(kind, getattr(request, "target", None))
        if entry != name:
            raise RequestRefused(f"'{name}' is not for this target", f"ask the task '{entry}'")
        if _WINDOW_KEY.search(request.idempotency_key or ""):
            raise RequestRefused(
                "the idempotency key looks like one of a scheduled window",
                "give the request a key of its own, or ask with `scheduled`",
            )
        known = await shared.run(self._known, kind, request)
        if known is not None:
            return known
        return str((await shared.run(client.send, kind, request)).id)

    def _known(self, kind: str, request: Request) -> str | None:
        """Return the id that callers of a job wait on, where its key has one already.

        Raises ``RequestRefused`` when it is the key of another job.
        """
        key = request.idempotency_key
        job = None if key is None else self.shared.facts.by_key(key)
        if job is None:
            return None
        check_same_job(job, kind, getattr(request, "target", None) or EVERYTHING, request)
        return job.root_task

    async def _end_of(self, task_id: str, wait: float) -> dict[str, Any]:
        """Return what became of a task, after ``wait`` seconds at the latest.

        It was sent: a store that is away for a moment is asked again.
        """
        until = time.monotonic() + wait
        found: dict[str, Any] = {"task-id": task_id, "state": states.PENDING}
        while True:
            with suppress(TransientError):
                found = await self.shared.run(self.outcome_of, task_id)
            left = until - time.monotonic()
            if found["state"] in states.READY_STATES or left <= 0 or self._gone:
                return found
            await asyncio.sleep(min(_LOOK_EVERY, left))

    @property
    def _gone(self) -> bool:
        """Whether whoever asked does not wait any more."""
        return self.request.connection is None or self.request.connection.stream.closed()  # type: ignore[attr-defined]  # HTTP/1 has a stream

    def get(self, *_: str) -> None:
        """Refuse it: what starts something is sent by POST."""
        raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED)


class Result(ApiHandler):
    """What became of a task: its state, how far it is, and its result or its error."""

    async def get(self, task_id: str) -> None:
        """Answer at once."""
        self.answer(await self.shared.run(self.outcome_of, task_id))


def request_fields(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request from a body: itself, or what Flower's API calls arguments.

    Options of Celery beside them, such as ``queue`` and ``link``, are dropped. Raises
    ``RequestRefused`` when there is no request.
    """
    if "args" not in body and "kwargs" not in body:
        return body
    args = [] if body.get("args") is None else body["args"]
    named = {} if body.get("kwargs") is None else body["kwargs"]
    if not isinstance(args, list) or not isinstance(named, dict) or len(args) > 1:
        raise RequestRefused(
            "`args` is no list of one request, or `kwargs` is no object",
            "send the request itself, or one of the two with it",
        )
    if set(named) == {"request"}:
        args, named = [*args, named["request"]], {}
    if args and named:
        raise RequestRefused("both `args` and `kwargs` have a request", "give one of the two")
    found = args[0] if args else named
    if not isinstance(found, dict):
        raise RequestRefused("the request is no JSON object", "docs/tasks.md shows one of each")
    return found


def outcome(task_id: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what programs are told of a task, from what the store of results has."""
    state, value = meta["status"], meta.get("result")
    found: dict[str, Any] = {"task-id": task_id, "state": state}
    if state == PROGRESS:
        found["progress"] = value
    elif state == states.SUCCESS:
        found["result"] = value
    elif state in states.EXCEPTION_STATES:
        error = value if isinstance(value, PgbenError) else PgbenError(str(value))
        found["error"] = error_document(error, code=type(value).__name__)
    return found


def error_document(error: PgbenError, code: str | None = None) -> dict[str, str]:
    """Return an error as programs read it."""
    return {
        "code": code or type(error).__name__,
        "sentence": error.sentence,
        "hint": error.hint,
    }
