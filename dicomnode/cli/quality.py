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

from dicomnode.cli.printing import print_json
from dicomnode.config.load import load
from dicomnode.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable


def add_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands `constancy` and `report`; `add` makes a command with its help."""
    details = (
        "What comes out is compared with the reference of these weights on this device; exit status 1 when it differs "
        "(constancy.hu, constancy.mm). The run is kept with those of the workers."
    )
    added = add(commands, "constancy", check_constancy, "Send a phantom through the whole chain", details, "json")
    text = "installed model, or a folder with a card and weights (default: the configuration's)"
    added.add_argument("--model", metavar="NAME", help=text)
    text = "make what comes out the reference from now on"
    added.add_argument("--accept", action="store_true", help=text)
    text = "who accepts or asks; kept with the run (default: the user of this machine)"
    added.add_argument("--by", metavar="NAME", default=None, help=text)

    details = "Of a job, or of all jobs of some time. Without a patient's name or ID, unless --named is given."
    added = add(commands, "report", report, "Write a report as PDF", details, "json")
    added.add_argument("job", metavar="JOB", nargs="?", help="the job's key, or its first characters (at least 6)")
    text = "report all jobs since so many hours, days or weeks ago, such as 30d: numbers, times, findings, drift"
    added.add_argument("--since", metavar="SPAN", help=text)
    text = "where it goes (default: report-JOB.pdf or programme-DATE.pdf in this folder)"
    added.add_argument("--out", type=Path, metavar="FILE", help=text)
    text = "say in the report of a job whom it is about: name, ID and date of birth as the MR has them"
    added.add_argument("--named", action="store_true", help=text)


def check_constancy(given: argparse.Namespace) -> int:
    """Send the phantom through the chain and keep the run in the ledger, where a node has one; return 1 if it fails."""
    config = load(given.config)
    from dicomnode.ledger.ledger import existing
    from dicomnode.quality import constancy, constancy_runs
    from models.inference.weights import load_model

    by = f"cli:{given.by or getpass.getuser()}"
    model = load_model(given.model or config.model, config.device)
    outcome = constancy.accept(model, config, by) if given.accept else constancy.check(model, config)
    name, digest = model.card.name, model.card.digest
    try:
        ledger = existing(config)
        ledger.create()
        constancy_runs.end(ledger.engine, constancy_runs.begin(ledger.engine, by, name, digest), outcome)
        ledger.close()
    except NodeError as error:
        print(f"the run is not kept: {error}", file=sys.stderr)
    if given.json:
        measured = None if outcome.measured is None else json.loads(outcome.measured)
        print_json({"model": name, **dataclasses.asdict(outcome), "measured": measured})
    else:
        print(f"{'passed' if outcome.passed else 'FAILED'}: {name} on {outcome.device}: {outcome.sentence}")
    return 0 if outcome.passed else 1


def report(given: argparse.Namespace) -> int:
    """Write the report of a job, or of all jobs of some time, as PDF; return the exit status."""
    if (given.job is None) == (given.since is None):
        raise ValueError("sct-node report takes a JOB, or --since SPAN")
    config = load(given.config)
    from dicomnode.cases.report import case_of
    from dicomnode.ledger.ledger import existing
    from dicomnode.quality import programme, programme_report
    from dicomnode.spool.spool import Spool
    from pipeline.report import case_report

    ledger, spool = existing(config), Spool(config.node.data)
    if given.since is None:
        row = ledger.job(given.job)
        case = case_of(ledger, spool, row, named=given.named)
        name, written = f"report-{row.job[:12]}.pdf", case_report.pdf_of(case)
        content = {"job": row.job, "findings": list(case.findings)}
    else:
        until = datetime.datetime.now(datetime.UTC)
        found = programme.programme_of(ledger, spool, until - programme.span_of(given.since), until)
        written = programme_report.pdf_of(found, config.node.ae_title)
        name, content = f"programme-{until:%Y-%m-%d}.pdf", programme.numbers(found)
    path = given.out or Path(name)
    path.write_bytes(written)
    if given.json:
        print_json({"file": str(path), **content})
    else:
        print(path)
    return 0
