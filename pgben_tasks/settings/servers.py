"""The servers whose databases are protected: the one of PGBEN_DB_*, and PGBEN_SERVERS_FILE."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.settings.faults import explain
from pgben_tasks.settings.hosts import ServerHost
from pgben_tasks.settings.sources import read_secret_file, read_toml
from pgben_tasks.settings.values import DatabaseNames, Port


class Server(BaseModel):
    """How to reach one PostgreSQL server, and which of its databases are protected."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: ServerHost
    port: Port = 5432
    user: Annotated[str, Field(min_length=1)] = "postgres"
    password: SecretStr | None = None
    password_file: Path | None = None
    databases: DatabaseNames

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password is not None and self.password_file is not None:
            message = "password and password_file are both set; keep one of the two"
            raise ValueError(message)
        return self


class ServersFile(NamedTuple):
    """A file of further servers, by the name of their table."""

    path: Path
    servers: dict[str, Server]


def read_servers(value: object) -> object:
    """Read the TOML file of further servers; anything but a path passes unchanged.

    Raises ``ValueError`` with one sentence per fault, none of which repeats a value.
    """
    if not isinstance(value, str):
        return value
    path = Path(value)
    servers, faults = {}, []
    for name, table in read_toml(path).items():
        try:
            servers[name] = _server(table, path)
        except ConfigurationError as exc:
            faults.append(f"{name}: {exc.sentence}, {exc.hint}")
        except ValidationError as exc:
            faults.extend(f"{name}: {fault}" for fault in explain(exc))
    if faults:
        raise ValueError(f"names '{path}', where {'; '.join(faults)}")
    return ServersFile(path, servers)


def _server(table: object, path: Path) -> Server:
    server = Server.model_validate(table)
    if server.password_file is None:
        return server
    secret = read_secret_file(path.parent / server.password_file, "password_file")
    return server.model_copy(update={"password": SecretStr(secret), "password_file": None})
