"""The exec wrapper every child of pgben starts through; it runs as a script, never imported.

``python -I -S process_exec.py <parent pid> <program> <argument>…`` asks the kernel to kill this
process when the thread that started it ends (the setting survives ``exec``), makes sure that the
parent was still there, and becomes the program. Nothing but the standard library may be used.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: ``PR_SET_PDEATHSIG`` of linux/prctl.h.
_PR_SET_PDEATHSIG = 1

#: What a shell answers for a program that cannot be started.
CANNOT_START = 127


def main(argv: list[str]) -> None:
    """Tie this process to its parent's life and become the program of ``argv[2:]``."""
    parent, command = int(argv[1]), argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        # The parent died before the kernel knew that its death matters to us.
        os._exit(CANNOT_START)
    # Python ignores these two, and an ignored signal stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execv(command[0], command)  # noqa: S606  # No shell is wanted: this is an exec.
    except OSError as exc:
        sys.stderr.write(f"cannot start {command[0]}: {exc.strerror}\n")
        sys.stderr.flush()
        os._exit(CANNOT_START)


if __name__ == "__main__":
    main(sys.argv)
