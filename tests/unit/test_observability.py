"""What lies under deploy/ for Prometheus and Grafana speaks of metrics that exist, and of sections that do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from backtalk.runtime.metrics import Metrics

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/backtalk.json").read_text("utf-8"))
ALERTS = (ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8")
TRIED = (ROOT / "deploy/prometheus/alerts_test.yml").read_text("utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")
NAMES = re.findall(r"alert: (\w+)", ALERTS)
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every series that a worker tells."""
    metrics = Metrics("forward")
    metrics.watch_store(dict)
    return {
        f"{family.name}{suffix}" for family in metrics.registry.collect() for suffix in SUFFIXES[family.type]
    }


def series(text: str) -> set[str]:
    return set(re.findall(r"\b(?:backtalk|process)_\w+", text))


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_of_the_dashboard_exists(known, query):
    assert series(query) <= known


def test_the_dashboard_shows_every_metric(known):
    """A metric that nobody looks at need not be counted."""
    shown = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in series(" ".join(QUERIES))}
    ours = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in known if name.startswith("backtalk_")}
    assert shown >= ours


def test_panels_lie_beside_each_other_and_have_ids_of_their_own():
    """Grafana draws what overlaps one over the other."""
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    taken = [
        (x, y)
        for at in places
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(at["x"] + at["w"] for at in places) == 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_every_metric_of_the_alerts_exists(known):
    expressions = re.findall(r"expr: (?:\|\n((?: {10}.*\n)+)|(.*))", ALERTS)
    assert len(expressions) == len(NAMES)
    assert series(" ".join(part for pair in expressions for part in pair)) <= known


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_is_explained_and_tried(name):
    """Whoever is woken by it finds what it means by its name."""
    assert f"#{name.lower()}\n" in ALERTS
    assert f"\n### {name}\n" in OPERATIONS
    assert f"name: {name}\n" in TRIED


def test_every_metric_is_in_the_documentation(known):
    """In the table of the section about them."""
    table = set(re.findall(r"`(backtalk_\w+)", OPERATIONS))
    assert {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in known if name.startswith("backtalk_")
    } == table
