"""The command ``pgben``, also as ``python -m pgben_tasks``.

A service that only asks for work installs pgben without the packages of the command line.
"""

from __future__ import annotations

import sys

from pgben_tasks.cli.invocation import UNKNOWN, asks_for_check


def main() -> int:
    """Run the command line; say what to install where its packages are not there."""
    try:
        from pgben_tasks.cli.main import main as run  # noqa: PLC0415 - it may not be installed
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] == "pgben_tasks":
            raise
        sys.stderr.write(
            f"pgben: the command line needs the package '{exc.name}', which is not installed\n"
            "HINT: pip install 'pgben-tasks[worker]'; services that only ask for work use "
            "pgben_tasks.client\n"
        )
        # `check` answers monitoring systems: nothing but a judgement may look like one.
        return UNKNOWN if asks_for_check(sys.argv[1:]) else 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
