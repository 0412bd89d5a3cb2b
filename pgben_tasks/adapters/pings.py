"""Pings over HTTP. The URL is a secret: no error repeats it."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from typing import Final

from pgben_tasks.errors import ConfigurationError, PgbenError, TransientError

#: Seconds for a connection, and for an answer.
TIMEOUT: Final = 5.0

_REFUSED: Final = range(400, 500)
#: Too many requests, and a request that took too long: another time they are taken.
_LATER: Final = frozenset({408, 429})


def send_ping(url: str, text: str) -> None:
    """Send one ping with a short text.

    Raises ``ConfigurationError`` when the server does not know the URL, else ``TransientError``.
    """
    request = urllib.request.Request(  # noqa: S310 - the settings take http and https only
        url,
        data=text.encode(),
        method="POST",
        headers={"Content-Type": "text/plain; charset=utf-8", "User-Agent": "pgben"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310 - as above
            pass
    except urllib.error.HTTPError as exc:
        exc.close()
        raise _refused(exc.code) from None
    except (http.client.HTTPException, OSError, ValueError) as exc:
        # What these say may repeat the URL.
        inner = getattr(exc, "reason", exc)
        why = "its certificate is not trusted" if _untrusted(inner) else type(inner).__name__
        raise TransientError(
            f"the server of PGBEN_HEARTBEAT_URL does not answer: {why}",
            "look at the host of that URL, the server and the network",
        ) from None


def _untrusted(error: object) -> bool:
    return isinstance(error, ssl.SSLCertVerificationError)


def _refused(code: int) -> PgbenError:
    if code in _REFUSED and code not in _LATER:
        return ConfigurationError(
            f"the server of PGBEN_HEARTBEAT_URL does not take a ping: status {code}",
            "with 404 it has no such check: make one for each kind, or let the URL make them",
        )
    return TransientError(
        f"the server of PGBEN_HEARTBEAT_URL takes no ping now: status {code}",
        "look at that server",
    )
