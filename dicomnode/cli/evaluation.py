"""Doses on synthetic CT: prepares each patient, has the plans computed in an environment of its own, reports.

That environment (`make dose-env`) has another NumPy and none of this project, so a process of its Python runs
`pipeline/dose_plans.py` on files in a folder.

The commands that measure: synthetic against true CT (`evaluate`, `dose`), models against their cards.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np

from dicomnode.config.load import load
from dicomnode.errors import NodeError
from models.data.pairs import Pair, read_nifti
from models.evaluation import dose_report
from models.evaluation.figures import Album
from models.evaluation.report import EvaluationRequest, prepare
from models.measures.dose import PlanSettings, Target, contour_target, inserted, planning_body, sphere_target
from models.measures.similarity import Hu

PYTHON_VARIABLE: Final = "SCT_DOSE_PYTHON"
ENVIRONMENT: Final = ".venv-dose"
TIME_LIMIT_S: Final = 3600.0
"""For the plans of one patient."""

Say = Callable[[str], None]


class NoDoseEnvironment(NodeError):
    """pyRadPlan's environment is not there, or the planning failed in it."""


def python_of_environment() -> Path:
    """The Python that has pyRadPlan: `SCT_DOSE_PYTHON`, or `.venv-dose` beside this environment or in this folder.

    Raises:
        NoDoseEnvironment: there is none.
    """
    named = os.environ.get(PYTHON_VARIABLE)
    places = [Path(sys.prefix).parent, Path.cwd()]
    candidates = [Path(named)] if named else [place / ENVIRONMENT / "bin" / "python" for place in places]
    for path in candidates:
        if path.is_file():
            return path
    looked = " and ".join(str(path) for path in candidates)
    raise NoDoseEnvironment(
        f"sct-node dose needs pyRadPlan in an environment of its own, and none is at {looked}: "
        f"run `make dose-env`, or set {PYTHON_VARIABLE} to its Python"
    )


def plan(pair: Pair, target: Target, images: Mapping[str, Hu], settings: PlanSettings, python: Path) -> dict[str, Any]:
    """Plans on the CT, recomputed on each synthetic CT.

    Returns: `doses` (name -> Gy or gamma, see `pipeline.dose_plans`) and `result` (gamma pass rates, seconds,
    versions).

    Raises:
        NoDoseEnvironment: the planning process failed; its last words are in the sentence.
    """
    with tempfile.TemporaryDirectory(prefix="sct-dose-") as name:
        folder = Path(name)
        arrays = {f"sct_{place}": inserted(pair, hu) for place, hu in enumerate(images.values())}
        np.savez(
            folder / "case.npz",
            allow_pickle=False,
            ct=pair.hu.astype(np.float32),
            target=target.mask.astype(np.uint8),
            body=planning_body(pair).astype(np.uint8),
            spacing_mm=np.array(pair.spacing_mm),
            **arrays,
        )
        (folder / "settings.json").write_text(json.dumps(dataclasses.asdict(settings)), encoding="utf-8")
        _run(python, folder)
        with np.load(folder / "doses.npz") as doses:
            found = {key: doses[key] for key in doses.files}
        return {"doses": found, "result": json.loads((folder / "result.json").read_text(encoding="utf-8"))}


def _run(python: Path, folder: Path) -> None:
    """Run the planning; `-I` keeps this project's own modules and packages out of its way."""
    program = str(files("pipeline").joinpath("dose_plans.py"))
    environment = {**os.environ, "TQDM_DISABLE": "1", "MPLBACKEND": "Agg"}
    ended = subprocess.run(  # noqa: S603
        [str(python), "-I", program, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=TIME_LIMIT_S,
    )
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise NoDoseEnvironment(f"planning with {python} failed (exit status {ended.returncode}): {last[0]}")


def target_of(pair: Pair, targets: Path | None) -> Target:
    """The contour `NAME_target.nii.gz` of a folder where it is there, else a sphere in the body."""
    path = targets / f"{pair.name}_target.nii.gz" if targets else None
    if path is None or not path.is_file():
        return sphere_target(pair)
    return contour_target(pair, read_nifti(path)[0] > 0, path.name)


def dose_report_of(
    request: EvaluationRequest, targets: Path | None, into: Path, settings: PlanSettings, say: Say
) -> str:
    """Plan every patient, write `dose.csv`, `dose.md`, `dose.json`, PNGs and `dose.pdf`; returns the Markdown.

    Raises:
        NoDoseEnvironment: see `python_of_environment` and `plan`.
        ValueError: a pair, a method or a target cannot be used.
        OSError: the folder cannot be written.
    """
    python = python_of_environment()
    pairs, methods = prepare(request)
    into.mkdir(parents=True, exist_ok=True)
    rows, results, words = [], {}, {}
    with Album(into, "dose.pdf") as album:
        for place, pair in enumerate(pairs):
            images = {method.name: method.learned(pair)(pair) for method in methods}
            target = target_of(pair, targets)
            say(f"{pair.name}: {target.words}; planning")
            made = plan(pair, target, images, settings, python)
            doses, results[pair.name], words[pair.name] = made["doses"], made["result"], target.words
            gammas = {modality: made["result"][modality]["gamma"] for modality in settings.gantry_deg}
            rows += dose_report.rows_of(pair, target, images, doses, gammas, settings)
            if place < request.pictures:
                _draw(album, pair, target, images, doses, settings)
    dose_report.write_csv(rows, into / "dose.csv")
    text = dose_report.markdown(rows, settings, words)
    (into / "dose.md").write_text(text, encoding="utf-8")
    said = {"settings": dataclasses.asdict(settings), "targets": words, "planning": results}
    (into / "dose.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return text


def _draw(
    album: Album, pair: Pair, target: Target, images: Mapping[str, Hu], doses: Mapping[str, Any], settings: PlanSettings
) -> None:
    names = list(images)
    for modality in settings.gantry_deg:
        figure = dose_report.dose_slices(pair, target, modality, names, doses, settings)
        album.add(figure, f"{modality}_{pair.name}")
    album.add(dose_report.dvh_figure(pair, target, names, doses, settings), f"dvh_{pair.name}")
    album.add(dose_report.path_figure(pair, target, images), f"paths_{pair.name}")


def add_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """`evaluate` and `dose`; `add` makes a command with its help."""
    details = (
        "METHOD is NAME=SOURCE or SOURCE: an installed model, a folder with a card, a folder of NIfTI predictions "
        "(PATIENT.nii.gz), all-water, look-up-table, ct-moved-1-mm (the CT itself, smoothed and moved), or a YAML "
        "file that maps each patient to one of these (cross-validation). Scores are taken in the common body."
    )
    added = add(commands, "evaluate", _evaluate, "Measure synthetic against true CT", details, "json")
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
    added = add(commands, "dose", _dose, "Compare doses on synthetic and true CT", details)
    added.add_argument("methods", nargs="+", metavar="METHOD", help="what to compare with the CT")
    _add_pairs(added)
    added.add_argument("--out", type=Path, required=True, metavar="DIR", help="where tables and figures go")
    text = "folder with NAME_target.nii.gz; a sphere in the body is the target of patients without one"
    added.add_argument("--targets", type=Path, metavar="DIR", help=text)


def _add_pairs(added: argparse.ArgumentParser) -> None:
    """Options that say which patients, and of how many pictures are drawn."""
    text = "folder with NAME_mr.nii.gz and NAME_ct.nii.gz, or with the folders of SynthRAD 2023 or 2025"
    added.add_argument("--pairs", type=Path, required=True, metavar="DIR", help=text)
    text = "names separated by commas (default: every pair of the folder)"
    added.add_argument("--patients", default="", metavar="NAMES", help=text)
    text = "slice,row,column: resample the pairs to this spacing first (default: their own)"
    added.add_argument("--spacing-mm", type=_spacing, metavar="S,R,C", help=text)
    text = "patients of whom pictures are drawn (default: 3)"
    added.add_argument("--pictures", type=int, default=3, metavar="N", help=text)


def _spacing(text: str) -> tuple[float, float, float]:
    """`3.27,0.977,0.977` -> mm; ValueError, which argparse tells, for anything else."""
    step, row, column = (float(part) for part in text.split(","))
    return step, row, column


def _evaluate(given: argparse.Namespace) -> int:
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


def _dose(given: argparse.Namespace) -> int:
    config = load(given.config)
    from dicomnode.cli.evaluation import dose_report_of
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
    sys.stdout.write(dose_report_of(request, given.targets, given.out, PlanSettings(), _tell))
    return 0


def _patients(given: argparse.Namespace) -> tuple[str, ...]:
    return tuple(filter(None, given.patients.split(",")))


def _tell(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()


def verify(as_json: bool) -> int:
    """Try every installed model. -> the exit status, 1 if any is not what its card says."""
    from models.inference.card import installed
    from models.inference.verify import problems_of

    found = {card.name: problems_of(card) for card in installed()}
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for name, problems in found.items():
            print(f"{name:<20} {'; '.join(problems) or 'is what its card says, and computes as it did'}")
    return int(any(found.values()))
