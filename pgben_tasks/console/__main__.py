"""Starts the console: ``python -m workers flower`` and ``python -m pgben_tasks.console``."""

from __future__ import annotations

import sys

from pgben_tasks.errors import PgbenError


def main() -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code."""
    try:
        # Celery's application reads its broker's address when it is imported.
        from pgben_tasks.console.server import serve  # noqa: PLC0415

        return serve(sys.argv[1:])
    except PgbenError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
