"""The roles of a whole server, as ``globals.sql`` of a dump describes them.

The file is read here, word by word, and never run: statements are built anew from what was
understood. Passwords are in no dump.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, LiteralString

from psycopg import errors, sql

from pgben_tasks.adapters.postgres.server import Connection, column
from pgben_tasks.errors import IntegrityError

#: The attributes that ``ALTER ROLE … WITH`` sets with a word of its own.
_ATTRIBUTES: Final[Mapping[str, LiteralString]] = {
    f"{no}{word}": f"{no}{word}"
    for no in ("", "NO")
    for word in (
        "SUPERUSER",
        "INHERIT",
        "CREATEROLE",
        "CREATEDB",
        "LOGIN",
        "REPLICATION",
        "BYPASSRLS",
    )
}
#: The options of a membership, of which a server before 16 knows only the first.
_OPTIONS: Final[Mapping[str, LiteralString]] = {
    "ADMIN": "ADMIN",
    "INHERIT": "INHERIT",
    "SET": "SET",
}
_OPTIONS_SINCE: Final = 160000

_ROLES = "SELECT rolname FROM pg_catalog.pg_roles"
_MARKED = """
SELECT rolname FROM pg_catalog.pg_roles
WHERE pg_catalog.shobj_description(oid, 'pg_authid') = %s ORDER BY 1
"""
_ENCODING: Final = re.compile(rb"^SET client_encoding = '(\w+)';$", re.MULTILINE)
_TOKEN: Final = re.compile(
    r"""
      (?P<space> \s+ | --[^\n]* | ^\\(?:un)?restrict[^\n]*$ )
    | (?P<escaped> E'(?:[^'\\]|''|\\\\)*' )
    | (?P<word> [A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]* )
    | (?P<quoted> "(?:[^"]|"")*" )
    | (?P<text> '(?:[^']|'')*' )
    | (?P<number> -?\d+ )
    | (?P<sign> [=,;.()] )
    """,
    re.VERBOSE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Role:
    """One role: ``attributes`` are words of ``CREATE ROLE``, ``settings`` lists of values."""

    attributes: tuple[str, ...] = ()
    connection_limit: int | None = None
    valid_until: str | None = None
    comment: str | None = None
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Membership:
    """``member`` belongs to ``role``; ``options`` are those of the grant that were written."""

    role: str
    member: str
    options: Mapping[str, bool]
    grantor: str | None


@dataclass(frozen=True, slots=True)
class ServerRoles:
    """The roles of a server by name, and their memberships in the order of granting."""

    roles: Mapping[str, Role]
    memberships: tuple[Membership, ...]


def read_roles(path: Path) -> ServerRoles:
    """Return what ``pg_dumpall --globals-only`` wrote of roles; other statements are passed over.

    Raises ``IntegrityError`` for a file that it cannot have written.
    """
    try:
        written = path.read_bytes()
        text = written.decode(_encoding(written))
    except (OSError, LookupError, UnicodeDecodeError) as exc:
        raise IntegrityError(
            f"'{path.name}' of the dump cannot be read: {exc}", "restore without `roles`"
        ) from exc
    return parse_roles(text)


def parse_roles(text: str) -> ServerRoles:
    """Return the roles of a file's text; raises as ``read_roles``."""
    roles: dict[str, Role] = {}
    memberships = []
    for words in _statements(text):
        match words:
            case ["CREATE", "ROLE", name]:
                roles[_name(name)] = Role()
            case ["ALTER", "ROLE", name, "WITH", *attributes]:
                known = _known(roles, name)
                roles[_name(name)] = _with_attributes(known, attributes)
            case ["ALTER", "ROLE", name, "SET", setting, "TO" | "=", *values]:
                known = _known(roles, name)
                texts = tuple(_text(one) for one in values if one != ",")
                settings = {**known.settings, _name(setting): texts}
                roles[_name(name)] = replace(known, settings=settings)
            case ["COMMENT", "ON", "ROLE", name, "IS", comment]:
                roles[_name(name)] = replace(_known(roles, name), comment=_text(comment))
            case ["GRANT", role, "TO", member, *options]:
                memberships.append(_membership(role, member, options))
            case _:
                # Tablespaces, parameters and labels of the server are not of its roles.
                continue
    return ServerRoles(roles, tuple(memberships))


def create_roles(connection: Connection, names: Iterable[str], *, marker: str) -> None:
    """Create those roles that the server does not have, NOLOGIN and marked with ``marker``."""
    existing = column(connection, _ROLES)
    for name in sorted(set(names).difference(existing)):
        # A restore beside this one may just have made it.
        with suppress(errors.DuplicateObject), connection.transaction():
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
            _comment(connection, name, marker)


def marked_roles(connection: Connection, marker: str) -> list[str]:
    """Return the roles that were made for the database with this marker."""
    return column(connection, _MARKED, (marker,))


def keep_roles(connection: Connection, marker: str) -> None:
    """Mark the roles that carry ``marker`` as in use: from then on nothing removes them.

    Runs inside the caller's transaction.
    """
    for name in marked_roles(connection, marker):
        _comment(connection, name, kept_marker(marker))


def kept_marker(marker: str) -> str:
    """Return what roles carry between the end of their database's restore and their own."""
    return f"{marker}; its database is in use"


def finish_roles(
    connection: Connection, made: Sequence[str], found: ServerRoles | None
) -> tuple[str, ...]:
    """Take the marker from the roles that were ``made``; make them what ``found`` says they were.

    Roles that were there before stay as they are, and a membership is granted only where one of
    the two was made. Return what the server refused, with its reasons. Runs inside the caller's
    transaction.
    """
    for name in made:
        comment = found.roles.get(name, Role()).comment if found else None
        _comment(connection, name, comment)
    if found is None:
        return ()
    there = set(column(connection, _ROLES))
    tried = [
        (f"role '{name}'", _first_taken(connection, [statement]))
        for name in made
        for statement in _describing(name, found.roles.get(name, Role()))
    ] + [
        (
            f"'{one.member}' in '{one.role}'",
            _first_taken(connection, _grants(connection, one, found)),
        )
        for one in found.memberships
        if {one.role, one.member} <= there and {one.role, one.member} & set(made)
    ]
    return tuple(f"{what}: {refusal}" for what, refusal in tried if refusal)


def _comment(connection: Connection, name: str, comment: str | None) -> None:
    connection.execute(
        sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(name), sql.Literal(comment))
    )


def _first_taken(connection: Connection, ways: Sequence[sql.Composed]) -> str:
    """Run the first statement that the server takes; return its last refusal, or nothing."""
    refusal = ""
    for statement in ways:
        try:
            with connection.transaction():
                connection.execute(statement)
        except (errors.DataError, errors.ProgrammingError, errors.NotSupportedError) as exc:
            refusal = str(exc.diag.message_primary)
        else:
            return ""
    return refusal


def _grants(connection: Connection, one: Membership, found: ServerRoles) -> list[sql.Composed]:
    """Build the grant of a membership: in its grantor's name if that can be, else without."""
    grant = sql.SQL("GRANT {} TO {}").format(sql.Identifier(one.role), sql.Identifier(one.member))
    if connection.info.server_version < _OPTIONS_SINCE:
        if one.options.get("ADMIN"):
            grant += sql.SQL(" WITH ADMIN OPTION")
    elif one.options:
        grant += sql.SQL(" WITH ") + sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.SQL(_OPTIONS[name]), sql.SQL("TRUE" if on else "FALSE"))
            for name, on in one.options.items()
        )
    grantor = found.roles.get(one.grantor or "")
    if one.grantor is None or grantor is None or "SUPERUSER" in grantor.attributes:
        return [grant]
    # Servers before 16 wrote grantors down that may not grant on one of today.
    return [grant + sql.SQL(" GRANTED BY {}").format(sql.Identifier(one.grantor)), grant]


def _describing(name: str, described: Role) -> Iterator[sql.Composed]:
    role = sql.Identifier(name)
    words: list[sql.Composable] = [sql.SQL(_ATTRIBUTES[one]) for one in described.attributes]
    if described.connection_limit is not None:
        limit = sql.Literal(described.connection_limit)
        words.append(sql.SQL("CONNECTION LIMIT {}").format(limit))
    if described.valid_until is not None:
        words.append(sql.SQL("VALID UNTIL {}").format(sql.Literal(described.valid_until)))
    if words:
        yield sql.SQL("ALTER ROLE {} WITH {}").format(role, sql.SQL(" ").join(words))
    for setting, values in described.settings.items():
        yield sql.SQL("ALTER ROLE {} SET {} TO {}").format(
            role, sql.Identifier(setting), sql.SQL(", ").join(map(sql.Literal, values))
        )


def _with_attributes(known: Role, words: Sequence[str]) -> Role:
    match words:
        case ["CONNECTION", "LIMIT", number, *rest] if number.lstrip("-").isdecimal():
            known = replace(known, connection_limit=int(number))
        case ["VALID", "UNTIL", moment, *rest]:
            known = replace(known, valid_until=_text(moment))
        case [word, *rest] if word in _ATTRIBUTES:
            known = replace(known, attributes=(*known.attributes, word))
        case []:
            return known
        case _:
            raise _strange(words)
    return _with_attributes(known, rest)


def _membership(role: str, member: str, words: Sequence[str]) -> Membership:
    options: dict[str, bool] = {}
    grantor = None
    rest = list(words)
    while rest:
        match rest:
            case ["GRANTED", "BY", name]:
                grantor, rest = _name(name), []
            case ["WITH" | ",", name, "OPTION" | "TRUE" | "FALSE" as on, *others] if (
                name in _OPTIONS
            ):
                options[name], rest = on != "FALSE", others
            case _:
                raise _strange(rest)
    return Membership(_name(role), _name(member), options, grantor)


def _statements(text: str) -> Iterator[list[str]]:
    """Yield the words of each statement: names in double quotes and texts in single ones."""
    words: list[str] = []
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise _strange([text[place : place + 20]])
        place = found.end()
        if found.lastgroup == "space":
            continue
        if found[0] == ";":
            yield words
            words = []
        else:
            words.append(found[0])
    if words:
        raise _strange(words)


def _known(roles: Mapping[str, Role], name: str) -> Role:
    if _name(name) not in roles:
        raise _strange([name])
    return roles[_name(name)]


def _name(word: str) -> str:
    return word[1:-1].replace('""', '"') if word.startswith('"') else word


def _text(word: str) -> str:
    if word.startswith("E'"):
        # So pg_dumpall writes what has a backslash.
        word = word[1:].replace("\\\\", "\\")
    if not word.startswith("'"):
        raise _strange([word])
    return word[1:-1].replace("''", "'")


def _encoding(written: bytes) -> str:
    """Return Python's name of the encoding that the file says it is in: the database's."""
    said = _ENCODING.search(written)
    name = said[1].decode() if said is not None else "UTF8"
    return "utf-8" if name == "SQL_ASCII" else name.replace("WIN", "cp")


def _strange(words: Sequence[str]) -> IntegrityError:
    return IntegrityError(
        f"the roles in the dump are not described as pg_dumpall does it: {' '.join(words)[:60]}",
        "restore without `roles`, and make the roles by hand",
    )
