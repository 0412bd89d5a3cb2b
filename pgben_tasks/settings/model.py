"""The effective settings: read from an environment, shown to people, and what follows from them.

The environment is read by ``Settings`` and by ``redis_url``, nowhere else; operations never
see this class, only values taken from it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import ByteSize, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from pgben_tasks.domain.durations import format_duration
from pgben_tasks.domain.target import Target
from pgben_tasks.domain.windows import Schedule, parse_zone
from pgben_tasks.errors import ConfigurationError
from pgben_tasks.redaction import HIDDEN, redact
from pgben_tasks.settings.doubts import Doubt, doubtful_addresses, doubtful_databases
from pgben_tasks.settings.faults import explain
from pgben_tasks.settings.fields import OPTIONAL_FILES, Fields
from pgben_tasks.settings.references import ReferencesFile
from pgben_tasks.settings.servers import Server, ServersFile
from pgben_tasks.settings.sources import PREFIX, Found, Origin, gather, require_settings
from pgben_tasks.settings.values import Command, Contact, SecretUrl, is_address

_MEBIBYTE: Final = 1024**2
_DUMP_PACK: Final = 64 * _MEBIBYTE
_OBJECT_PACK: Final = 16 * _MEBIBYTE


class Row(NamedTuple):
    """One line of ``pgben config``."""

    name: str
    value: str
    origin: Origin


class Settings(Fields):
    """The effective settings of one process."""

    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)
    _ignored: tuple[str, ...] = PrivateAttr(default=())
    _retired: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the values of ``load`` only, which handles NAME_FILE and unknown names."""
        return (init_settings,)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read an environment (the process's own by default).

        Raises one ``ConfigurationError`` that lists every fault.
        """
        names = cls._names()
        found = cls._gathered(os.environ if environ is None else environ)
        faults = list(found.faults)
        made = None
        texts: dict[str, Any] = {names[name]: text for name, text in found.texts.items()}
        try:
            made = cls(**texts)
        except ValidationError as exc:
            faults += explain(exc, name=lambda field: PREFIX + field.upper())
        faults += (*made.unprotected_references(), *made.idle_quota()) if made is not None else ()
        if made is None or faults:
            raise _wrong(faults)
        made._origins, made._ignored, made._retired = found.origins, found.ignored, found.retired
        return made

    @classmethod
    def texts(cls, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the text of every setting of an environment; secrets are read from their files.

        Raises ``ConfigurationError`` for names that are none and files that cannot be read.
        """
        found = cls._gathered(environ)
        if found.faults:
            raise _wrong(found.faults)
        return found.texts

    @classmethod
    def is_secret(cls, name: str) -> bool:
        """Return whether the setting with this name may also come from a file."""
        return is_secret(cls._names()[name])

    @classmethod
    def _names(cls) -> dict[str, str]:
        return {PREFIX + field.upper(): field for field in cls.model_fields}

    @classmethod
    def _gathered(cls, environ: Mapping[str, str]) -> Found:
        names = cls._names()
        return gather(
            environ,
            known=names,
            secret=[name for name, field in names.items() if is_secret(field)],
            optional=[name for name, field in names.items() if field in OPTIONAL_FILES],
        )

    @classmethod
    def of_installation(cls) -> Self:
        """Read the process's environment, where it has settings at all.

        Raises what ``load`` raises, and ``ConfigurationError`` where not one is set: defaults alone
        describe no installation.
        """
        require_settings()
        return cls.load()

    @property
    def doubtful(self) -> tuple[Doubt, ...]:
        """What works and is probably meant otherwise."""
        addresses = {
            "PGBEN_SMTP_FROM": (self.smtp_from,) if self.smtp_from else (),
            "PGBEN_ADMIN_EMAIL": self.admin_email,
        }
        databases = (target.name for target in self.postgres_targets())
        return (*doubtful_addresses(addresses), *doubtful_databases(databases))

    @property
    def contact_addresses(self) -> tuple[str, ...]:
        """The addresses of the contacts that have one."""
        return tuple(one.mail for one in self.contacts if is_address(one.mail))

    @property
    def ignored(self) -> tuple[str, ...]:
        """Variables of Kubernetes' service links that were left aside."""
        return self._ignored

    @property
    def retired(self) -> tuple[str, ...]:
        """Variables of retired settings that are set: they do nothing and are left aside."""
        return self._retired

    def rows(self) -> list[Row]:
        """List every setting with its effective value (no secrets) and where it came from."""
        return [
            Row(
                name := PREFIX + field.upper(),
                show_setting(field, getattr(self, field)),
                self._origins.get(name, "default"),
            )
            for field in type(self).model_fields
        ]

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of schedules and of retention's days."""
        return parse_zone(self.timezone)

    def schedule(self, of: Literal["postgres", "bucket", "verify"]) -> Schedule:
        """Return the schedule of a kind of target, or of the verification of everything."""
        lines = {
            "postgres": self.schedule_postgres,
            "bucket": self.schedule_buckets,
            "verify": self.schedule_verify,
        }
        return Schedule.parse(lines[of], self.zone)

    @property
    def server(self) -> Server:
        """The server of PGBEN_DB_*."""
        return Server(
            host=self.db_host,
            port=self.db_port,
            user=self.db_user,
            password=self.db_pass,
            databases=self.db_name,
        )

    def postgres_targets(self) -> dict[Target, Server]:
        """Map every protected database to the server that holds it, in the order of settings."""
        further = self.servers_file.servers.values() if self.servers_file else ()
        return {
            Target("postgres", name): server
            for server in (self.server, *further)
            for name in server.databases
        }

    def bucket_targets(self) -> tuple[Target, ...]:
        """List every protected bucket; none where no key for their server is set."""
        if self.minio_access_key is None:
            return ()
        return tuple(Target("bucket", name) for name in self.buckets)

    def targets(self) -> tuple[Target, ...]:
        """List everything that is protected: databases, then buckets."""
        return (*self.postgres_targets(), *self.bucket_targets())

    def unprotected_references(self) -> Iterator[str]:
        """Yield a fault for every reference about something that is not protected."""
        databases = {target.name for target in self.postgres_targets()}
        for one in self.references.references if self.references else ():
            if one.database not in databases:
                yield (
                    f"PGBEN_REFERENCES: {one.name}: the database '{one.database}' is not protected"
                )
            if one.bucket not in self.buckets:
                yield f"PGBEN_REFERENCES: {one.name}: the bucket '{one.bucket}' is not protected"

    def idle_quota(self) -> Iterator[str]:
        """Yield a fault for a quota of a repository in a folder, whose volume says what it is."""
        if self.repository_quota is not None and self.repository.startswith("file:"):
            yield (
                "PGBEN_REPOSITORY_QUOTA is for an s3:// repository; the volume of "
                f"'{self.repository}' says what it holds"
            )

    @property
    def forms_points(self) -> bool:
        """Whether there are databases and buckets, which recovery points join."""
        return {target.kind for target in self.targets()} == {"postgres", "bucket"}

    @property
    def minio_url(self) -> str:
        """The URL of the protected buckets' server; a bare host gets its scheme here."""
        if "://" in self.minio_host:
            return self.minio_host
        return f"{'https' if self.minio_secure else 'http'}://{self.minio_host}"

    @property
    def dump_pack_size(self) -> int:
        """Bytes of small members that share a pack of a dump."""
        return self.pack_size or _DUMP_PACK

    @property
    def object_pack_size(self) -> int:
        """Bytes of small objects that share a pack."""
        return self.pack_size or _OBJECT_PACK


def is_secret(field: str) -> bool:
    """Return whether a setting may also come from a file that NAME_FILE names."""
    return _holds_secret(Settings.model_fields[field].annotation)


def show_setting(field: str, value: object) -> str:
    """Write the value of a setting for people, or in words when it is found only later."""
    extra = Settings.model_fields[field].json_schema_extra
    words = extra.get("shown") if isinstance(extra, dict) else None
    return words if value is None and isinstance(words, str) else _show(value)


def _show(value: object) -> str:
    """Write a setting's value for people, without what is secret in it."""
    if value is None or value == ():
        return "not set"
    for kind, write in _SHOWN:
        if isinstance(value, kind):
            return write(value)
    return redact(str(value))


#: How values are shown, the narrower kind before the wider one.
_SHOWN: Final[tuple[tuple[type, Callable[[Any], str]], ...]] = (
    (SecretUrl, str),
    (SecretStr, lambda _: HIDDEN),
    (bool, lambda value: "on" if value else "off"),
    (timedelta, format_duration),
    (ByteSize, lambda value: value.human_readable(separator="").replace(".0", "")),
    (Contact, "; ".join),
    (Command, lambda value: redact(shlex.join(value.words))),
    (ServersFile, lambda value: str(value.path)),
    (ReferencesFile, lambda value: str(value.path)),
    (tuple, lambda value: ", ".join(map(_show, value))),
)


def _holds_secret(annotation: object) -> bool:
    if isinstance(annotation, type):
        return issubclass(annotation, SecretStr)
    return any(_holds_secret(part) for part in get_args(annotation))


def _wrong(faults: list[str]) -> ConfigurationError:
    if len(faults) == 1:
        return ConfigurationError(faults[0], "docs/configuration.md describes every setting")
    return ConfigurationError(f"{len(faults)} settings are wrong", "\n".join(faults))
