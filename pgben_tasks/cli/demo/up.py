"""`pgben up`: a whole installation in the foreground, for trying out; removed when it ends.

PostgreSQL, Redis and two S3 servers from packages, demo data, a worker for everything, beat and
the console; what ends by itself is started again. A second terminal uses it through a file of
settings.
"""

from __future__ import annotations

import secrets
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from rich.text import Text

from pgben_tasks.adapters.accounts import Accounts
from pgben_tasks.cli.demo import environment
from pgben_tasks.cli.demo.restarts import Processes
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.embedded.child import LOOPBACK, Child, free_port, wait_until
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.embedded.stack import EmbeddedStack
from pgben_tasks.errors import CommandFailed
from pgben_tasks.setup.initialise import lines

_POLL_SECONDS: Final = 1.0
_CONSOLE_READY_SECONDS: Final = 60.0
_CONSOLE_USER: Final = "pgben"
_OF_CONSOLE: Final[tuple[str, ...]] = (
    *("PGBEN_REDIS_URL", "PGBEN_CATALOG_URL", "PGBEN_DB_NAME", "PGBEN_BUCKETS"),
    *("PGBEN_MINIO_ACCESS_KEY", "PGBEN_SPOOL_DIR", "PGBEN_LANGUAGE", "PGBEN_TIMEZONE"),
    *("PGBEN_SCHEDULE_POSTGRES", "PGBEN_SCHEDULE_BUCKETS", "PGBEN_SCHEDULE_VERIFY"),
)
SETTINGS_FILE: Final = "pgben.env"


def up(size_mb: int, *, as_json: bool) -> int:
    """Run everything until Ctrl-C or SIGTERM; return the exit code."""
    with environment.start_servers() as stack:
        environment.fill_database(stack, size_mb)
        environment.fill_bucket(stack)
        work, settings = environment.install(stack, node="up")
        password = secrets.token_urlsafe(18)
        started, console = _start_processes(stack, settings, password)
        environment.await_worker(work, started["the worker"])
        _await_console(console, started["the console"])
        file = _write_settings(stack, settings)
        about = _addresses(stack, console, password)
        processes = Processes({**_servers(stack), **started})
        # The end may be requested as soon as the addresses are shown.
        with _end_requested() as requested:
            _show(about, file, settings, as_json=as_json)
            while not requested.wait(_POLL_SECONDS):
                processes.look()
    output.say("everything is gone")
    return outcome.FAILED if processes.given_up else outcome.DONE


def _servers(stack: EmbeddedStack) -> dict[str, Child]:
    return {
        "PostgreSQL": stack.postgres.child,
        "Redis": stack.redis.child,
        "the S3 server of the documents": stack.documents.child,
        "the S3 server of the repository": stack.s3.child,
    }


def _start_processes(
    stack: EmbeddedStack, settings: dict[str, str], password: str
) -> tuple[dict[str, Child], str]:
    """Start worker, beat and console; return them and the console's address."""
    port = free_port()
    users = stack.folder / "console-users"
    Accounts(users).add(_CONSOLE_USER, "operate", password)
    # It knows what is protected, and holds no key and no password of it.
    of_console = {name: settings[name] for name in _OF_CONSOLE if name in settings}
    of_console["PGBEN_CONSOLE_USERS_FILE"] = str(users)
    schedule = stack.folder / "beat.schedule"
    processes = {
        "the worker": environment.start_process(stack, "all", settings),
        "beat": environment.start_process(stack, "beat", settings, f"--schedule={schedule}"),
        "the console": environment.start_process(stack, "flower", of_console, f"--port={port}"),
    }
    return processes, f"http://{LOOPBACK}:{port}"


def _await_console(address: str, console: Child) -> None:
    """Wait until the console listens."""
    parts = urlsplit(address)

    def listens() -> bool:
        with suppress(OSError), socket.create_connection((parts.hostname, parts.port), timeout=1):
            return True
        return not console.alive

    wait_until(listens, seconds=_CONSOLE_READY_SECONDS)
    if not console.alive:
        raise CommandFailed(
            f"'{console.name}' ended with status {console.status}", f"its log: {console.tail()}"
        )


def _addresses(stack: EmbeddedStack, console: str, password: str) -> dict[str, dict[str, str]]:
    server = stack.postgres
    return {
        "PostgreSQL": {
            "address": f"{server.host}:{server.port}",
            "user": server.user,
            "password": server.password,
        },
        "Redis": {
            "address": f"{stack.redis.host}:{stack.redis.port}",
            "user": "",
            "password": stack.redis.password,
        },
        "S3, documents": _keys_of(stack.documents),
        "S3, repository": _keys_of(stack.s3),
        "Console": {"address": f"{console}/pgben", "user": _CONSOLE_USER, "password": password},
    }


def _keys_of(server: EmbeddedS3) -> dict[str, str]:
    return {
        "address": server.endpoint,
        "user": server.access_key,
        "password": server.secret_key,
    }


def _show(
    about: Mapping[str, Mapping[str, str]],
    file: Path,
    settings: Mapping[str, str],
    *,
    as_json: bool,
) -> None:
    if as_json:
        document: dict[str, Any] = {"servers": about, "settings_file": str(file)}
        output.print_json({**document, "environment": dict(settings)})
    else:
        console = output.out()
        rows = [(name, *one.values()) for name, one in about.items()]
        console.print(output.table(("server", "address", "user", "password"), rows, below=0))
        console.print(Text("\nin a second terminal:\n"))
        for line in _typed(file):
            console.print(Text(f"    {line}"), soft_wrap=True)
        console.print()
    output.say(
        "this is for trying out: everything vanishes, backups and keys too, when it ends (Ctrl-C)",
        style="yellow",
    )


def _typed(file: Path) -> Iterator[str]:
    """Yield what uses this installation when it is pasted into any shell, in any folder."""
    yield f". {shlex.quote(str(file))}"
    # The folder of the program may be on the PATH of the first terminal only.
    script = Path(sys.executable).with_name("pgben")
    program = [str(script)] if script.is_file() else [sys.executable, "-m", "pgben_tasks"]
    for command in ("backup --all", "status"):
        yield f"{shlex.join(program)} {command}"


def _write_settings(stack: EmbeddedStack, settings: Mapping[str, str]) -> Path:
    """Write what a shell reads to use this installation; it holds passwords."""
    file = stack.folder / SETTINGS_FILE
    _write_private(file, "".join(f"export {line}\n" for line in lines(settings).splitlines()))
    return file


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


@contextmanager
def _end_requested() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, instead of ending this process at once."""
    requested = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: requested.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
