"""Rules in a running node: real pushes by storescu, one series converted to one destination, one ignored."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
import torch

from dicomnode.cli import main
from dicomnode.cli.explain import explain
from dicomnode.config.load import Config, Rule, RuleAction
from dicomnode.config.peers import Destination
from dicomnode.config.rule_conditions import When
from dicomnode.ledger.ledger import IGNORED_BY_RULE
from dicomnode.ledger.states import State
from models.inference.card import ModelCard, find
from models.inference.weights import save_model
from models.networks.latent_diffusion import LatentDiffusion

Node = Callable[..., Any]


@pytest.fixture
def other_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A second model with other weights."""
    card = find(str(tiny_model))
    torch.manual_seed(1)
    folder = tmp_path / "other-model"
    folder.mkdir()
    values = {**vars(card), "name": "other", "digest": "0" * 64}
    save_model(LatentDiffusion(**card.architecture), ModelCard(**values), folder)
    return folder


def described(paths: list[Path], description: str) -> list[Path]:
    """The files with another SeriesDescription."""
    for path in paths:
        image = pydicom.dcmread(path)
        image.SeriesDescription = description
        image.save_as(path)
    return paths


def test_one_series_goes_to_one_destination_by_one_model_and_another_is_ignored(
    node: Node,
    planning: Any,
    other_model: Path,
    another_series: Callable[..., list[Path]],
    program: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted, scout = described(another_series(1), "T1 thigh"), described(another_series(2), "Scout 3 planes")
    archive = Destination("archive", "NOBODY", "127.0.0.1", 1)
    rules = (
        Rule("scouts", When.of({"SeriesDescription": "scout*"}, "when"), None),
        Rule(
            "thigh T1",
            When.of({"CallingAE": "mr_*", "SeriesDescription": "t1*"}, "when"),
            RuleAction(model=str(other_model), destinations=("planning",)),
        ),
    )
    running = node(planning.destination, archive, rules=rules)
    running.start()

    def storescu(paths: list[Path]) -> None:
        peer = ["-aet", "MR_1", "-aec", running.config.node.ae_title, "127.0.0.1", str(running.config.node.port)]
        subprocess.run([program("storescu"), *peer, *map(str, paths)], check=True, timeout=60)

    with planning.up():
        storescu(scout)
        ignored = running.job(State.REJECTED)
        storescu(wanted)
        made = running.job(State.DELIVERED, number=2)

    assert (ignored.rule, ignored.reason_code, ignored.model) == ("scouts", IGNORED_BY_RULE, "")
    assert (made.rule, made.model, made.destinations) == ("thigh T1", str(other_model), ("planning",))
    assert made.model_digest == find(str(other_model)).digest
    assert [one.destination for one in running.ledger.deliveries(made.job)] == ["planning"]
    assert planning.series() == {made.ct_series_uid}
    assert not (running.config.node.data / "out" / ignored.job).exists()

    storescu(scout)
    running.until(lambda: not running.ledger.receiving(), "the same scout again is let go")
    assert len(running.ledger.jobs()) == 2

    shown = pages(running.config, made.job)
    assert "rule 'scouts' takes it: the series is ignored" in shown["/"]
    assert 'sct_node_rules_total{action="ignore",rule="scouts"} 1.0' in shown["/metrics"]
    assert 'sct_node_rules_total{action="convert",rule="thigh T1"} 1.0' in shown["/metrics"]
    assert "<dt>Rule</dt><dd>thigh T1</dd>" in shown[f"/jobs/{made.job}"]
    assert "<dt>Goes to</dt><dd>planning</dd>" in shown[f"/jobs/{made.job}"]
    assert main.main(["jobs", "--json", "--config", str(running.folder / "node.yaml")]) == 0
    listed = {row["rule"]: row for row in json.loads(capsys.readouterr().out)}
    assert listed["scouts"]["reason_code"] == IGNORED_BY_RULE
    assert listed["thigh T1"]["destinations"] == ["planning"]
    assert listed["thigh T1"]["settings"]["anatomy_check"] == "hold"

    found, _ = explain([*wanted, *scout], "MR_1", running.config)
    assert sorted((one["rule"], one["action"]) for one in found) == [("scouts", "ignore"), ("thigh T1", "convert")]


def pages(config: Config, job: str) -> dict[str, str]:
    """The web pages that a person looks at."""
    told = {}
    for path in ("/", "/metrics", f"/jobs/{job}"):
        port = config.metrics.port if path == "/metrics" else config.web.port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            told[path] = answer.read().decode().replace("&#39;", "'")
    return told
