"""Tables and pictures of doses: CSV by patient, method and modality; Markdown; slices, histograms and path lengths."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.data.pairs import Pair
from models.evaluation.statistics import summary
from models.measures.dose import Dose, PlanSettings, Target, dose_measures, dvh_curve, inserted
from models.measures.path_length import RAYS, compare_paths, gantry_angles, path_lengths_mm
from models.measures.similarity import Hu

COLUMNS: Final[Mapping[str, tuple[str, int]]] = {
    "dose_mae_percent": ("dose MAE (% of prescription)", 2),
    "difference_d98_percent": ("ΔD98 (% of prescription)", 2),
    "difference_d2_percent": ("ΔD2 (% of prescription)", 2),
    "difference_dmean_percent": ("ΔDmean (% of prescription)", 2),
    "difference_v95_percent": ("ΔV95 (% of volume)", 2),
    "gamma_3_3": ("gamma 3 %/3 mm (%)", 2),
    "gamma_2_2": ("gamma 2 %/2 mm (%)", 2),
    "gamma_2_1": ("gamma 2 %/1 mm (%)", 2),
}
"""Measures of the doses in the Markdown table: title and digits. The CSV has the DVH points of both images as well."""
PATHS: Final[Mapping[str, tuple[str, int]]] = {
    "wepl_mean_mm": ("mean absolute difference (mm)", 2),
    "wepl_worst_mm": ("largest difference (mm)", 2),
    "wepl_worst_percent": ("largest difference (%)", 2),
    "wepl_bias_mm": ("mean difference (mm)", 2),
}
CURVE_POINTS: Final = 300


@dataclass(frozen=True)
class DoseRow:
    """Measures of one patient under one method; `modality` is `photons`, `protons`, or `paths` for path lengths."""

    patient: str
    method: str
    modality: str
    scores: Mapping[str, float]


def rows_of(
    pair: Pair,
    target: Target,
    images: Mapping[str, Hu],
    doses: Mapping[str, Dose],
    gammas: Mapping[str, Mapping[str, Mapping[str, float]]],
    settings: PlanSettings,
) -> list[DoseRow]:
    """Return all dose measures of a patient.

    Args:
        pair: the patient.
        target: where the plan aims.
        images: HU by method, in the order of the planning's `sct_0`, `sct_1`, ...
        doses: `<modality>_ct` and `<modality>_sct_<n>`, Gy.
        gammas: modality -> `sct_<n>` -> criterion (`3/3`) -> percent that pass.
        settings: of the plans.
    """
    rows = []
    for place, (name, hu) in enumerate(images.items()):
        for modality in settings.gantry_deg:
            found, true = doses[f"{modality}_sct_{place}"], doses[f"{modality}_ct"]
            scores = dose_measures(found, true, target.mask, settings.prescription_gy)
            passed = gammas[modality][f"sct_{place}"]
            scores |= {f"gamma_{label.replace('/', '_')}": rate for label, rate in passed.items()}
            rows.append(DoseRow(pair.name, name, modality, scores))
        paths = compare_paths(*path_pair(pair, hu, target))
        scores = {f"wepl_{key}": value for key, value in dataclasses.asdict(paths).items()}
        rows.append(DoseRow(pair.name, name, "paths", scores))
    return rows


def path_pair(pair: Pair, hu: Hu, target: Target) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Water-equivalent path lengths in mm to the target's centre, in a synthetic CT and in the CT, over 72 rays."""
    found = path_lengths_mm(inserted(pair, hu), pair.spacing_mm, target.centre)
    return found, path_lengths_mm(pair.hu, pair.spacing_mm, target.centre)


def write_csv(rows: Sequence[DoseRow], path: Path) -> None:
    """One line a measure: long, because photons, protons and paths have different ones; the unit ends each name."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "method", "modality", "measure", "value"])
        writer.writerows(
            [row.patient, row.method, row.modality, name, f"{value:.6g}"]
            for row in rows
            for name, value in row.scores.items()
        )


def markdown(rows: Sequence[DoseRow], settings: PlanSettings, targets: Mapping[str, str]) -> str:
    """Tables by modality, mean and SD over patients; and what the plans were."""
    parts = ["# Dose on synthetic CT\n", _preamble(settings, targets)]
    for modality in settings.gantry_deg:
        parts += [f"## {modality.capitalize()}\n", _table(rows, modality, COLUMNS)]
    parts += [
        "## Water-equivalent path length\n",
        f"To the target's centre, {RAYS} rays in its axial plane; synthetic CT against CT.\n",
        _table(rows, "paths", PATHS),
    ]
    return "\n".join(parts)


def _preamble(settings: PlanSettings, targets: Mapping[str, str]) -> str:
    fields = "; ".join(
        f"{modality} from {', '.join(f'{angle:g}' for angle in angles)} degrees"
        for modality, angles in settings.gantry_deg.items()
    )
    aims = "; ".join(f"{name}: {words}" for name, words in targets.items())
    return (
        f"Plans of {settings.prescription_gy:g} Gy in {settings.fractions} fractions, optimised on the CT and "
        f"recomputed on the synthetic CT with the same weights (pyRadPlan, generic machines): {fields}; physical dose, "
        f"{settings.dose_grid_mm:g} mm grid. Outside the body common to MR and CT the synthetic CT has the CT's HU. "
        f"Dose MAE where the CT's dose is at least 90 % of the prescription. Gamma global, cut at "
        f"{settings.gamma_cut_percent:g} % of the maximum. Mean ± SD over patients; Δ is synthetic CT less CT.\n\n"
        f"Targets: {aims}.\n"
    )


def _table(rows: Sequence[DoseRow], modality: str, columns: Mapping[str, tuple[str, int]]) -> str:
    chosen = [row for row in rows if row.modality == modality]
    lines = [["method", *(title for title, _ in columns.values())], ["---", *["---:"] * len(columns)]]
    for method in dict.fromkeys(row.method for row in chosen):
        cells = [method]
        for name, (_, digits) in columns.items():
            found = summary([row.scores.get(name, float("nan")) for row in chosen if row.method == method], seed=0)
            spread = f" ± {found.sd:.{digits}f}" if found.n > 1 else ""
            cells.append(f"{found.mean:.{digits}f}{spread}" if found.n else "none")
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


# Pictures


def dose_slices(
    pair: Pair, target: Target, modality: str, names: Sequence[str], doses: Mapping[str, Dose], settings: PlanSettings
) -> Figure:
    """Dose on the CT, difference of each method's, and where gamma 2 %/1 mm fails, in the target's central slice."""
    step, limit = round(target.centre[0]), settings.prescription_gy
    figure = Figure(figsize=(2.6 * (1 + len(names)), 5.4), layout="constrained")
    figure.suptitle(f"{pair.name}, {modality}, axial slice {step}", fontsize=10)
    panels = figure.subplots(2, 1 + len(names), squeeze=False)
    aspect = pair.spacing_mm[1] / pair.spacing_mm[2]
    for axes in panels.ravel():
        axes.set_axis_off()
        axes.imshow(pair.hu[step], cmap="gray", vmin=-250, vmax=650, aspect=aspect)
        axes.contour(target.mask[step], levels=[0.5], colors="cyan", linewidths=0.8)
    reference = doses[f"{modality}_ct"][step]
    seen = np.ma.masked_less(reference, 0.1 * limit)
    shown = panels[0, 0].imshow(seen, cmap="inferno", vmin=0, vmax=1.1 * limit, alpha=0.7, aspect=aspect)
    panels[0, 0].set_title("dose on CT", fontsize=8)
    figure.colorbar(shown, ax=panels[:, 0], label="Gy", shrink=0.6)
    for place, name in enumerate(names):
        difference = 100 * (doses[f"{modality}_sct_{place}"][step] - reference) / limit
        seen = np.ma.masked_inside(difference, -0.2, 0.2)
        shown = panels[0, place + 1].imshow(seen, cmap="RdBu_r", vmin=-5, vmax=5, alpha=0.8, aspect=aspect)
        panels[0, place + 1].set_title(name, fontsize=8)
        failing = np.ma.masked_less_equal(doses[f"{modality}_sct_{place}_gamma_2_1"][step], 1)
        panels[1, place + 1].imshow(failing, cmap="autumn", alpha=0.9, aspect=aspect)
        panels[1, place + 1].set_title("gamma 2 %/1 mm fails", fontsize=8)
    figure.colorbar(shown, ax=panels[:, 1:], label="sCT - CT (% of prescription)", shrink=0.6)
    return figure


def dvh_figure(
    pair: Pair, target: Target, names: Sequence[str], doses: Mapping[str, Dose], settings: PlanSettings
) -> Figure:
    """Dose-volume histograms of the target: CT in black, each method in a colour, one panel a modality."""
    figure = Figure(figsize=(4.6 * len(settings.gantry_deg), 3.6), layout="constrained")
    figure.suptitle(f"{pair.name}, target", fontsize=10)
    grid_gy = np.linspace(0, 1.2 * settings.prescription_gy, CURVE_POINTS)
    for axes, modality in zip(
        figure.subplots(1, len(settings.gantry_deg), squeeze=False)[0], settings.gantry_deg, strict=True
    ):
        axes.plot(grid_gy, dvh_curve(doses[f"{modality}_ct"], target.mask, grid_gy), color="black", label="CT")
        for place, name in enumerate(names):
            curve = dvh_curve(doses[f"{modality}_sct_{place}"], target.mask, grid_gy)
            axes.plot(grid_gy, curve, linewidth=1, label=name)
        axes.set(xlabel="dose (Gy)", ylabel="volume (%)", title=modality, xlim=(0.8 * settings.prescription_gy, None))
        axes.legend(fontsize=7)
    return figure


def path_figure(pair: Pair, target: Target, images: Mapping[str, Hu]) -> Figure:
    """Difference of the water-equivalent path length by gantry angle."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    figure.suptitle(f"{pair.name}, water-equivalent path to the target's centre", fontsize=10)
    axes = figure.subplots()
    for name, hu in images.items():
        found, true = path_pair(pair, hu, target)
        axes.plot(gantry_angles(), found - true, linewidth=1, label=name)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xlabel="gantry angle (degrees)", ylabel="sCT - CT (mm)")
    axes.legend(fontsize=7)
    return figure
