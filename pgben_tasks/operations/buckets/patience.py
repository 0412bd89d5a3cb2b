"""Doing one thing with each of many objects, on a server or a network that fails at times.

What fails in passing is tried again, after the others. As long as anything goes well that has no
end; a server of which nothing went well for a whole period is given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from time import monotonic, sleep
from typing import Final, TypeVar

import structlog

from pgben_tasks.errors import StoreUnavailable

log = structlog.get_logger(__name__)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Seconds before objects are tried again; twice as long each time when none of them went well.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0


class Stuck(Exception):
    """Objects failed again and again while others went well; ``error`` is of one of them."""

    def __init__(self, objects: int, error: StoreUnavailable) -> None:
        """Keep how many ``objects`` are left, and the ``error`` of one of them."""
        super().__init__(objects, error)
        self.objects = objects
        self.error = error


def require_all(results: Sequence[_Result | StoreUnavailable]) -> list[_Result]:
    """Return the results; raises ``Stuck`` where some are errors."""
    errors = [one for one in results if isinstance(one, StoreUnavailable)]
    if errors:
        raise Stuck(len(errors), errors[-1])
    return [one for one in results if not isinstance(one, StoreUnavailable)]


class Patience:
    """Tries again what fails, by what one step knows of a server: when anything went well."""

    def __init__(self, period: timedelta, *, at_once: int, check: Callable[[], None]) -> None:
        """Set after which ``period`` without a success errors are raised.

        ``at_once`` is how many threads work on the objects; ``check`` raises when work must end.
        """
        self._at_once = at_once
        self._period = period.total_seconds()
        self._check = check
        self._began = self._went_well = monotonic()
        self._excused_since: float | None = None

    def each(
        self,
        pool: ThreadPoolExecutor,
        do: Callable[[_Item], _Result],
        items: Iterable[_Item],
    ) -> list[_Result]:
        """Do something with every item, some at a time; return the results in their order.

        ``do`` must bear to be called again after it raised ``StoreUnavailable``, which is raised in
        the end; any other error is raised at once.
        """
        return [result for _, result in sorted(self._all(pool, do, items)[0].items())]

    def each_possible(
        self,
        pool: ThreadPoolExecutor,
        do: Callable[[_Item], _Result],
        items: Iterable[_Item],
        *,
        answers: Callable[[], bool],
    ) -> list[_Result | StoreUnavailable]:
        """Do as ``each``, and return the errors of a few that fail although the server ``answers``.

        That is at most half of them, or a single one, and not twice while nothing goes well.
        """
        results, errors = self._all(pool, do, items, answers)
        return [result for _, result in sorted((results | errors).items())]

    def _all(
        self,
        pool: ThreadPoolExecutor,
        do: Callable[[_Item], _Result],
        items: Iterable[_Item],
        answers: Callable[[], bool] | None = None,
    ) -> tuple[dict[int, _Result], dict[int, StoreUnavailable]]:
        """Return results, and the errors of those items that are at fault themselves."""
        left = dict(enumerate(items))
        few = max(1, len(left) // 2) if answers else 0
        results: dict[int, _Result] = {}
        pause = _FIRST_PAUSE
        # Fetching a pack may take longer than the period; nothing was tried meanwhile.
        self._began = monotonic()
        while True:
            done, errors = self._round(pool, do, left, few)
            results |= done
            if errors and self._is_over():
                # So few are left that it may be their own fault.
                self._require_answers(errors, answers)
                return results, errors
            if not errors:
                return results, {}
            pause = _FIRST_PAUSE if done else min(2 * pause, _LONGEST_PAUSE)
            left = {number: left[number] for number in errors}
            log.info("objects_tried_again", objects=len(left))
            sleep(pause)

    def _round(
        self,
        pool: ThreadPoolExecutor,
        do: Callable[[_Item], _Result],
        items: Mapping[int, _Item],
        few: int,
    ) -> tuple[dict[int, _Result], dict[int, StoreUnavailable]]:
        """Try every item once; return the results, and the errors of those that failed.

        Raises the error where nothing goes well any more and more than a ``few`` are left.
        """
        results: dict[int, _Result] = {}
        errors: dict[int, StoreUnavailable] = {}
        left = deque(items.items())

        def work() -> None:
            while True:
                try:
                    number, item = left.popleft()
                except IndexError:
                    return
                try:
                    results[number] = do(item)
                except StoreUnavailable as exc:
                    errors[number] = exc
                    if self._is_over() and len(items) - len(results) > few:
                        raise
                else:
                    self._went_well = monotonic()
                self._check()

        # One for each thread, and not for each item: handing over costs as much as a small request.
        running = [pool.submit(work) for _ in range(min(len(items), self._at_once))]
        try:
            for ended in as_completed(running):
                ended.result()
        finally:
            left.clear()
            for one in running:
                one.cancel()
        return results, errors

    def _is_over(self) -> bool:
        return monotonic() - max(self._began, self._went_well) >= self._period

    def _require_answers(
        self, errors: Mapping[int, StoreUnavailable], answers: Callable[[], bool] | None
    ) -> None:
        """Raise one of the errors unless the server answers, and nothing was excused just so."""
        if answers is None or self._excused_since == self._went_well or not answers():
            raise next(iter(errors.values()))
        self._excused_since = self._went_well
