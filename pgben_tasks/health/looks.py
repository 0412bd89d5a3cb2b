"""Questions that are asked at the same time, each waited for only so long.

What accepts a connection and then says nothing would keep its asker for minutes. Each question has
a thread of its own that keeps no process from ending: whoever asked leaves it behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any, Generic, TypeVar

from pgben_tasks.domain.outlook import Fault
from pgben_tasks.errors import PgbenError, TransientError

T = TypeVar("T")


class Look(Generic[T]):
    """One question, asked at once; ``what`` names, in quotes, who is asked."""

    def __init__(self, what: str, ask: Callable[[], T]) -> None:
        """Begin to ask."""
        self._what = what
        self._ask = ask
        self._begun = monotonic()
        self._ended = threading.Event()
        self._answer: list[T] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name=f"look at {what}", daemon=True).start()

    def _run(self) -> None:
        try:
            self._answer.append(self._ask())
        except BaseException as exc:  # noqa: BLE001 - raised again where the answer is wanted
            self._error = exc
        finally:
            self._ended.set()

    @property
    def silent(self) -> bool:
        """Whether the answer has not come yet."""
        return not self._ended.is_set()

    def answer(self, limit: timedelta) -> T:
        """Return the answer, or raise what was raised instead.

        Raises ``TransientError`` when it does not come within ``limit``, counted from the question.
        """
        seconds = limit.total_seconds()
        if not self._ended.wait(max(seconds - (monotonic() - self._begun), 0)):
            raise TransientError(
                f"'{self._what}' did not answer within {seconds:.0f} s",
                "see whether it hangs, and whether something on the way drops what is sent",
            )
        if self._error is not None:
            raise self._error
        return self._answer[0]

    def outcome(self, limit: timedelta) -> T | Fault:
        """Return the answer, or why there is none."""
        try:
            return self.answer(limit)
        except PgbenError as exc:
            return Fault(exc.sentence, exc.hint)
        except OSError as exc:
            return Fault(system_error(exc).sentence)


#: What was asked by ``ask_once`` and has not been answered, by its name.
_unanswered: dict[str, Look[Any]] = {}


def ask_once(what: str, ask: Callable[[], T], *, within: timedelta) -> T | Fault:
    """Ask in a thread of its own, unless it still waits for the answer of before; return it.

    For what is asked again and again, and may hang each time.
    """
    before = _unanswered.get(what)
    if before is not None and before.silent:
        return Fault(f"'{what}' still does not answer", "see whether it hangs")
    look = Look(what, ask)
    _unanswered[what] = look
    return look.outcome(within)


def system_error(exc: OSError) -> PgbenError:
    """Return what the operating system refused as an error of ours."""
    return PgbenError(f"{exc.strerror or exc}".lower())
