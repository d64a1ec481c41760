"""What a case looked like, as metrics whose number is bounded."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dicomnode.synthesis import attempt
from dicomnode.web import health

FINDINGS: list[dict[str, Any]] = [
    {"name": "soft_tissue_median", "value": -12.5, "limit": [-60, 60], "unit": "[hnsf'U]", "verdict": "pass"},
    {"name": "bone_fraction", "value": 8.0, "limit": [2, 20], "unit": "%", "verdict": "review"},
    {"name": "path_length", "value": 3.0, "limit": [0, 5], "unit": "mm", "verdict": "pass"},
    {"name": "anatomy", "value": "HEAD", "limit": "one of THIGH", "unit": "", "verdict": "review"},
    {"name": "air_fraction", "value": "not measurable", "limit": [0, 2], "unit": "%", "verdict": "review"},
]


def counted(folder: Path, reports: list[dict[str, Any]]) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Count cases in a process of their own, as a worker does; -> sample name -> labels and values."""
    program = (
        "import json, sys; from pathlib import Path; from dicomnode import metrics\n"
        "from dicomnode.synthesis.attempt import Cases\n"
        f"folder = Path({str(folder)!r}); metrics.keep_in(folder, 'synthesize'); cases = Cases(folder)\n"
        "for report in json.load(sys.stdin): cases.count(report)"
    )
    command = [sys.executable, "-c", program]
    subprocess.run(command, input=json.dumps(reports), text=True, check=True, timeout=60)
    text = health.exposition(folder, health.LiveValues(0.0, None, 0, 0)).decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_each_finding_is_shown_in_the_base_unit_of_what_it_measures(tmp_path: Path) -> None:
    found = counted(tmp_path, [{"scanner": "Aera", "protocol": "t1 vibe", "findings": FINDINGS}])
    where = {"scanner": "Aera", "protocol": "t1 vibe"}
    assert found["sct_node_finding_hounsfield"] == [({"finding": "soft_tissue_median", **where}, -12.5)]
    assert found["sct_node_finding_ratio"] == [({"finding": "bone_fraction", **where}, 0.08)]
    assert found["sct_node_finding_meters"] == [({"finding": "path_length", **where}, 0.003)]
    assert found["sct_node_cases_total"] == [(where, 1)]
    held = {labels["finding"] for labels, _ in found["sct_node_findings_total"] if labels["verdict"] == "review"}
    assert held == {"bone_fraction", "anatomy", "air_fraction"}


def test_the_last_case_is_shown_not_the_largest(tmp_path: Path) -> None:
    cases = [{"scanner": "Aera", "protocol": "t1", "findings": [FINDINGS[0] | {"value": hu}]} for hu in (50.0, -30.0)]
    [(_, value)] = counted(tmp_path, cases)["sct_node_finding_hounsfield"]
    assert value == -30.0


def test_the_names_of_scanners_and_protocols_are_bounded_over_restarts(tmp_path: Path) -> None:
    for start in range(3):
        cases = [
            {"scanner": f"Scanner {one % 4}", "protocol": f"protocol {start}-{one}", "findings": FINDINGS}
            for one in range(30)
        ]
        found = counted(tmp_path, cases)["sct_node_cases_total"]
    named = [labels for labels, _ in found if labels["scanner"] != "other"]
    assert len(named) == attempt.PAIRS
    assert {labels["protocol"]: value for labels, value in found}["other"] == 90 - attempt.PAIRS


def test_a_name_is_short_printable_and_on_one_line_and_what_is_missing_is_said(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [
        {"scanner": "A\nB\x00 \t C", "protocol": "x" * 500, "findings": []},
        {"scanner": None, "findings": []},
    ]
    found = counted(tmp_path, cases)["sct_node_cases_total"]
    assert ({"scanner": "A B C", "protocol": "x" * attempt.LONGEST}, 1) in found
    assert ({"scanner": "not named", "protocol": "not named"}, 1) in found
