"""The commands that measure: synthetic against true CT (`evaluate`, `dose`), models against their cards."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dicomnode.cli.printing import print_json
from dicomnode.config.load import load


def add_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `evaluate` and `dose`; `add` makes a command with its help."""
    details = (
        "METHOD is NAME=SOURCE or SOURCE: an installed model, a folder with a card, a folder of NIfTI predictions "
        "(PATIENT.nii.gz), all-water, look-up-table, ct-moved-1-mm (the CT itself, smoothed and moved), or a YAML "
        "file that maps each patient to one of these (cross-validation). Scores are taken in the common body."
    )
    added = add(commands, "evaluate", evaluate, "Measure synthetic against true CT", details, "json")
    added.add_argument("methods", nargs="+", metavar="METHOD", help="what to measure")
    _add_pairs(added)
    added.add_argument("--out", type=Path, required=True, metavar="DIR", help="where tables and figures go")
    text = "method that the others are tested against (default: the first)"
    added.add_argument("--reference", default="", metavar="NAME", help=text)
    text = "challenge whose range PSNR has: 2023 -1024..3000 HU, 2025 -1024..3071 HU (default: 2023)"
    added.add_argument("--range", type=int, choices=(2023, 2025), default=2023, dest="year", help=text)
    added.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: 0)")
    text = "YAML file, patient: group, for tables by group (default: the regions of SynthRAD's names)"
    added.add_argument("--groups", type=Path, metavar="FILE", help=text)
    text = "STEPSxSAMPLES, such as 1x1,4x1,20x1,1x4: the error against sampler steps and averaged samples too"
    added.add_argument("--sampling", default="", metavar="LIST", help=text)

    details = (
        "Photon and proton plans are optimised on the CT and recomputed on the synthetic CT. METHOD: see evaluate. "
        "Needs an environment of its own: make dose-env. Minutes a patient."
    )
    added = add(commands, "dose", compare_doses, "Compare doses on synthetic and true CT", details)
    added.add_argument("methods", nargs="+", metavar="METHOD", help="what to compare with the CT")
    _add_pairs(added)
    added.add_argument("--out", type=Path, required=True, metavar="DIR", help="where tables and figures go")
    text = "folder with NAME_target.nii.gz; a sphere in the body is the target of patients without one"
    added.add_argument("--targets", type=Path, metavar="DIR", help=text)


def _add_pairs(added: argparse.ArgumentParser) -> None:
    """Add the options that say which patients, and of how many of them pictures are drawn."""
    text = "folder with NAME_mr.nii.gz and NAME_ct.nii.gz, or with the folders of SynthRAD 2023 or 2025"
    added.add_argument("--pairs", type=Path, required=True, metavar="DIR", help=text)
    text = "names separated by commas (default: every pair of the folder)"
    added.add_argument("--patients", default="", metavar="NAMES", help=text)
    text = "slice,row,column: resample the pairs to this spacing first (default: their own)"
    added.add_argument("--spacing-mm", type=spacing_mm, metavar="S,R,C", help=text)
    text = "patients of whom pictures are drawn (default: 3)"
    added.add_argument("--pictures", type=int, default=3, metavar="N", help=text)


def spacing_mm(text: str) -> tuple[float, float, float]:
    """Read `3.27,0.977,0.977`: slice, row and column (mm). Raises ValueError, which argparse reports."""
    step, row, column = (float(part) for part in text.split(","))
    return step, row, column


def evaluate(given: argparse.Namespace) -> int:
    """Measure synthetic against true CT, print and write the tables; return the exit status."""
    config = load(given.config)
    from models.evaluation.report import EvaluationRequest, report
    from models.evaluation.sampler_settings import read_settings
    from models.inference.weights import pick_device

    request = EvaluationRequest(
        given.pairs,
        _patients(given),
        tuple(given.methods),
        given.reference,
        given.year,
        given.seed,
        given.pictures,
        config.device,
        given.spacing_mm,
        given.groups,
        read_settings(given.sampling),
    )
    on_cpu = pick_device(config.device).type == "cpu"
    report(request, given.out, time.process_time if on_cpu else time.perf_counter)
    written = given.out / ("evaluation.json" if given.json else "tables.md")
    sys.stdout.write(written.read_text(encoding="utf-8"))
    return 0


def compare_doses(given: argparse.Namespace) -> int:
    """Plan on the true CT, recompute on the synthetic CT, print and write the tables; return the exit status."""
    config = load(given.config)
    from dicomnode.cli.dose import dose_report_of
    from models.evaluation.report import EvaluationRequest
    from models.measures.dose import PlanSettings

    request = EvaluationRequest(
        given.pairs,
        _patients(given),
        tuple(given.methods),
        pictures=given.pictures,
        device=config.device,
        spacing_mm=given.spacing_mm,
    )
    say = partial(print, file=sys.stderr, flush=True)
    sys.stdout.write(dose_report_of(request, given.targets, given.out, PlanSettings(), say))
    return 0


def _patients(given: argparse.Namespace) -> tuple[str, ...]:
    """Return the names of `--patients`; none means all."""
    return tuple(filter(None, given.patients.split(",")))


def verify(as_json: bool) -> int:
    """Compare every installed model with its card, and print what differs; return 1 if anything does, else 0."""
    from models.inference.card import installed
    from models.inference.verify import problems_of

    found = {card.name: problems_of(card) for card in installed()}
    if as_json:
        print_json(found)
    else:
        for name, problems in found.items():
            print(f"{name:<20} {'; '.join(problems) or 'is what its card says, and computes as it did'}")
    return int(any(found.values()))
