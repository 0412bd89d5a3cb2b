"""Parts that are made when they are first used, for work that may go on without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")


class _Later:
    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


def later(make: Callable[[], T]) -> T:
    """Return what stands for ``make()``: whatever fails, fails where the part is first used."""
    return cast("T", _Later(make))
