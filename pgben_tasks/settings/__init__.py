"""The only reader of the environment.

``redis_url`` is all that the Celery application needs, and loads nothing else; ``Settings`` brings
the whole model and is loaded when first asked for, because it costs a client service 80 ms and
packages of the worker.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from pgben_tasks.settings.broker import redis_url
from pgben_tasks.settings.sources import require_settings

if TYPE_CHECKING:
    from pgben_tasks.settings.model import Row, Settings
    from pgben_tasks.settings.servers import Server

__all__ = ["Row", "Server", "Settings", "redis_url", "require_settings"]

_HOMES: Final = {"Row": "model", "Server": "servers", "Settings": "model"}


def __getattr__(name: str) -> object:
    """Load the model when one of its names is first used (PEP 562)."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
