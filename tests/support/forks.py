"""Ask the server of ``tests.support.commands`` for one command line; as a program, be that command.

Only of the standard library, because the program is started for every command that a shell types.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO

LENGTH: Final = 8


def ask(connection: socket.socket, request: Mapping[str, Any], files: Sequence[int]) -> TextIO:
    """Ask for a command whose output goes to ``files``; return where its answers can be read.

    The first line is its process id, the second how it ended.
    """
    body = json.dumps(request).encode()
    socket.send_fds(connection, [len(body).to_bytes(LENGTH)], files)
    connection.sendall(body)
    return connection.makefile("r", encoding="ascii")


def _be(address: str, arguments: Sequence[str]) -> int:
    request = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": str(os.getcwd()),  # noqa: PTH109 - pathlib would take longer than the rest
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        answers = ask(connection, request, [1, 2])
        answers.readline()
        return os.waitstatus_to_exitcode(int(answers.readline()))


if __name__ == "__main__":
    sys.exit(_be(sys.argv[1], sys.argv[2:]))
