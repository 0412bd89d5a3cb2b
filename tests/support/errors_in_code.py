"""Finds what errors say, in the code: sentences and hints, with a numbered gap for every value.

Errors are raised with values filled in, and travel as text: from a worker through the ledger to a
mail. Their catalogue therefore holds patterns, by which `pgben_tasks.language` knows them again.
"""

from __future__ import annotations

import ast
import builtins
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pgben_tasks import errors
from pgben_tasks.domain.faults import PHRASES
from pgben_tasks.errors import PgbenError
from pgben_tasks.operations.alarms.mail import HAPPENED

#: The command line, the demo and what is set up by hand speak English.
_ENGLISH_ONLY = frozenset({"cli", "direct", "embedded", "setup"})
#: Classes of adapters whose fields become sentences and hints.
_TABLES = frozenset({"_Meaning", "Hints"})
#: Functions that return phrases which errors quote.
_PHRASES = frozenset(
    {
        *("missing_client", "_fitting_client", "_fitting_client_with_zstd", "install_client"),
        *("remedy", "way_back", "_of_message", "_of_dropped", "_meanwhile"),
        *("_not_resumed", "_refusal", "_obstacles", "obstacles", "suspicion"),
        *("names_in_the_way", "holders", "shortcomings", "blockers"),
        *("_unsuccessful", "_mail_server"),
    }
)
#: Arguments that errors quote, and the hint of an alarm.
_VALUES = frozenset({"settings", "what", "hint"})
#: Functions whose arguments are errors' texts, too, and what verdicts and verifications give.
_RAISING = frozenset({"_require", "_meanwhile", "_reached", "Reason", "Finding"})
_ERRORS = frozenset(
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, PgbenError)
)
#: What pydantic says of settings, faults of their files with a reason, where a server is set, and
#: what is said of a message that was set aside.
_FAULTS = frozenset(
    {
        "an entry of the list that no worker wrote",
        "the prepared transaction",
        "the logical replication slot",
        "the subscription",
        "without it, `pgben list` and `pgben restore` work with `--direct`",
        "`pgben catalog rebuild` brings a lost one back",
        "{0} must be '{1}' or '{2}'",
        "{0} must be '{1}', '{2}' or '{3}'",
        "PGBEN_DB_HOST, PGBEN_DB_USER and PGBEN_DB_PASS",
        "{0} and {1} are both set: {2}",
        "{0} names '{1}', which cannot be read: {2}",
        "{0} names '{1}', which is empty: {2}",
        "{0} names '{1}', which is no text: {2}",
    }
)
#: What errors quote of the operating system; some say it as it is, some in small letters.
_OF_SYSTEM = frozenset(
    text
    for number in (
        *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EROFS),
        *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EEXIST, errno.ELOOP),
        *(errno.ETIMEDOUT, errno.ENOTCONN, errno.EMFILE),
    )
    for text in (os.strerror(number), os.strerror(number).lower())
)
#: What errors quote of PostgreSQL servers that take no connection, where they speak English.
_OF_SERVERS = frozenset(
    {
        'database "{0}" does not exist',
        'database "{0}" is not currently accepting connections',
        'no pg_hba.conf entry for host "{0}", user "{1}", database "{2}", {3}',
        "no encryption",
        'password authentication failed for user "{0}"',
        'permission denied for database "{0}"',
        "remaining connection slots are reserved for {0}",
        'role "{0}" does not exist',
        'role "{0}" is not permitted to log in',
        "sorry, too many clients already",
        "terminating connection due to administrator command",
        "the database system is in recovery mode",
        "the database system is not accepting connections",
        "the database system is not yet accepting connections",
        "the database system is shutting down",
        "the database system is starting up",
        'too many connections for database "{0}"',
        'too many connections for role "{0}"',
    }
)
#: Why retention keeps a backup or not, as the report says it (test_report_render checks the list).
_OF_RETENTION = frozenset(
    {
        *("younger than 1 day", "younger than {0} days", "younger than {0}"),
        *("one of the {0} newest verified", "newest drilled"),
        *("newest of {0}", "newest of week {0}", "newest of month {0}"),
        *("in use by a job", "of recovery point {0}"),
        *("held until {0}", "held until it is released", "held by {0} until it is released"),
        *("held by {0} until {1}", "held by {0} until {1} for {2}"),
        "held by {0} until it is released for {1}",
        *("suspect, not acknowledged", "no newer verified backup"),
        *("past its age, and no rule keeps it", "would expire, but pruning is refused"),
    }
)
#: States of backups, which reasons of verdicts quote.
_STATES = frozenset(
    {
        *("suspect", "damaged", "unreadable", "missing", "unverified", "incomplete"),
        *("not restorable here", "verified (unopened)"),
    }
)
#: The pattern of a choice among words; those of two and of three words are in `_FAULTS`.
_SAYS_NOTHING = frozenset({"{0} must be {1}"})
#: Fewer letters than this beside the gaps, and a pattern would match almost anything.
_FEWEST_LETTERS = 5


def patterns(package: Path) -> set[str]:
    """Return the pattern of everything that errors of a package say, outside the command line."""
    phrases = {_numbered(_after(re.sub(r"\{[a-z_]+\}", "{0}", one))) for one in PHRASES.values()}
    # Sentences of alarms, which the report has in English.
    happened = {_numbered(re.split(r"\{[a-z_]+\}", one)) for one in HAPPENED.values()}
    found = {
        *happened,
        *(_FAULTS | _OF_SYSTEM | _OF_SERVERS | (phrases - _SAYS_NOTHING)),
        *_of_settings(package / "settings", package / "domain" / "durations.py"),
    }
    for path in package.rglob("*.py"):
        if path.relative_to(package).parts[0] not in _ENGLISH_ONLY:
            found.update(_patterns_in(ast.parse(path.read_text(encoding="utf-8"))))
    return {*_STATES, *_OF_RETENTION} | {
        one for one in found if " " in one and _letters(one) >= _FEWEST_LETTERS
    }


def _of_settings(folder: Path, *more: Path) -> Iterator[str]:
    """Yield the patterns of faults in settings, which begin with the name of the setting."""
    for path in (*sorted(set(folder.glob("*.py")) - {folder / "__init__.py"}), *more):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Yield) and isinstance(node.value, ast.JoinedStr):
                yield from _read(node.value, {})
            for said in _messages(node):
                for pattern in _read(said, {}):
                    yield _numbered(_after(pattern))


def _messages(node: ast.AST) -> list[ast.expr]:
    """Return the texts in the code of a ``ValueError``, of a message for one, or of a table."""
    if isinstance(node, ast.Call) and _name(node.func) == "ValueError":
        return node.args
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "message":
        return [node.value]
    if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
        return node.value.values
    return []


def _after(pattern: str) -> list[str]:
    first, *others = re.split(r"\{\d+\}", pattern)
    return ["", f" {first}", *others]


def _patterns_in(tree: ast.Module) -> Iterator[str]:
    constants = _constants(tree)
    for node in _said(tree):
        yield from _read(node, constants)


def _said(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield the code of what errors say in a module."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    makers = (
        _ERRORS
        | _TABLES
        | _RAISING
        | {one.name for one in functions if _names(one.returns) & _ERRORS}
    )
    # A class of error may be a parameter.
    raised = {id(node.exc) for node in ast.walk(tree) if isinstance(node, ast.Raise)}
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = _name(call.func)
        if name in makers or (id(call) in raised and not hasattr(builtins, name)):
            yield from call.args
            yield from (keyword.value for keyword in call.keywords)
        else:
            # The purpose of a file, and where a server is set, in the errors about them.
            yield from (keyword.value for keyword in call.keywords if keyword.arg in _VALUES)
    for function in functions:
        yield from _returned(function)


def _returned(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """Yield the code of texts that a function returns for errors to say."""
    if function.name in _PHRASES:
        yield from (node for node in ast.walk(function) if isinstance(node, ast.JoinedStr))
    # Why something is refused, and what to do about it.
    if function.returns and ast.unparse(function.returns) == "tuple[str, str] | None":
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                yield from node.value.elts


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    return {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }


def _read(node: ast.expr, constants: dict[str, ast.expr]) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from _read(node.body, constants)
        yield from _read(node.orelse, constants)
    elif isinstance(node, ast.Name) and node.id in constants:
        yield from _read(constants[node.id], {})
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        # Texts of tables have named gaps.
        yield _numbered(re.split(r"\{[a-z_.]+\}", node.value))
    elif isinstance(node, ast.JoinedStr):
        literal = "".join(
            str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values
        )
        yield _numbered(literal.split("\0"))


def _numbered(parts: list[str]) -> str:
    pattern = parts[0]
    for number, part in enumerate(parts[1:]):
        pattern += f"{{{number}}}{part}"
    return pattern


def _letters(pattern: str) -> int:
    return sum(sign.isalpha() for sign in pattern)


def _names(node: ast.expr | None) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)} if node else set()


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
