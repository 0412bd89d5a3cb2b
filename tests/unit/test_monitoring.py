"""deploy/monitoring and its copies: what they name is there, and they say the same."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.adapters.metrics import FAMILIES
from tests.support import manifests, promql
from tests.support.manifests import OVERLAYS, ROOT, Doc
from workers.metrics import PORT

OVERLAY = OVERLAYS / "monitoring"
KNOWN = {one.full_name: set(one.labels) for one in FAMILIES}
#: What a Prometheus adds to every series of one process.
ADDED = {"instance", "job"}
PAGES = {"docs/monitoring.md": ROOT / "docs" / "monitoring.md"}

each = pytest.mark.parametrize(
    ("where", "expression"),
    [*promql.expressions()],
    ids=lambda text: text if " " not in text or len(text) < 40 else "",
)


def labels_in(rule: Doc) -> set[str]:
    texts = " ".join(rule["annotations"].values())
    return set(re.findall(r"\$labels\.(\w+)", texts))


@each
def test_every_expression_is_one_that_prometheus_takes_and_names_what_there_is(
    where: str, expression: str
) -> None:
    found = promql.used(expression)
    assert found.metrics
    assert found.metrics <= set(KNOWN), where
    for one in found.selectors:
        assert {label for label, _ in one.labels} <= KNOWN[one.metric] | ADDED, where
    known = {label for metric in found.metrics for label in KNOWN[metric]}
    assert found.grouping <= known | ADDED, where


def test_a_wrong_expression_would_be_noticed() -> None:
    with pytest.raises(ValueError, match="parenthesis"):
        promql.used("sum(pgben_up")


@pytest.mark.parametrize("rule", promql.rules(), ids=lambda rule: str(rule["alert"]))
def test_every_rule_says_what_happened_how_bad_it_is_and_where_to_read_on(rule: Doc) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert re.fullmatch(r"\d+[mhd]", rule["for"])
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    found = promql.used(rule["expr"])
    shown = {label for metric in found.metrics for label in KNOWN[metric]}
    assert labels_in(rule) <= shown
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    text = (ROOT / page).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\s-]", "", one.lower()).strip().replace(" ", "-") for one in headings}
    assert anchor in anchors


def test_rules_have_names_of_their_own() -> None:
    names = Counter(rule["alert"] for rule in promql.rules())
    assert max(names.values()) == 1


def test_what_must_never_be_silent_has_a_rule() -> None:
    named = set().union(*(promql.used(rule["expr"]).metrics for rule in promql.rules()))
    assert {
        "pgben_up",
        "pgben_broker_up",
        "pgben_target_newest_verified_age_seconds",
        "pgben_target_restorable",
        "pgben_target_last_full_verification_timestamp_seconds",
        "pgben_beat_last_tick_timestamp_seconds",
        "pgben_reconciler_last_tick_timestamp_seconds",
        "pgben_workers",
        "pgben_queue_messages",
        "pgben_recovery_point_cross_check_faults",
        "pgben_space_critical",
        "pgben_space_days_left",
        "pgben_alarms_unsent",
    } <= named


def test_the_cluster_has_the_same_rules() -> None:
    (rule,) = manifests.load(OVERLAY / "prometheus-rule.yaml")
    (own,) = manifests.load(promql.RULES)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == own


def test_the_cluster_asks_the_exporter_by_its_service() -> None:
    (monitor,) = manifests.load(OVERLAY / "service-monitor.yaml")
    (service,) = [
        one for one in manifests.objects("Service") if one["metadata"]["name"] == "pgben-metrics"
    ]
    assert (monitor["apiVersion"], monitor["kind"]) == (
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
    )
    assert set(monitor["spec"]) == {"selector", "endpoints"}
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert set(endpoint) == {"port", "path", "interval", "scrapeTimeout"}
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"
    (policy,) = manifests.load(OVERLAY / "network-policies.yaml")
    ((rule,), selector) = policy["spec"]["ingress"], policy["spec"]["podSelector"]
    assert selector["matchLabels"] == service["spec"]["selector"]
    assert [port["port"] for port in rule["ports"]] == [PORT]


def test_an_own_prometheus_is_told_port_and_rules() -> None:
    (own,) = manifests.load(promql.FOLDER / "prometheus.yaml")
    (job,) = own["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{PORT}"]}]
    assert own["rule_files"] == [promql.RULES.name]


def test_no_two_panels_lie_upon_each_other_and_every_one_shows_something() -> None:
    board = promql.dashboard()
    assert len({one["id"] for one in board["panels"]}) == len(board["panels"])
    places = [(one["title"], *_square(one)) for one in board["panels"]]
    for (name, *first), (other, *second) in combinations(places, 2):
        assert not _overlap(first, second), f"{name} and {other}"
    for panel in promql.panels():
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["targets"]
        assert panel["title"]
    # Nothing of one site's: the data source is chosen when it is imported.
    sources = {str(one["datasource"]) for one in promql.panels()}
    assert sources == {"{'type': 'prometheus', 'uid': '${datasource}'}"}


def _square(panel: Doc) -> tuple[int, int, int, int]:
    at = panel["gridPos"]
    return at["x"], at["y"], at["x"] + at["w"], at["y"] + at["h"]


def _overlap(one: list[Any], other: list[Any]) -> bool:
    return bool(one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3])


def test_the_dashboard_shows_every_metric_that_is_no_setting() -> None:
    shown = set().union(*(promql.used(expr).metrics for _, expr in promql.expressions()))
    assert set(KNOWN) - shown == {
        "pgben_catalog_read_timestamp_seconds",
        "pgben_target_newest_verified_bytes",
        "pgben_target_newest_verified_timestamp_seconds",
    }


@pytest.mark.parametrize("page", [Path("docs/monitoring.md")], ids=str)
def test_the_table_of_the_documentation_has_every_metric(page: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(pgben_\w+)` \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    found = [(name, labels, meaning) for name, labels, meaning in rows]
    assert found == [
        (one.full_name, ", ".join(f"`{label}`" for label in one.labels), one.meaning)
        for one in FAMILIES
    ]
