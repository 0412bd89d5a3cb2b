"""How a worker describes the tasks that it has, to whoever asks: Flower, `celery inspect`."""

from __future__ import annotations

from typing import Any

from celery.worker import request


class ShownRequest(request.Request):
    """A request whose description has the arguments as events show them, never as they are."""

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002
        """Return the description; Celery's own holds all arguments unless it is asked not to."""
        found: dict[str, Any] = super().info(safe=True)
        return found
