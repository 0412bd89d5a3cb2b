"""A live console beside a deployment: its process, its users, and requests of programs."""

from __future__ import annotations

import base64
import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any, Final

from pydantic import SecretStr

from pgben_tasks.adapters.accounts import Accounts, Role
from pgben_tasks.adapters.catalog.console_login import ConsoleLogin, ensure_console_login
from pgben_tasks.embedded.child import Child, Command
from tests.support.deployment import Deployment, eventually

#: Who there is: name, role, password. One password is not ASCII.
USERS: Final[tuple[tuple[str, Role, str], ...]] = (
    ("olga", "watch", "olga looks on"),
    ("ana", "operate", "senha de ação"),
)
PASSWORDS: Final = {name: password for name, _, password in USERS}
#: What a console must not have: it knows what is protected, and holds no key and password of it.
_NOT_FOR_THE_CONSOLE: Final = (
    "PGBEN_DB_PASS",
    "PGBEN_MINIO_SECRET_KEY",
    "PGBEN_REPOSITORY_ACCESS_KEY",
    "PGBEN_REPOSITORY_SECRET_KEY",
    "PGBEN_AGE_IDENTITY_FILE",
    "PGBEN_INVENTORY_IDENTITY_FILE",
    "PGBEN_SIGNING_KEY_FILE",
    "PGBEN_TRUSTED_KEYS_FILE",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP request was answered with."""

    status: int
    #: Names in any case.
    headers: Message
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class LiveConsole:
    """A console that listens."""

    url: str
    process: Child

    @property
    def log(self) -> str:
        return self.process.log.read_text(encoding="utf-8", errors="replace")

    def ask(
        self,
        path: str,
        body: object = None,
        *,
        user: str | None = "ana",
        password: str | None = None,
        raw: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """Send a request, with a body by POST, as a program would."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if data is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if user is not None:
            pair = f"{user}:{PASSWORDS[user] if password is None else password}"
            sent["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=sent)  # noqa: S310
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            with opener.open(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers, answer.read().decode())
        except urllib.error.HTTPError as exc:
            return Answer(exc.code, exc.headers, exc.read().decode())


def _reading_url(deployment: Deployment) -> str:
    """Return the URL of a login that only reads the catalog, as `pgben init` makes it."""
    login = ConsoleLogin(name="pgben_console", password=SecretStr("reads-only-1"))
    ensure_console_login(deployment.work.database, login)
    catalog = deployment.catalog
    secret = login.password.get_secret_value()
    return f"postgresql://{login.name}:{secret}@{catalog.host}:{catalog.port}/pgben_catalog"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Shows where a redirect leads, instead of going there."""

    def redirect_request(self, *_: Any) -> None:
        return None


def start_console(
    deployment: Deployment,
    *flags: str,
    users: bool = True,
    changed: Mapping[str, str] | None = None,
) -> LiveConsole:
    """Start ``python -m workers flower``; it listens when this returns."""
    environment = deployment.process_environment(changed)
    for name in _NOT_FOR_THE_CONSOLE:
        environment.pop(name, None)
    environment["PGBEN_CATALOG_URL"] = _reading_url(deployment)
    if users:
        path = deployment.stack.folder / "console-users"
        accounts = Accounts(path)
        for name, role, password in USERS:
            accounts.add(name, role, password, replace=True)
        environment["PGBEN_CONSOLE_USERS_FILE"] = str(path)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = deployment.stack.supervisor.spawn(
        f"console-{len(deployment.processes)}",
        Command(
            argv=(sys.executable, "-m", "workers", "flower", f"--port={port}", *flags),
            environment=environment,
            folder=deployment.stack.folder,
        ),
    )
    deployment.processes.append(process)
    eventually(
        lambda: "console_listens" in process.log.read_text() or not process.alive,
        seconds=60,
        what="the console listens",
    )
    assert process.alive, process.log.read_text()
    return LiveConsole(f"http://127.0.0.1:{port}", process)
