"""Reads deploy/monitoring: the expressions of rules and dashboard, and what they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import promql_parser

from tests.support.manifests import ROOT, Doc, load

FOLDER: Final = ROOT / "deploy" / "monitoring"
RULES: Final = FOLDER / "rules.yaml"
DASHBOARD: Final = FOLDER / "dashboard.json"


@dataclass(frozen=True)
class Selector:
    """One metric in an expression: its name, and the values that its labels are compared with."""

    metric: str
    labels: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Used:
    """What one expression names: metrics, and the labels that it groups or matches by."""

    selectors: tuple[Selector, ...]
    grouping: frozenset[str]

    @property
    def metrics(self) -> set[str]:
        return {one.metric for one in self.selectors}


def used(text: str) -> Used:
    """Parse an expression; raises ``ValueError`` for one that Prometheus would refuse."""
    selectors: list[Selector] = []
    grouping: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            pairs = frozenset((one.name, one.value) for one in node.matchers.matchers)
            selectors.append(Selector(str(node.name), pairs))
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            grouping.update(node.modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and node.modifier is not None:
            matching = node.modifier.matching
            grouping.update(matching.labels if matching is not None else ())

    promql_parser.walk(promql_parser.parse(text), pre_visit=visit)
    return Used(tuple(selectors), frozenset(grouping))


def rules() -> list[Doc]:
    """Return every alert rule."""
    (document,) = load(RULES)
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> Doc:
    """Return the dashboard."""
    found: Doc = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels() -> list[Doc]:
    """Return the panels of the dashboard that show something."""
    return [one for one in dashboard()["panels"] if one["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression of rules and dashboard, with the name of what has it."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in dashboard()["templating"]["list"]:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.get("definition", ""))
        if found is not None:
            yield variable["name"], f"count by ({found[2]}) ({found[1]})"
