"""Whatever Apprise knows: chats, telephones, webhooks, by one URL each.

Such a URL is a secret as a whole. No error, log or name here repeats one: a channel is named by its
scheme, and by its host where that is a server of the network.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from pgben_tasks.errors import ConfigurationError, TransientError
from pgben_tasks.ports import Mail

#: Seconds for one connection, and for one answer.
TIMEOUT: Final = 10.0
#: Where a URL names no server, a token may stand in the place of its host; a host of the network
#: has a point or a port.
_HOST: Final = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|\[[0-9A-Fa-f:]+\]|localhost")
#: Loggers that would write URLs, or the path of requests with what is secret in it.
_TALKATIVE: Final = {"apprise": logging.CRITICAL + 1, "urllib3.connectionpool": logging.INFO}


class AppriseChannel:
    """One service that Apprise sends to."""

    def __init__(self, name: str, service: Any) -> None:
        """Send through a loaded ``service``."""
        self.name = name
        self._service = service

    def __repr__(self) -> str:
        """Name it; the URL is not repeated."""
        return f"AppriseChannel({self.name!r})"

    def send(self, mail: Mail) -> tuple[str, ...]:
        """Send a message in brief; raises ``TransientError`` when the service did not take it.

        Apprise says no more than that; what it logs would repeat the URL.
        """
        import apprise  # noqa: PLC0415 - heavy, and only where such channels are set

        _silence()
        sender = apprise.Apprise(asset=_asset(apprise))
        sender.add(self._service)
        taken = sender.notify(
            title=mail.subject,
            body=mail.brief or mail.body,
            notify_type=apprise.NotifyType.WARNING,
            body_format=apprise.NotifyFormat.TEXT,
        )
        if not taken:
            raise TransientError(
                f"the channel '{self.name}' did not take the message",
                "look at its URL in PGBEN_ALERT_URLS, at the service and at the network; "
                "`pgben alarms --test` tries it",
            )
        return ()


def apprise_channels(
    urls: Iterable[str], *, timeout: float = TIMEOUT
) -> tuple[AppriseChannel, ...]:
    """Return a channel for each URL; nothing is contacted. ``timeout`` is in seconds.

    Raises ``ConfigurationError`` for a URL that Apprise cannot use, named by its place only.
    """
    every = list(urls)
    if not every:
        return ()
    try:
        import apprise  # noqa: PLC0415 - heavy, and only where such channels are set
    except ImportError as exc:
        raise ConfigurationError(
            "PGBEN_ALERT_URLS is set, and the package that sends to such URLs is not installed",
            "install pgben-tasks with its extra 'report', which brings 'apprise'",
        ) from exc
    _silence()
    services = []
    for number, url in enumerate(every, start=1):
        with warnings.catch_warnings():
            # The first one loads all services that Apprise knows, old ones as well.
            warnings.simplefilter("ignore", DeprecationWarning)
            service = apprise.Apprise.instantiate(
                url, asset=_asset(apprise), suppress_exceptions=True
            )
        if not isinstance(service, apprise.NotifyBase):
            raise ConfigurationError(
                f"the URL number {number} of PGBEN_ALERT_URLS is none that Apprise can send to",
                "its page about the service shows how the URL is written; separate URLs by white "
                "space",
            )
        service.socket_connect_timeout = service.socket_read_timeout = timeout
        if service.overflow_mode == apprise.OverflowMode.UPSTREAM:
            # A message that is cut is better than one that is refused for its length.
            service.overflow_mode = apprise.OverflowMode.TRUNCATE
        services.append(service)
    return tuple(
        AppriseChannel(name, service)
        for name, service in zip(_names(services), services, strict=True)
    )


def _names(services: Iterable[Any]) -> list[str]:
    seen: Counter[str] = Counter()
    names = []
    for service in services:
        name = _name(service)
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return names


def _name(service: Any) -> str:
    host = service.host if "host" in service.template_tokens else None
    if not host or not (service.port or _HOST.fullmatch(host)):
        return str(service.schema)
    where = f"{host}:{service.port}" if service.port else host
    return f"{service.schema}://{where}"


def _asset(library: Any) -> Any:
    # One service in one thread: what bounds it is around it.
    return library.AppriseAsset(app_id="pgben", app_desc="pgben", async_mode=False)


def _silence() -> None:
    for name, level in _TALKATIVE.items():
        logging.getLogger(name).setLevel(level)
