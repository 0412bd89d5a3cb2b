"""Logging: one configuration for pgben, Celery and every other library.

JSON where logs are collected, readable lines in a terminal. Every entry passes the redaction
before it is written. No handlers, formats or levels are set anywhere else.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from pgben_tasks.redaction import HIDDEN, names_a_secret, redact

#: Nothing that is logged nests deeper; what does is written as text.
_DEPTH: Final = 8


def configure(
    *, json: bool | None = None, level: int | str | None = None, stream: TextIO | None = None
) -> None:
    """Send everything at ``level`` (INFO by default) and above to ``stream`` (standard error).

    ``json`` None means: JSON unless the stream is a terminal. Replaces what was configured before.
    """
    stream = sys.stderr if stream is None else stream
    as_json = not stream.isatty() if json is None else json
    # What Celery adds to its records (arguments, tracebacks of the expected) stays out: our own
    # entries say it, and an argument may be anything.
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                hide_secrets,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if level is None else level)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def hide_secrets(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Hide fields with the names of secrets, and what looks like a secret inside any text."""
    return {name: _shown(name, value, _DEPTH) for name, value in entry.items()}


def _shown(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if names_a_secret(name):
        return HIDDEN
    if isinstance(value, int | float):
        return value
    if depth and isinstance(value, Mapping):
        return {str(key): _shown(str(key), one, depth - 1) for key, one in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_shown("", one, depth - 1) for one in value]
    return redact(value if isinstance(value, str) else str(value))
