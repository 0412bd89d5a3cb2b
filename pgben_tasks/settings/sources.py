"""The raw texts of settings: from an environment, and from the files that it names.

Knows names and files, not types or defaults. Values never appear in its messages.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pgben_tasks.errors import ConfigurationError

Origin = Literal["environment", "file", "default"]

PREFIX: Final = "PGBEN_"
_FILE: Final = "_FILE"

#: Variables of the test suite, never of pgben.
_TEST_PREFIX: Final = "PGBEN_TEST_"

#: Settings of earlier versions that nothing obeyed. Whoever has set one keeps running; a name
#: leaves this list when the code that obeys it arrives.
RETIRED: Final = frozenset(
    {
        "PGBEN_ASSERTIONS",
        "PGBEN_DRILL_URL",
        "PGBEN_DRILL_URL_FILE",
        "PGBEN_FINGERPRINT",
        "PGBEN_FULL_READ_DAYS",
    }
)

#: How the settings of an installation are loaded. Another `init` would make keys that open nothing
#: old, so nobody who merely lost the settings is sent there.
LOADING: Final = (
    "load the file that `pgben init` wrote beside the keys, and the settings of the servers: "
    "`set -a; . /etc/pgben/keys/pgben.env; set +a`, or "
    "`pgben --env-file /etc/pgben/keys/pgben.env …`"
)

#: No secret is larger; a wrong path may lead to something that is.
_SECRET_LIMIT: Final = 64 * 1024

_SERVICE: Final = re.compile(r"PGBEN_(?:.+_)?SERVICE_(?:HOST|PORT(?:_.+)?)")
_LINK: Final = re.compile(r"PGBEN_(?:.+_)?PORT(?:_.+)?")
_LINK_PART: Final = re.compile(r"(?P<link>PGBEN_(?:.+_)?PORT_\d+_(?:TCP|UDP))_(?:PROTO|PORT|ADDR)")


@dataclass(slots=True)
class Found:
    """The texts and origins of settings in an environment, and which variables were ignored."""

    texts: dict[str, str] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    faults: list[str] = field(default_factory=list)


def gather(
    environ: Mapping[str, str],
    *,
    known: Collection[str],
    secret: Collection[str],
    optional: Collection[str] = (),
) -> Found:
    """Collect every known setting; each secret may also come from the file that NAME_FILE names.

    An empty variable is as good as none, and so is the empty file of an ``optional`` secret.
    Unknown names become faults; service links of Kubernetes and retired settings are left aside
    and named.
    """
    links = set(_service_links(environ))
    retired = {name for name in RETIRED if environ.get(name)}
    found = Found(ignored=tuple(sorted(links)), retired=tuple(sorted(retired)))
    own = {name: text for name, text in environ.items() if name not in links}
    for name in known:
        try:
            value = (
                read_secret(own, name, optional=name in optional)
                if name in secret
                else _read_plain(own, name)
            )
        except ConfigurationError as exc:
            found.faults.append(f"{exc.sentence}: {exc.hint}")
            continue
        if value is None:
            continue
        try:
            value[0].encode()
        except UnicodeEncodeError:
            found.faults.append(f"{name} must be text in UTF-8")
        else:
            found.texts[name], found.origins[name] = value
    unread = {name: text for name, text in own.items() if name not in RETIRED}
    found.faults.extend(_unknown(unread, {*known, *(name + _FILE for name in secret)}))
    return found


def require_settings(environ: Mapping[str, str] | None = None) -> None:
    """Raise ``ConfigurationError`` when an environment, the process's own, has no setting."""
    environ = os.environ if environ is None else environ
    links = set(_service_links(environ))
    for name, text in environ.items():
        own = name.startswith(PREFIX) and not name.startswith(_TEST_PREFIX)
        if own and text and name not in links:
            return
    raise ConfigurationError(f"no settings are loaded: not one {PREFIX}… variable is set", LOADING)


def variables() -> dict[str, str]:
    """Return the variables of the process that begin as settings do, but for service links."""
    links = set(_service_links(os.environ))
    return {
        name: text
        for name, text in os.environ.items()
        if name.startswith(PREFIX) and name not in links
    }


def read_secret(
    environ: Mapping[str, str], name: str, *, optional: bool = False
) -> tuple[str, Origin] | None:
    """Read a secret from its variable or its file; None when neither is set.

    With ``optional`` an empty file says that there is none. Raises ``ConfigurationError`` when both
    are set, or the file cannot be read or is empty.
    """
    text, path = environ.get(name, ""), environ.get(name + _FILE, "")
    if text and path:
        raise ConfigurationError(f"{name} and {name}{_FILE} are both set", "keep one of the two")
    if text:
        return text, "environment"
    if path:
        text = read_secret_file(Path(path), f"{name}{_FILE}", may_be_empty=optional)
        return (text, "file") if text else None
    return None


def read_secret_file(path: Path, setting: str, *, may_be_empty: bool = False) -> str:
    """Read the file that ``setting`` names, without the newlines at its end."""
    try:
        with path.open("rb") as file:
            text = file.read(_SECRET_LIMIT).decode().rstrip("\r\n")
    except OSError as exc:
        raise ConfigurationError(
            f"{setting} names '{path}', which cannot be read",
            (exc.strerror or "unreadable").lower(),
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(
            f"{setting} names '{path}', which is no text", "the file must hold the value alone"
        ) from exc
    if not text and not may_be_empty:
        raise ConfigurationError(
            f"{setting} names '{path}', which is empty", "write the value into it"
        )
    return text


def read_toml(path: Path) -> dict[str, object]:
    """Return the tables of a TOML file; ``ValueError`` with a sentence where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ValueError(f"names '{path}': {(exc.strerror or 'unreadable').lower()}") from exc
    except UnicodeDecodeError as exc:
        raise ValueError(f"names '{path}', which is not UTF-8") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ValueError(f"names '{path}', which is not TOML: {str(exc).lower()}") from exc


def _read_plain(environ: Mapping[str, str], name: str) -> tuple[str, Origin] | None:
    text = environ.get(name, "")
    return (text, "environment") if text else None


def _service_links(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that Kubernetes injects for Services called ``pgben-…``."""
    links = {
        name
        for name, text in environ.items()
        if _LINK.fullmatch(name) and text.startswith(("tcp://", "udp://"))
    }
    yield from links
    for name in environ:
        part = _LINK_PART.fullmatch(name)
        if _SERVICE.fullmatch(name) or (part is not None and part["link"] in links):
            yield name


def _unknown(environ: Mapping[str, str], allowed: Collection[str]) -> Iterator[str]:
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name.startswith(_TEST_PREFIX) or name in allowed:
            continue
        # Without the prefix, which makes any two names look alike.
        names = {one.removeprefix(PREFIX): one for one in sorted(allowed)}
        near = difflib.get_close_matches(name.removeprefix(PREFIX), names, n=1)
        if near:
            yield f"{name} is not a setting: did you mean {names[near[0]]}?"
        else:
            yield f"{name} is not a setting; docs/configuration.md lists them all"
