"""Finds texts for people in the code, without running it."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from pgben_tasks.ports import SigningRole


def calls(path: Path, *names: str) -> list[ast.Call]:
    """Return the calls of functions or methods with these names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [call for call in found if _name(call.func) in names]


def texts_in(call: ast.Call) -> list[str]:
    """Return the translatable texts among the arguments of a call."""
    return [
        inner.args[0].value
        for argument in call.args
        for inner in ast.walk(argument)
        if isinstance(inner, ast.Call)
        and _name(inner.func) == "_"
        and isinstance(inner.args[0], ast.Constant)
        and isinstance(inner.args[0].value, str)
    ]


def gaps_in(text: str) -> list[str]:
    """Return the named gaps of a template, in alphabetical order."""
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


def english_in(text: str) -> set[str]:
    """Return the words of a Portuguese text that only the English originals have.

    What is in quotes or backquotes stays as it is in every language, and so do the names of roles.
    """
    return _words([re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", " ", text)]) & _english_only()


@cache
def _english_only() -> set[str]:
    # It needs Babel, as developers have it.
    catalogue: Any = import_module("tests.support.catalogue")
    texts = [pair for source in catalogue.sources() for pair in catalogue.read(source).items()]
    known = _words(translation for _, translation in texts) | set(get_args(SigningRole))
    return _words(text for text, _ in texts) - known


def _words(texts: Iterable[str]) -> set[str]:
    tokens = (token.strip(",.:;()") for text in texts for token in text.lower().split())
    return {token for token in tokens if token.isalpha() and len(token) > 1}


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
