"""The store of results, corrected: failures say what to do, and progress never hides an end.

Any Celery client reads what is written here: a failure has Celery's own fields and, beside them,
``sentence``, ``hint`` and ``code`` for services that are not written in Python. No traceback is
stored. ``app`` names this store for ``redis://`` URLs; it is loaded with the first use.
"""

from __future__ import annotations

from typing import Any, Final

from celery import states
from celery.backends.redis import RedisBackend
from redis import WatchError

from pgben_tasks.domain.failures import as_public_error
from pgben_tasks.errors import PgbenError

PROGRESS: Final = "PROGRESS"
#: States that stand until the task is sent again.
ENDS: Final = frozenset({states.SUCCESS, states.FAILURE, states.REVOKED})
#: Of a job that has begun, these say less than its progress.
_BETWEEN_STEPS: Final = frozenset({states.STARTED, states.RETRY})
#: Where Celery's own errors are defined: a lost worker, a time limit, an unknown task.
_CELERYS: Final = ("celery.", "billiard.")
#: Writers of one key are a step and whoever ends it, so a second try nearly always does.
_TRIES: Final = 5


class Results(RedisBackend):  # type: ignore[misc]  # Celery has no types for it
    """Celery's store of results in Redis, with errors for every reader and a job's progress."""

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """Return an error as JSON: Celery's fields, and ``sentence``, ``hint`` and ``code``.

        A stranger's message may hold anything, so of an error that is not ours only its type is
        told.
        """
        shown = exc
        if isinstance(exc, Exception) and not type(exc).__module__.startswith(_CELERYS):
            shown = as_public_error(exc)
        prepared = super().prepare_exception(shown, serializer)
        if not isinstance(prepared, dict):
            return prepared
        ours = shown if isinstance(shown, PgbenError) else PgbenError(str(shown))
        return {
            **prepared,
            "sentence": ours.sentence,
            "hint": ours.hint,
            "code": type(shown).__name__,
        }

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,  # noqa: ARG002 - the worker's log has it
        request: Any = None,
        **more: Any,
    ) -> Any:
        """Store a state without a traceback; progress stays until the job's end."""
        if state in _BETWEEN_STEPS and self._stored_state(task_id) == PROGRESS:
            return result
        return super()._store_result(task_id, result, state, None, request=request, **more)

    def store_progress(self, task_id: str, progress: dict[str, Any]) -> bool:
        """Store how far a job is, unless it has ended; return whether it was stored.

        Whoever ends the job meanwhile wins: the state is compared and written in one transaction.
        """
        key = self.get_key_for_task(task_id)
        meta = self._get_result_meta(progress, PROGRESS, None, None)
        value = self.encode({**meta, "children": [], "task_id": task_id})
        for _ in range(_TRIES):
            with self.client.pipeline() as pipe:
                pipe.watch(key)
                if self._state_of(pipe.get(key)) in ENDS:
                    return False
                pipe.multi()
                self._write(pipe, key, value, self.expires)
                try:
                    pipe.execute()
                except WatchError:
                    continue
                return True
        return False

    def _set(self, key: str, value: Any, expires: int | None = None) -> None:
        """Store a value, and tell who waits for it; Celery's own uses an old command of Redis."""
        with self.client.pipeline() as pipe:
            self._write(pipe, key, value, self.expires if expires is None else expires)
            pipe.execute()

    @staticmethod
    def _write(pipe: Any, key: str, value: Any, expires: int | None) -> None:
        pipe.set(key, value, ex=expires or None)
        pipe.publish(key, value)

    def _stored_state(self, task_id: str) -> str:
        return self._state_of(self.get(self.get_key_for_task(task_id)))

    def _state_of(self, stored: Any) -> str:
        return str(self.decode(stored)["status"]) if stored else states.PENDING
