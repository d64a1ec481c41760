"""The commands of quality assurance: `constancy`, and `report` of a job or of a programme."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import getpass
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomnode.config.load import load
from dicomnode.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicomnode.config.load import Config
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.quality.constancy_runs import Outcome
    from dicomnode.spool.spool import Spool


def add_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Both; `add` makes a command with its help."""
    details = (
        "What comes out is compared with the reference of these weights on this device; exit status 1 when it differs "
        "(constancy.hu, constancy.mm). The run is kept with those of the workers."
    )
    added = add(commands, "constancy", _constancy, "Send a phantom through the whole chain", details, "json")
    text = "installed model, or a folder with a card and weights (default: the configuration's)"
    added.add_argument("--model", metavar="NAME", help=text)
    text = "make what comes out the reference from now on"
    added.add_argument("--accept", action="store_true", help=text)
    text = "who accepts or asks; kept with the run (default: the user of this machine)"
    added.add_argument("--by", metavar="NAME", default=None, help=text)

    details = "Of a job, or of all jobs of some time. Without a patient's name or ID, unless --named is given."
    added = add(commands, "report", _report, "Write a report as PDF", details, "json")
    added.add_argument("job", metavar="JOB", nargs="?", help="the job's key, or its first characters (at least 6)")
    text = "report all jobs since so many hours, days or weeks ago, such as 30d: numbers, times, findings, drift"
    added.add_argument("--since", metavar="SPAN", help=text)
    text = "where it goes (default: report-JOB.pdf or programme-DATE.pdf in this folder)"
    added.add_argument("--out", type=Path, metavar="FILE", help=text)
    text = "say in the report of a job whom it is about: name, ID and date of birth as the MR has them"
    added.add_argument("--named", action="store_true", help=text)


def _constancy(given: argparse.Namespace) -> int:
    config = load(given.config)
    from dicomnode.quality import constancy
    from models.inference.weights import load_model

    by = f"cli:{given.by or getpass.getuser()}"
    model = load_model(given.model or config.model, config.device)
    name = model.card.name
    outcome = constancy.accept(model, config, by) if given.accept else constancy.check(model, config)
    _keep(config, by, name, model.card.digest, outcome)
    if given.json:
        print(json.dumps(_plain(name, outcome), indent=2))
    else:
        print(f"{'passed' if outcome.passed else 'FAILED'}: {name} on {outcome.device}: {outcome.sentence}")
    return 0 if outcome.passed else 1


def _keep(config: Config, by: str, name: str, digest: str, outcome: Outcome) -> None:
    """The run in the ledger, where a node has one."""
    from dicomnode.ledger.ledger import existing
    from dicomnode.quality import constancy_runs

    try:
        ledger = existing(config)
    except NodeError as error:
        print(f"the run is not kept: {error}", file=sys.stderr)
        return
    ledger.create()
    constancy_runs.end(ledger.engine, constancy_runs.begin(ledger.engine, by, name, digest), outcome)
    ledger.close()


def _plain(name: str, outcome: Outcome) -> dict[str, Any]:
    measured = None if outcome.measured is None else json.loads(outcome.measured)
    return {"model": name, **dataclasses.asdict(outcome), "measured": measured}


def _report(given: argparse.Namespace) -> int:
    if (given.job is None) == (given.since is None):
        raise ValueError("sct-node report takes a JOB, or --since SPAN")
    config = load(given.config)
    from dicomnode.ledger.ledger import existing
    from dicomnode.spool.spool import Spool

    ledger, spool = existing(config), Spool(config.node.data)
    return _of_job(given, ledger, spool) if given.since is None else _of_span(given, ledger, spool, config)


def _of_job(given: argparse.Namespace, ledger: Ledger, spool: Spool) -> int:
    """The report of one job."""
    from dicomnode.cases.report import case_of
    from pipeline.report.case_report import pdf_of

    row = ledger.job(given.job)
    case = case_of(ledger, spool, row, named=given.named)
    return _write(given, f"report-{row.job[:12]}.pdf", pdf_of(case), {"job": row.job, "findings": list(case.findings)})


def _of_span(given: argparse.Namespace, ledger: Ledger, spool: Spool, config: Config) -> int:
    """The report of all jobs of some time."""
    from dicomnode.quality.programme import numbers, programme_of, span_of
    from dicomnode.quality.programme_report import pdf_of

    until = datetime.datetime.now(datetime.UTC)
    programme = programme_of(ledger, spool, until - span_of(given.since), until)
    written = pdf_of(programme, config.node.ae_title)
    return _write(given, f"programme-{until:%Y-%m-%d}.pdf", written, numbers(programme))


def _write(given: argparse.Namespace, name: str, written: bytes, told: dict[str, Any]) -> int:
    """The PDF into its file; its path, or as JSON what it tells."""
    path = given.out or Path(name)
    path.write_bytes(written)
    print(json.dumps({"file": str(path), **told}, indent=2) if given.json else path)
    return 0
