"""Doses on synthetic CT: the plans of each patient are computed in an environment of its own, and reported.

That environment (`make dose-env`) has another NumPy and none of this project, so a process of its Python runs
`pipeline/dose_plans.py` on files in a folder.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np

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
"""Time limit for the plans of one patient."""

Say = Callable[[str], None]


class NoDoseEnvironment(NodeError):
    """pyRadPlan's environment is not there, or the planning failed in it."""


def python_of_environment() -> Path:
    """Return the Python that has pyRadPlan: `SCT_DOSE_PYTHON`, or `.venv-dose` beside this environment or here.

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
    """Plan on the CT and recompute the plans on each synthetic CT.

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
        run_planning(python, folder)
        with np.load(folder / "doses.npz") as doses:
            found = {key: doses[key] for key in doses.files}
        return {"doses": found, "result": json.loads((folder / "result.json").read_text(encoding="utf-8"))}


def run_planning(python: Path, folder: Path) -> None:
    """Run the planning on the files of a folder; `-I` keeps this project's modules and packages out of its path.

    Raises:
        NoDoseEnvironment: it failed; its last words are in the sentence.
    """
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
    """Return the contour `NAME_target.nii.gz` of a folder where it exists, else a sphere in the body."""
    path = targets / f"{pair.name}_target.nii.gz" if targets else None
    if path is None or not path.is_file():
        return sphere_target(pair)
    return contour_target(pair, read_nifti(path)[0] > 0, path.name)


def dose_report_of(
    request: EvaluationRequest, targets: Path | None, into: Path, settings: PlanSettings, say: Say
) -> str:
    """Plan every patient, write `dose.csv`, `dose.md`, `dose.json`, PNGs and `dose.pdf`; return the Markdown.

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
                names = list(images)
                for modality in settings.gantry_deg:
                    figure = dose_report.dose_slices(pair, target, modality, names, doses, settings)
                    album.add(figure, f"{modality}_{pair.name}")
                album.add(dose_report.dvh_figure(pair, target, names, doses, settings), f"dvh_{pair.name}")
                album.add(dose_report.path_figure(pair, target, images), f"paths_{pair.name}")
    dose_report.write_csv(rows, into / "dose.csv")
    text = dose_report.markdown(rows, settings, words)
    (into / "dose.md").write_text(text, encoding="utf-8")
    record = {"settings": dataclasses.asdict(settings), "targets": words, "planning": results}
    (into / "dose.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return text
