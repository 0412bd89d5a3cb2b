"""The kinds of values that settings have: durations, shares, lists, URLs, cron lines.

Each kind reads text and refuses what it does not understand with a sentence; text is never
repeated here, because it may be a secret in the wrong place.
"""

from __future__ import annotations

import re
import shlex
from datetime import timedelta
from decimal import Decimal
from email.errors import MessageError
from email.headerregistry import Address as MailAddress
from ipaddress import AddressValueError, IPv4Address
from typing import Annotated, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr
from pydantic_settings import NoDecode

from pgben_tasks.domain.durations import parse_duration
from pgben_tasks.domain.keys import check_key
from pgben_tasks.domain.pings import KIND_GAP, TARGET_GAP
from pgben_tasks.domain.target import check_name
from pgben_tasks.domain.windows import Schedule, parse_zone
from pgben_tasks.errors import ConfigurationError, PermanentError
from pgben_tasks.redaction import redact
from pgben_tasks.settings.broker import check_redis_url
from pgben_tasks.settings.faults import checked_by
from pgben_tasks.settings.folders import is_kept, is_root
from pgben_tasks.settings.hosts import names_host
from pgben_tasks.settings.recipients import check_recipients

#: minio-py's rule for buckets that exist (``check_bucket_name``, not strict), which it asks before
#: any bucket is read: capitals and ``_`` are in names older than today's rules of S3.
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,61}[A-Za-z0-9]")
#: AWS gives these endings to its access points, and minio-py asks for no bucket with one.
_BUCKET_ALIASES: Final = ("-s3alias", "--ol-s3")
_REGION: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_SIZE: Final = re.compile(r"\s*(?:\d+|\d*\.\d+)\s*[A-Za-z]*\s*", re.ASCII)
#: A pack costs requests of its own and a line of the manifest; below this they cost more than what
#: is in it. A single byte would give every file and object a pack of its own.
_SMALLEST_PACK: Final = 64 * 1024
#: A pack of objects is full with 4096 of 4 MiB (``adapters.packs.object_writer``), so more changes
#: nothing for buckets. A dump's lies in the spool once more while it is stored, begins anew when
#: that fails, and above 5 TiB no S3 server takes it.
_LARGEST_PACK: Final = 16 * 1024**3
_ALERT_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://.*", re.IGNORECASE)
_TWO_URLS: Final = re.compile(r",[a-z][a-z0-9+.-]*://", re.IGNORECASE)
#: Each has a connection of its own, and a copy a thread and an open file: of these a process has
#: 1024 unless its administrator says otherwise, and PostgreSQL takes 100 connections.
_MOST_PARALLEL: Final = 1024


class SecretUrl(SecretStr):
    """A URL whose password is hidden wherever the value is shown."""

    def _display(self) -> str:
        return redact(self._secret_value)


class Contact(NamedTuple):
    """Somebody to reach in an emergency."""

    name: str
    mail: str
    phone: str


class Command(NamedTuple):
    """A program and its arguments."""

    words: tuple[str, ...]


def parse_settle(value: object) -> object:
    """Read what ``parse_duration`` reads, or ``0`` for no time at all."""
    return timedelta(0) if value == "0" else parse_duration(value)


def _split(value: object) -> object:
    """Split text at commas and white space."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        message = "must not name the same thing twice"
        raise ValueError(message)
    return values


def _cron(value: str) -> str:
    return Schedule.parse(value, "UTC").cron


def _whole_size(value: object) -> object:
    """Refuse a size with anything behind it: pydantic would read ``1,5GiB`` as one byte."""
    if isinstance(value, str) and not _SIZE.fullmatch(value):
        message = "must be a size like '64MiB'"
        raise ValueError(message)
    return value


def _pack_size(value: ByteSize) -> ByteSize:
    if not _SMALLEST_PACK <= value <= _LARGEST_PACK:
        message = "must be between 64KiB and 16GiB"
        raise ValueError(message)
    return value


def _takes_connections(value: str) -> str:
    if value == "template0":
        message = "must not name 'template0', a database that takes no connections"
        raise ValueError(message)
    return value


def _split_url(value: str) -> SplitResult:
    """Split a URL, into nothing when it is none: Python's message would repeat what is in it."""
    try:
        return urlsplit(value)
    except ValueError:
        return urlsplit("")


def _bucket(value: str) -> str:
    """Return the name when a bucket can have it; raise ``ValueError`` else."""
    checked_by(check_name)(value)
    if not _bucket_may_exist(value):
        raise ValueError(
            f"has '{value}', which no bucket can be called: that takes 3 to 63 letters, digits, "
            "'-', '_' and '.', the first and the last a letter or digit, no '.' beside '-' or "
            "another, and no IP address"
        )
    return value


def _bucket_may_exist(name: str) -> bool:
    try:
        IPv4Address(name)
    except AddressValueError:
        odd = any(pair in name for pair in ("..", ".-", "-."))
        return bool(_BUCKET.fullmatch(name)) and not odd and not name.endswith(_BUCKET_ALIASES)
    return False


def _repository(value: str) -> str:
    parts = _split_url(value)
    is_folder = parts.path.startswith("/") and not is_root(parts.path)
    as_file = parts.scheme == "file" and not parts.netloc and is_folder
    as_bucket = parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc
    if not (as_file or as_bucket) or parts.query or parts.fragment or not _may_be_below(parts):
        message = "must be 'file:///absolute/folder' or 's3://bucket/prefix'"
        raise ValueError(message)
    if as_file and not is_kept(parts.path):
        message = "must be on a disk: nothing is kept below /dev, /proc and /sys"
        raise ValueError(message)
    if as_bucket and ":" in parts.netloc:
        message = "must be 's3://bucket/prefix': the server belongs in PGBEN_REPOSITORY_ENDPOINT"
        raise ValueError(message)
    if as_bucket:
        _bucket(parts.netloc)
    return value.rstrip("/")


def _may_be_below(parts: SplitResult) -> bool:
    """Return whether a repository's keys may begin with the prefix of an ``s3://`` URL."""
    prefix = parts.path.strip("/")
    if parts.scheme != "s3" or not prefix:
        return True
    try:
        check_key(prefix)
    except PermanentError:
        return False
    return True


def _endpoint(value: str) -> str:
    parts = _split_url(value if "://" in value else f"//{value}")
    try:
        host_ok = names_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        host_ok = False
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme not in {"", "http", "https"} or not host_ok or extra:
        message = "must be 'host:port', 'http://host:port' or 'https://host:port'"
        raise ValueError(message)
    return value.rstrip("/")


def _region(value: str) -> str:
    # It becomes a part of every signature's scope, between slashes.
    if not _REGION.fullmatch(value):
        message = "must be a name of lower case letters, digits and hyphens, such as 'us-east-1'"
        raise ValueError(message)
    return value


def _endpoint_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        message = "must be 'http://host:port' or 'https://host:port'"
        raise ValueError(message)
    return _endpoint(value)


def _redis(value: SecretUrl) -> SecretUrl:
    try:
        return SecretUrl(check_redis_url(value.get_secret_value()))
    except ConfigurationError as exc:
        raise ValueError(f"must be the URL of a Redis database; {exc.hint}") from exc


def _postgres_url(value: SecretUrl) -> SecretUrl:
    parts = _split_url(value.get_secret_value())
    if parts.scheme not in {"postgresql", "postgres"} or not parts.path.strip("/"):
        message = "must be like 'postgresql://user:password@host:5432/database'"
        raise ValueError(message)
    return value


def _contacts(value: object) -> object:
    """Read one ``name; mail; phone`` per line."""
    if not isinstance(value, str):
        return value
    lines = [line for line in value.splitlines() if line.strip()]
    contacts = tuple(tuple(part.strip() for part in line.split(";")) for line in lines)
    if any(len(contact) != len(Contact._fields) for contact in contacts):
        message = "must be one 'name; mail; phone' per line"
        raise ValueError(message)
    return contacts


def _command(value: object) -> object:
    """Split text into words as a shell does; there is none that would run them."""
    if not isinstance(value, str):
        return value
    try:
        words = tuple(shlex.split(value))
    except ValueError as exc:
        message = "must be a command whose quotes are closed, as a shell reads it"
        raise ValueError(message) from exc
    if not words or not words[0].startswith("/"):
        message = "must begin with the absolute path of a program: no shell looks for it"
        raise ValueError(message)
    return Command(words)


def is_address(value: str) -> bool:
    """Return whether a mail can be sent there."""
    try:
        # As the mailer writes it into the heads of mails.
        return bool(re.fullmatch(r"[^@\s]+@[^@\s]+", value) and MailAddress(addr_spec=value))
    except (ValueError, IndexError, MessageError):
        return False


def _alert_urls(value: object) -> object:
    """Split text at white space only: commas are parts of such URLs."""
    if not isinstance(value, str):
        return value
    urls = value.split()
    for number, url in enumerate(urls, start=1):
        if not _ALERT_URL.fullmatch(url):
            raise ValueError(f"has a URL, number {number}, without a scheme such as 'mailto://'")
        if _TWO_URLS.search(url):
            message = "must separate URLs by white space or lines, not by commas"
            raise ValueError(message)
    return tuple(urls)


def _heartbeat(value: SecretStr) -> SecretStr:
    """Check the template of pings; no message repeats it."""
    text = value.get_secret_value()
    parts = _split_url(text)
    try:
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or any(sign.isspace() for sign in text):
        message = "must be a URL that begins with 'http://' or 'https://'"
        raise ValueError(message)
    if parts.username is not None:
        message = "must hold no user and no password: the key of such a server is in the path"
        raise ValueError(message)
    if KIND_GAP not in parts.path:
        message = "must say in its path where the kind of job stands: the word 'kind' in braces"
        raise ValueError(message)
    left = text.replace(KIND_GAP, "").replace(TARGET_GAP, "")
    if "{" in left or "}" in left:
        message = "must hold no braces but those of the words 'kind' and 'target'"
        raise ValueError(message)
    return value


def _address(value: str) -> str:
    if not is_address(value):
        message = "must be an address like 'admin@example.org'"
        raise ValueError(message)
    return value


#: Secret as a whole: Apprise's URLs hold tokens anywhere.
AlertUrls = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_alert_urls)]
HeartbeatUrl = Annotated[SecretStr, AfterValidator(_heartbeat)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
#: A duration that may be none.
Settle = Annotated[timedelta, BeforeValidator(parse_settle)]
Share = Annotated[Decimal, Field(ge=0, le=1, allow_inf_nan=False)]
Size = Annotated[ByteSize, BeforeValidator(_whole_size), Field(gt=0)]
PackSize = Annotated[ByteSize, BeforeValidator(_whole_size), AfterValidator(_pack_size)]
Count = Annotated[int, Field(ge=1)]
Days = Annotated[int, Field(ge=1, le=timedelta.max.days)]
Parallel = Annotated[int, Field(ge=1, le=_MOST_PARALLEL)]
Port = Annotated[int, Field(ge=1, le=65535)]
DatabaseNames = Annotated[
    tuple[
        Annotated[str, AfterValidator(checked_by(check_name)), AfterValidator(_takes_connections)],
        ...,
    ],
    NoDecode,
    BeforeValidator(_split),
    Field(min_length=1),
    AfterValidator(_distinct),
]
BucketName = Annotated[str, AfterValidator(_bucket)]
BucketNames = Annotated[
    tuple[BucketName, ...],
    NoDecode,
    BeforeValidator(_split),
    Field(min_length=1),
    AfterValidator(_distinct),
]
Node = Annotated[str, AfterValidator(checked_by(check_name))]
Cron = Annotated[str, AfterValidator(checked_by(_cron))]
Zone = Annotated[str, AfterValidator(checked_by(parse_zone))]
Recipients = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_split),
    AfterValidator(check_recipients),
    AfterValidator(_distinct),
]
RepositoryUrl = Annotated[str, AfterValidator(_repository)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Region = Annotated[str, AfterValidator(_region)]
EndpointUrl = Annotated[str, AfterValidator(_endpoint_url)]
RedisUrl = Annotated[SecretUrl, AfterValidator(_redis)]
PostgresUrl = Annotated[SecretUrl, AfterValidator(_postgres_url)]
Contacts = Annotated[tuple[Contact, ...], NoDecode, BeforeValidator(_contacts)]
SwapCommand = Annotated[Command, BeforeValidator(_command)]
Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_split)]
