"""Hosts in settings: names, addresses and folders of sockets, with nothing beside them.

Only the text is looked at; whether such a host exists is seen when it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Annotated, Final

from pydantic import AfterValidator

#: Signs that no host name has: a URL, a user, a list or a variable that nobody replaced.
_NEVER: Final = re.compile(r"""[\s\x00-\x1f\x7f"#$%&'()*,/:;<=>?@\[\\\]^`{|}]""")
_WITH_PORT: Final = re.compile(r"(?:\[[^\]]*\]|[\w.-]+):\d*")
#: The longest part of a name between its dots (RFC 1035, 2.3.4).
_LONGEST_LABEL: Final = 63
#: What libpq takes for a list, an abstract socket or a connection string.
_NOT_IN_A_FOLDER: Final = re.compile(r"[=@,?\s]|://")
#: The name of the socket itself, which libpq completes by the port.
_SOCKET: Final = re.compile(r"/\.s\.PGSQL\.\d+/?$")


def names_host(text: str) -> bool:
    """Return whether ``text`` can be the name or the address of a server."""
    if _is_address(text):
        return True
    labels = text.removesuffix(".").split(".")
    return not _NEVER.search(text) and all(0 < len(one) <= _LONGEST_LABEL for one in labels)


def host_check(*, port: str, or_folder: bool = False) -> Callable[[str], str]:
    """Return a check of a server's name or address, or of a socket's folder.

    ``port`` is the setting that the port belongs in.
    """

    def checked(value: str) -> str:
        if or_folder and value.startswith("/") and not _NOT_IN_A_FOLDER.search(value):
            if _SOCKET.search(value):
                message = "must be the folder of the socket, not the socket itself"
                raise ValueError(message)
            return value
        _require_alone(value, port)
        if not names_host(value):
            message = (
                "must be a host name, an address or the folder of a socket"
                if or_folder
                else "must be a host name or an address"
            )
            raise ValueError(message)
        return value

    return checked


def _require_alone(value: str, port: str) -> None:
    if _is_address(value):
        return
    if _WITH_PORT.fullmatch(value):
        raise ValueError(f"must be a host alone: its port belongs in {port}")
    if value.startswith("[") and value.endswith("]") and _is_address(value[1:-1]):
        message = "must be an IPv6 address without brackets"
        raise ValueError(message)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


DatabaseHost = Annotated[str, AfterValidator(host_check(port="PGBEN_DB_PORT", or_folder=True))]
MailHost = Annotated[str, AfterValidator(host_check(port="PGBEN_SMTP_PORT"))]
#: A host in the file of PGBEN_SERVERS_FILE.
ServerHost = Annotated[str, AfterValidator(host_check(port="'port'", or_folder=True))]
