"""Serves the console, from flags, settings and the file of users.

Flags are Flower's, where they fit a console that is read-only and has logins of its own.
"""

from __future__ import annotations

import difflib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

import structlog
from flower.command import apply_env_options, extract_settings
from tornado.ioloop import IOLoop
from tornado.options import Error as OptionError, options, parse_command_line, parse_config_file

from pgben_tasks import log as logs
from pgben_tasks.adapters.accounts import Accounts
from pgben_tasks.app import create_app
from pgben_tasks.console.access import FileLogins, FlowerLogins, Logins, is_loopback
from pgben_tasks.console.application import Console
from pgben_tasks.console.facts import Facts
from pgben_tasks.console.handlers import Shared
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.settings import Settings

log = structlog.get_logger(__name__)

_LAST_PORT: Final = 65_535
#: Where it listens unless a flag says otherwise.
_ADDRESS: Final = "127.0.0.1"
#: Flags that this console has no use for, and what to use in their place.
_NOT_HERE: Final = {
    "auth": "users stand in the file of PGBEN_CONSOLE_USERS_FILE",
    "auth_provider": "users stand in the file of PGBEN_CONSOLE_USERS_FILE",
    "oauth2_key": "users stand in the file of PGBEN_CONSOLE_USERS_FILE",
    "oauth2_secret": "users stand in the file of PGBEN_CONSOLE_USERS_FILE",
    "oauth2_redirect_uri": "users stand in the file of PGBEN_CONSOLE_USERS_FILE",
    "persistent": "what Flower shows is kept in memory only; jobs are kept in the catalog",
    "unix_socket": "let a proxy reach it by an address of this machine",
    "format_task": "arguments of tasks are masked already",
    "debug": "the console's log says what went wrong; `--loglevel=DEBUG` makes it say more",
}


def serve(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code.

    Raises ``ConfigurationError`` when it cannot be started so.
    """
    level = read_flags(arguments)
    logs.configure(level=level)
    # Requests may hold what people typed.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    console = build(Settings.load())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        port = console.start_http_server()
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or exc
        raise ConfigurationError(
            f"'{options.address}:{options.port}' cannot be listened on: {why}",
            "give another `--port` or `--address`, or end what uses it; files of `--certfile` and "
            "`--keyfile` must be there",
        ) from exc
    log.info("console_listens", address=options.address, port=port, prefix=console.shared.prefix)
    try:
        console.start()
    except (KeyboardInterrupt, SystemExit):
        pass
    finally:
        console.stop()
    return 0


def read_flags(arguments: Sequence[str]) -> str:
    """Read Flower's options from the environment, its file and the command line.

    Returns the level of the log. Raises ``ConfigurationError`` for what is none, or not for here.
    """
    level = "INFO"
    flags = []
    for one in arguments:
        name, equals, value = one.partition("=")
        if name in {"--loglevel", "-l"} and equals:
            level = value.upper()
        elif name in {"--help", "-h"}:
            flags.append("--help")
        elif name.replace("_", "-") == "--basic-auth":
            raise ConfigurationError(
                "every user of this machine can read a password among the arguments",
                "make users with `pgben console user add NAME`",
            )
        else:
            _require_flag(one)
            flags.append(one)
    options.address = _ADDRESS
    # Tornado would configure logging by itself.
    options.logging = "none"
    try:
        apply_env_options()
        parse_command_line(["flower", *flags], final=False)
        _read_file(options.conf)
        parse_command_line(["flower", *flags])
    except (OptionError, KeyError, ValueError, TypeError) as exc:
        raise ConfigurationError(
            f"an option of Flower is wrong: {exc}", "docs/flower.md says which there are"
        ) from exc
    for name, remedy in _NOT_HERE.items():
        if getattr(options, name):
            raise ConfigurationError(f"the option '{name}' has no place here", remedy)
    if not 0 <= options.port <= _LAST_PORT:
        raise ConfigurationError(
            f"'{options.port}' is no port", f"ports are 0 to {_LAST_PORT}; 0 takes a free one"
        )
    if level not in logging.getLevelNamesMapping():
        raise ConfigurationError(
            f"'{level}' is no level of a log", "write `--loglevel=INFO`, WARNING or DEBUG"
        )
    return level


def build(settings: Settings) -> Console:
    """Return the console for these settings and the options that were read."""
    logins = _logins(settings)
    if logins is None and not is_loopback(options.address):
        raise ConfigurationError(
            f"no login is set up, and '{options.address or '0.0.0.0'}' can be reached by others",  # noqa: S104 - it is refused
            "make users with `pgben console user add NAME --operate` and set "
            "PGBEN_CONSOLE_USERS_FILE, or leave `--address` out",
        )
    if logins is None:
        log.warning("console_has_no_login", hint="whoever reaches it may watch, nobody may operate")
    prefix = f"/{options.url_prefix.strip('/')}" if options.url_prefix else ""
    extract_settings()
    shared = Shared(facts=Facts(settings), logins=logins, prefix=prefix)
    app = create_app(settings.redis_url.get_secret_value())
    app.set_current()
    return Console(options, app, shared, io_loop=IOLoop.current())


def _logins(settings: Settings) -> Logins | None:
    """Return the logins of the users' file, or else those of Flower's own option."""
    if settings.console_users_file is not None:
        accounts = Accounts(settings.console_users_file)
        if not accounts.all():
            raise ConfigurationError(
                f"'{settings.console_users_file}' has no user",
                "add one with `pgben console user add NAME --operate`",
            )
        return FileLogins(accounts)
    return FlowerLogins(options.basic_auth) if options.basic_auth else None


def _require_flag(flag: str) -> None:
    """Raise ``ConfigurationError`` unless a flag is one of Flower's."""
    name = flag.partition("=")[0].lstrip("-").replace("_", "-")
    known = sorted({"loglevel", *(one.replace("_", "-") for one in options)})
    if flag.startswith("-") and name in known and name != "loglevel":
        return
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean `--{near[0]}`? " if near else ""
    raise ConfigurationError(
        f"'{flag.partition('=')[0]}' is no flag of the console",
        f"{meant}flags are written like `--port=5556`",
    )


def _read_file(path: str) -> None:
    """Read Flower's file of options, where there is one."""
    if not os.path.exists(path):  # noqa: PTH110 - Flower's option is a text
        if path != "flowerconfig.py":
            raise ConfigurationError(
                f"the file of options '{path}' is not there", "correct the path in `--conf`"
            )
        return
    before: Any = options.basic_auth
    parse_config_file(path, final=False)
    if options.basic_auth != before:
        log.info("users_of_flower_may_watch", count=len(options.basic_auth))
