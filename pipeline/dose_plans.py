"""Dose plans made on the CT and recomputed on synthetic CT, with pyRadPlan and PyMedPhys.

    python dose_plans.py FOLDER

The script reads `case.npz` and `settings.json` of the folder and writes `doses.npz` and `result.json`. The Python of
`make dose-env` runs it; the script imports nothing of this project, which that environment lacks (its NumPy and pydicom
are older). Arrays are (slice, row, column), LPS, in HU and Gy.

    case.npz       ct, sct_0, sct_1, ... (HU), target, body (0 or 1), spacing_mm (slice, row, column)
    settings.json  see `models.measures.dose.PlanSettings`
    doses.npz      <modality>_ct, <modality>_sct_0, ... (Gy over all fractions); <modality>_sct_0_gamma_2_1, ...: gamma
    result.json    gamma pass rates in %, seconds of each step, versions
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pymedphys
import SimpleITK
from numpy.typing import NDArray
from pyRadPlan import (
    IonPlan,
    PhotonPlan,
    calc_dose_forward,
    calc_dose_influence,
    fluence_optimization,
    generate_stf,
    validate_cst,
    validate_ct,
)
from pyRadPlan.cst import validate_voi
from pyRadPlan.optimization.objectives import MeanDose, SquaredDeviation, SquaredOverdosing

Floats = NDArray[np.float64]
MAX_GAMMA = 1.1
"""Largest gamma index that is searched for: points beyond 1 fail anyway."""


def image_of(values: NDArray[Any], spacing_mm: NDArray[np.float64]) -> SimpleITK.Image:
    """Return an image along the patient's axes, with its first voxel at 0."""
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing([float(step) for step in spacing_mm[::-1]])
    return image


def patient_of(hu: NDArray[np.float32], case: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]) -> Any:
    """Return a CT, and its structures with their objectives."""
    ct = validate_ct(cube_hu=image_of(hu.astype(np.float64), case["spacing_mm"]))
    dose_gy = settings["prescription_gy"]
    aims = {
        "target": ("TARGET", [SquaredDeviation(d_ref=dose_gy, priority=1000.0)]),
        "body": ("EXTERNAL", [SquaredOverdosing(d_max=dose_gy / 2, priority=10.0), MeanDose(priority=1.0)]),
    }
    structures = [
        validate_voi(
            name=name,
            voi_type=kind,
            mask=image_of(case[name].astype(np.uint8), case["spacing_mm"]),
            ct_image=ct,
            objectives=objectives,
        )
        for name, (kind, objectives) in aims.items()
    ]
    return ct, validate_cst(vois=structures, ct_image=ct)


def plan_of(modality: str, settings: Mapping[str, Any]) -> Any:
    """Return a plan on the generic machine of a modality."""
    plan = PhotonPlan(machine="Generic") if modality == "photons" else IonPlan(radiation_mode=modality)
    angles = settings["gantry_deg"][modality]
    plan.num_of_fractions = settings["fractions"]
    plan.prescribed_dose = settings["prescription_gy"]
    plan.prop_stf = {
        "gantry_angles": angles,
        "couch_angles": [0.0] * len(angles),
        "bixel_width": settings["spot_mm"],
    }
    plan.prop_dose_calc = {"dose_grid": {"resolution": dict.fromkeys("xyz", settings["dose_grid_mm"])}}
    return plan


def dose_of(quantities: Mapping[str, Any]) -> Floats:
    """Return the physical dose in Gy on the CT's grid."""
    return np.asarray(SimpleITK.GetArrayFromImage(quantities["physical_dose"]), dtype=np.float64)


def gamma_of(dose: Floats, reference: Floats, spacing_mm: Floats, criterion: Mapping[str, float], cut: float) -> Floats:
    """Return the global gamma index at each voxel of the reference dose (doi:10.1118/1.598248); NaN below the cut."""
    axes = tuple(np.arange(length) * step for length, step in zip(dose.shape, spacing_mm, strict=True))
    return np.asarray(
        pymedphys.gamma(
            axes,
            reference,
            axes,
            dose,
            criterion["percent"],
            criterion["mm"],
            lower_percent_dose_cutoff=cut,
            max_gamma=MAX_GAMMA,
            skip_once_passed=True,
        )
    )


def passing(gamma: Floats) -> float:
    """Return which percentage of the voxels with a gamma index pass."""
    known = gamma[~np.isnan(gamma)]
    return float(100 * (known <= 1).mean()) if known.size else float("nan")


class StepSeconds:
    """Seconds by step: `with watch("optimise"): ...`.

    `pipeline.conversion.Stopwatch` does the same, but this script cannot import it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Measure the time of a step."""
        begun = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - begun, 2)


def run(folder: Path) -> None:
    """Plan each modality on the CT, recompute the dose on every synthetic CT, and compare."""
    settings = json.loads((folder / "settings.json").read_text())
    case = dict(np.load(folder / "case.npz"))
    doses: dict[str, NDArray[np.float32]] = {}
    result: dict[str, Any] = {"versions": {name: version(name) for name in ("pyradplan", "pymedphys", "numpy")}}
    for modality in settings["gantry_deg"]:
        result[modality] = run_modality(modality, case, settings, doses)
    np.savez(folder / "doses.npz", allow_pickle=False, **doses)
    (folder / "result.json").write_text(json.dumps(result, indent=2))


def run_modality(
    modality: str, case: Mapping[str, NDArray[Any]], settings: Mapping[str, Any], doses: dict[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """Return gamma pass rates, seconds and number of spots of one plan; add its dose on every image to `doses`."""
    watch, plan = StepSeconds(), plan_of(modality, settings)
    ct, structures = patient_of(case["ct"], case, settings)
    with watch("fields"):
        fields = generate_stf(ct, structures, plan)
    with watch("influence"):
        influence = calc_dose_influence(ct, structures, fields, plan)
    with watch("optimise"):
        weights = fluence_optimization(ct, structures, fields, influence, plan)
    gammas: dict[str, dict[str, float]] = {}
    for name in ("ct", *sorted(name for name in case if name.startswith("sct_"))):
        with watch(f"dose {name}"):
            dose = dose_of(calc_dose_forward(*patient_of(case[name], case, settings), fields, plan, weights))
        doses[f"{modality}_{name}"] = dose.astype(np.float32)
        if name == "ct":
            reference = dose
            continue
        gammas[name] = {}
        for criterion in settings["gamma"]:
            label = f"{criterion['percent']:g}/{criterion['mm']:g}"
            with watch(f"gamma {label} {name}"):
                index = gamma_of(dose, reference, case["spacing_mm"], criterion, settings["gamma_cut_percent"])
            gammas[name][label] = passing(index)
            doses[f"{modality}_{name}_gamma_{label.replace('/', '_')}"] = index.astype(np.float32)
    return {"gamma": gammas, "seconds": watch.seconds, "spots": int(np.size(weights))}


if __name__ == "__main__":
    run(Path(sys.argv[1]))
