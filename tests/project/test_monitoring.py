"""Alert rules, their unit tests, the dashboard and the runbook speak of metrics that exist."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from dicomnode import metrics
from dicomnode.cases.overview import LedgerOverview, QueueLength
from dicomnode.log import EVENTS
from dicomnode.web import health

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
PROVED = DEPLOY / "prometheus" / "alerts-test.yml"
DASHBOARD = DEPLOY / "compose" / "grafana" / "dashboards" / "sct-node.json"
RULES = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
CASES = {one["name"]: one["alert_rule_test"] for one in yaml.safe_load(PROVED.read_text())["tests"]}
BY_PROMETHEUS = {"instance", "job"}
NOW = health.LiveValues(
    0.0,
    LedgerOverview({("RECEIVED", True): 1}, {"person": QueueLength(1, 0.0)}, {"planning": QueueLength(1, 0.0)}, 0.0),
    1,
    2,
    {"web": 1},
    [health.LastConstancy("node/synthesize/0", "limb", 0.0, passed=True, deviation_hu=0.0)],
)


def exposed(folder: Path) -> dict[str, set[str]]:
    """Name of every sample that the node can show -> its labels."""
    found: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            [family] = metric.describe()
            for suffix in SUFFIXES[family.type]:
                found[family.name + suffix] = {*metric._labelnames, *(["le"] if suffix == "_bucket" else [])}
    for family in text_string_to_metric_families(health.exposition(folder, NOW).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def panels() -> list[dict[str, Any]]:
    return [one for one in dashboard()["panels"] if one["type"] != "row"]


def queries() -> list[str]:
    """Every expression of the dashboard, its variables included."""
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    return shown + [one["query"]["query"] for one in dashboard()["templating"]["list"]]


def expressions() -> Iterator[str]:
    """Every expression of the alerts and of the dashboard."""
    yield from (rule["expr"] for rule in RULES)
    yield from queries()


def test_alerts_and_dashboard_ask_for_metrics_and_labels_that_exist(tmp_path: Path) -> None:
    known = exposed(tmp_path)
    asked = 0
    for expression in expressions():
        for name, selector in re.findall(r"(sct_node_\w+)(?:\{([^}]*)\})?", expression):
            assert name in known, f"{name} in {expression}"
            labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector))
            assert labels <= known[name] | BY_PROMETHEUS, f"{name}{{{selector}}}"
            asked += 1
    assert asked > 60


def test_every_document_speaks_of_metrics_that_exist(tmp_path: Path) -> None:
    known = exposed(tmp_path)
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known} | known.keys()
    for document in (DEPLOY.parent / "README.md", *DEPLOY.glob("*.md")):
        assert set(re.findall(r"sct_node_\w+", document.read_text())) <= families, document.name


def test_what_a_legend_names_is_a_label_of_what_is_drawn(tmp_path: Path) -> None:
    known = exposed(tmp_path)
    for panel in panels():
        for target in panel["targets"]:
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = re.findall(r"by \(([^)]*)\)", target["expr"])
            names = re.findall(r"sct_node_\w+", target["expr"])
            labels = {one.strip() for one in kept[0].split(",")} if kept else known[names[0]] | BY_PROMETHEUS
            assert legend <= labels, f"{panel['title']}: {target['legendFormat']}"


def test_promtool_reads_every_expression_of_the_dashboard(tmp_path: Path, program: Callable[[str], str]) -> None:
    shown = [query for query in queries() if not query.startswith("label_values")]
    rules = [{"record": f"panel:{n}", "expr": query.replace("$", "")} for n, query in enumerate(shown)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run([program("promtool"), "check", "rules", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_panels_do_not_lie_on_each_other_and_each_has_a_title_of_its_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        rows, columns = range(place["y"], place["y"] + place["h"]), range(place["x"], place["x"] + place["w"])
        cells = {(row, column) for row in rows for column in columns}
        assert not cells & taken, panel["title"]
        taken |= cells
    titles = [panel["title"] for panel in dashboard()["panels"]]
    assert len(set(titles)) == len(titles) == len({panel["id"] for panel in dashboard()["panels"]})


def test_the_dashboard_asks_the_data_source_that_compose_provides() -> None:
    [source] = yaml.safe_load((DASHBOARD.parent.parent / "datasources" / "prometheus.yaml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    assert used == {source["uid"]}
    [provider] = yaml.safe_load((DASHBOARD.parent / "provider.yaml").read_text())["providers"]
    assert provider["options"]["path"].endswith(f"provisioning/{DASHBOARD.parent.name}")


@pytest.mark.parametrize("command", [["check", "rules", ALERTS], ["test", "rules", PROVED]], ids=["check", "test"])
def test_promtool_takes_the_rules_and_their_proofs(command: list[str], program: Callable[[str], str]) -> None:
    told = subprocess.run([program("promtool"), *command], capture_output=True, text=True, check=False, timeout=120)
    assert told.returncode == 0, told.stdout + told.stderr


def test_of_each_alert_it_is_proved_when_it_is_quiet_and_when_it_fires() -> None:
    assert set(CASES) == {rule["alert"] for rule in RULES}
    for name, looks in CASES.items():
        assert {look["alertname"] for look in looks} == {name}
        assert {bool(look.get("exp_alerts")) for look in looks} == {True, False}, name


def test_the_runbook_says_of_each_alert_what_to_do() -> None:
    section = (DEPLOY / "RUNBOOK.md").read_text().partition("## Alerts")[2].partition("\n## ")[0]
    named = {
        name
        for line in re.findall(r"^\| ([A-Z]\w+(?:, [A-Z]\w+)*) \|", section, re.MULTILINE)
        for name in line.split(", ")
    }
    assert named == {rule["alert"] for rule in RULES}


def test_the_runbook_names_events_of_the_log_by_codes_that_exist() -> None:
    text = (DEPLOY / "RUNBOOK.md").read_text()
    named = set(re.findall(r"\blog(?: says|'s) `([^`]+)`", text)) | set(re.findall(r"says why.*?\(`(\w+)`\)", text))
    assert len(named) >= 8
    assert named - set(EVENTS) == set()


def test_what_alerts_look_at_begins_at_zero_so_that_the_first_time_counts(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from dicomnode import metrics
metrics.keep_in(Path(sys.argv[1]), sys.argv[2])
metrics.start_at_zero(sys.argv[2], ["planning"])
"""
    for role in ("serve", "receive", "synthesize", "deliver"):
        subprocess.run([sys.executable, "-c", program, str(tmp_path), role], check=True, timeout=60)
    families = text_string_to_metric_families(health.exposition(tmp_path, NOW).decode())
    there = {sample.name for family in families for sample in family.samples if sample.value == 0.0}
    for rule in RULES:
        assert set(re.findall(r"increase\((sct_node_\w+)", rule["expr"])) <= there, rule["alert"]


CASES_OF_A_SITE = """
import sys
from pathlib import Path
from dicomnode import metrics
from dicomnode.synthesis.attempt import Cases
from pipeline.errors import REASONS
from pipeline.findings.meanings import MEANINGS

folder, role, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
destinations = ["planning", "archive", "second", "third"]
units = ["[hnsf'U]", "%", "mm", "mL", "ms", ""]
metrics.keep_in(folder, role)
metrics.start_at_zero(role.rstrip("0123456789"), destinations)
cases = Cases(folder)
for case in range(count):
    verdicts = ["pass"] * 9 + ["review"]
    findings = [
        {"name": name, "value": float(case), "unit": units[at % 6], "verdict": verdicts[(case + at) % 10]}
        for at, name in enumerate(MEANINGS)
    ]
    cases.count({"scanner": f"Scanner {case % 6}", "protocol": f"protocol {case % 24}", "findings": findings})
    metrics.HELD.labels(reason=list(MEANINGS)[case % len(MEANINGS)].upper()).inc()
    metrics.REJECTED.labels(reason=list(REASONS)[case % len(REASONS)]).inc()
    for stage in ("receive", "volume", "synthesize", "write", "preflight", "deliver"):
        metrics.STAGE_SECONDS.labels(stage=stage).observe(case)
    for name in destinations:
        metrics.SCANNER_TO_DESTINATION_SECONDS.labels(destination=name).observe(case)
        for outcome in ("accepted", "duplicate", "warning", "refused", "unsent"):
            metrics.DELIVERED_INSTANCES.labels(name, outcome).inc()
"""
SERIES_AT_MOST = 1500
"""Of a site with 6 scanners, 24 protocols, 4 destinations and every reason there is; Prometheus takes millions."""


def test_500_cases_are_no_more_series_than_a_site_has_things_to_see(tmp_path: Path) -> None:
    counts = []
    for cases in (250, 500):
        for role in ("synthesize", "synthesize1"):
            command = [sys.executable, "-c", CASES_OF_A_SITE, str(tmp_path), role, str(cases // 2)]
            subprocess.run(command, check=True, timeout=60)
        text = health.exposition(tmp_path, NOW).decode()
        counts.append(sum(1 for line in text.splitlines() if not line.startswith("#")))
    assert counts[0] == counts[1] < SERIES_AT_MOST
    assert {path.stat().st_size for path in tmp_path.iterdir()} == {metrics.FILE_BYTES}
