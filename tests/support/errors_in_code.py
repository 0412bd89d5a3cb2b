"""Finds what errors say, in the code: sentences and hints, with a numbered gap for every value.

Errors are raised with values filled in, and travel as text: from a worker through the ledger to a
mail. Their catalogue therefore holds patterns, by which `pgben_tasks.language` knows them again.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pgben_tasks import errors
from pgben_tasks.errors import PgbenError

#: The command line, the demo and what is set up by hand speak English.
_ENGLISH_ONLY = frozenset({"cli", "direct", "embedded", "setup"})
#: Classes of adapters whose fields become sentences and hints.
_TABLES = frozenset({"_Meaning", "Hints"})
_ERRORS = frozenset(
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, PgbenError)
)
#: Fewer letters than this beside the gaps, and a pattern would match almost anything.
_FEWEST_LETTERS = 6


def patterns(package: Path) -> set[str]:
    """Return the pattern of everything that errors of a package say, outside the command line."""
    return {
        pattern
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] not in _ENGLISH_ONLY
        for pattern in _patterns_in(ast.parse(path.read_text(encoding="utf-8")))
        if " " in pattern and _letters(pattern) >= _FEWEST_LETTERS
    }


def _patterns_in(tree: ast.Module) -> Iterator[str]:
    constants = _constants(tree)
    for node in _said(tree):
        yield from _read(node, constants)


def _said(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield the code of what errors say in a module."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    makers = _ERRORS | _TABLES | {one.name for one in functions if _names(one.returns) & _ERRORS}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _name(call.func) in makers:
            yield from call.args
            yield from (keyword.value for keyword in call.keywords)
        elif isinstance(call, ast.Call):
            # The purpose of a file in the errors about it.
            yield from (keyword.value for keyword in call.keywords if keyword.arg == "what")
    for function in functions:
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
