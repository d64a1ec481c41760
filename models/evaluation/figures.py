"""Pictures of an evaluation, as in the paper's figures 2 to 7: examples, error maps, profiles, boxes, tissues, HU.

Each function draws one figure; `Album` keeps them as PNG and as pages of one PDF, the same bytes for the same numbers.
Images are axial slices: anterior up, the patient's left on the right.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.data.pairs import Pair
from models.evaluation.evaluate import MEASURES
from models.evaluation.statistics import stars
from models.evaluation.tables import Evaluation
from models.measures.similarity import SOFT_HU, TISSUES, Hu

HU_WINDOW: Final = (-250.0, 650.0)
"""HU shown as black and as white."""
ERROR_HU: Final = 300.0
"""Error in HU that has the deepest colour, red for too high, blue for too low."""
DOTS_PER_INCH: Final = 110
HU_BINS: Final = [float(edge) for edge in range(-1000, 1601, 20)]


class Album:
    """A folder of PNG files and one PDF with the same figures as its pages, in the order in which they were added."""

    def __init__(self, folder: Path, name: str = "figures.pdf") -> None:
        self.folder = folder
        self.pages = PdfPages(folder / name, metadata={"CreationDate": None, "Creator": None, "Producer": None})

    def add(self, figure: Figure, name: str) -> None:
        """Keep a figure as `name.png` and as the next page."""
        figure.savefig(self.folder / f"{name}.png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        self.pages.savefig(figure)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pages.close()


def _figure(width: float, height: float, title: str) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure


# One patient


def most_bone(pair: Pair) -> tuple[int, int]:
    """(slice, row) of the axial slice with the most bone and of the row with the most bone in it."""
    bone = pair.body & (pair.hu > SOFT_HU[1])
    where = bone if bone.any() else pair.body
    step = int(where.sum(axis=(1, 2)).argmax())
    return step, int(where[step].sum(axis=1).argmax())


def examples(pair: Pair, images: Mapping[str, Hu]) -> Figure:
    """MR, CT and every method in the slice with the most bone; below each method its error in the common body."""
    step, row = most_bone(pair)
    figure = _figure(2.1 * (2 + len(images)), 4.9, f"{pair.name}, axial slice {step}; dashed: line of the profile")
    panels = figure.subplots(2, 2 + len(images), squeeze=False)
    aspect = pair.spacing_mm[1] / pair.spacing_mm[2]
    for axes in panels.ravel():
        axes.set_axis_off()
    panels[0, 0].imshow(pair.mr[step].astype(np.float32), cmap="gray", vmin=0, vmax=1.2, aspect=aspect)
    panels[0, 0].set_title("MR", fontsize=8)
    shown_above: dict[str, NDArray[np.floating]] = {"CT": pair.hu.astype(np.float32), **images}
    for axes, (name, hu) in zip(panels[0, 1:], shown_above.items(), strict=True):
        shown = axes.imshow(hu[step], cmap="gray", vmin=HU_WINDOW[0], vmax=HU_WINDOW[1], aspect=aspect)
        axes.axhline(row, color="yellow", linewidth=0.6, linestyle="--")
        axes.set_title(name, fontsize=8)
    figure.colorbar(shown, ax=list(panels[0]), label="HU", shrink=0.8)
    for axes, hu in zip(panels[1, 2:], images.values(), strict=True):
        error = np.where(pair.body[step], hu[step] - pair.hu[step], 0.0)
        shown = axes.imshow(error, cmap="RdBu_r", vmin=-ERROR_HU, vmax=ERROR_HU, aspect=aspect)
        axes.set_title(f"|error| {np.abs(error[pair.body[step]]).mean():.0f} HU", fontsize=8)
    figure.colorbar(shown, ax=list(panels[1]), label="sCT - CT (HU)", shrink=0.8)
    return figure


def profile(
    pair: Pair, hu: NDArray[np.floating] | NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions in mm from the first voxel and HU, along the row with the most bone, towards the patient's left."""
    step, row = most_bone(pair)
    values = hu[step, row].astype(np.float64)
    return np.arange(values.size) * pair.spacing_mm[2], values


def profiles(pair: Pair, images: Mapping[str, Hu]) -> Figure:
    """HU of CT and of every method along one line through bone."""
    step, row = most_bone(pair)
    figure = _figure(8, 3.6, f"{pair.name}, slice {step}, row {row}")
    axes = figure.subplots()
    axes.plot(*profile(pair, pair.hu), color="black", linewidth=1.6, label="CT")
    for name, hu in images.items():
        axes.plot(*profile(pair, hu), linewidth=0.9, label=name)
    axes.set(xlabel="position towards the patient's left (mm)", ylabel="HU")
    axes.legend(fontsize=7)
    return figure


def write_profiles_csv(pair: Pair, images: Mapping[str, Hu], path: Path) -> None:
    """The numbers of `profiles`: one line a position."""
    columns: dict[str, NDArray[np.floating]] = {"CT": pair.hu.astype(np.float32), **images}
    positions = profile(pair, pair.hu)[0]
    values = [profile(pair, image)[1] for image in columns.values()]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["position (mm)", *(f"{name} (HU)" for name in columns)])
        writer.writerows([f"{value:.4g}" for value in line] for line in zip(positions, *values, strict=True))


# All patients


def boxes(evaluation: Evaluation, measures: Sequence[str] = ("mae", "psnr", "ssim", "ms_ssim")) -> Figure:
    """Box plots by method, a dot a patient; stars of the uncorrected t-test against the reference."""
    title = f"{len(evaluation.patients)} patients; stars: paired t-test against {evaluation.reference}, uncorrected"
    figure = _figure(3.1 * len(measures), 4.2, title)
    marks = {(one.measure, one.method): stars(one.comparison.t_p) for one in evaluation.tests()}
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        columns = [
            [value for value in evaluation.values(method, measure) if np.isfinite(value)]
            for method in evaluation.methods
        ]
        axes.boxplot(columns, showfliers=False, medianprops={"color": "black"})
        for place, (values, method) in enumerate(zip(columns, evaluation.methods, strict=True), start=1):
            axes.plot([place] * len(values), values, "o", markersize=3, alpha=0.6)
            if values:
                axes.annotate(marks.get((measure, method), ""), (place, max(values)), ha="center", va="bottom")
        axes.set_title(MEASURES[measure].title, fontsize=9)
        axes.set_xticks(range(1, len(columns) + 1), list(evaluation.methods), rotation=60, fontsize=7, ha="right")
    return figure


def tissue_bars(evaluation: Evaluation) -> Figure:
    """Mean and SD over patients of MAE and bias, by tissue of the CT and by method."""
    figure = _figure(10, 6, "Error by tissue of the CT: mean and SD over patients")
    for axes, kind in zip(figure.subplots(2, 1), ("mae", "bias"), strict=True):
        width = 0.8 / len(evaluation.methods)
        for place, method in enumerate(evaluation.methods):
            found = [evaluation.summary(method, f"{kind}_{tissue}") for tissue in TISSUES]
            centres = np.arange(len(TISSUES)) + (place + 0.5) * width - 0.4
            errors = np.nan_to_num([one.sd for one in found])
            axes.bar(centres, np.nan_to_num([one.mean for one in found]), width, yerr=errors, label=method)
        axes.set_xticks(range(len(TISSUES)), TISSUES)
        axes.set_ylabel(f"{'MAE' if kind == 'mae' else 'bias'} (HU)")
        axes.axhline(0, color="black", linewidth=0.6)
    axes.legend(fontsize=7, ncols=4)
    return figure


def differences(evaluation: Evaluation, measure: str = "mae") -> Figure:
    """Difference from the reference by method with its bootstrap interval, a dot a patient."""
    others = [one for one in evaluation.tests() if one.measure == measure]
    figure = _figure(7, 1.2 + 0.5 * max(len(others), 1), f"{MEASURES[measure].title}: less that of its reference")
    axes = figure.subplots()
    reference = np.array(evaluation.values(evaluation.reference, measure))
    for place, one in enumerate(others):
        by_patient = np.array(evaluation.values(one.method, measure)) - reference
        axes.plot(by_patient, [place] * by_patient.size, "o", markersize=3, alpha=0.6)
        axes.plot([one.comparison.low, one.comparison.high], [place + 0.25] * 2, color="black")
        axes.plot(one.comparison.difference, place + 0.25, "D", color="black", markersize=4)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_yticks(range(len(others)), [one.method for one in others], fontsize=8)
    axes.set_xlabel(f"{MEASURES[measure].title}, method less {evaluation.reference}")
    return figure


def no_counts() -> NDArray[np.float64]:
    """Return empty counts."""
    return np.zeros((len(HU_BINS) - 1,) * 2)


def hu_counts(pair: Pair, hu: Hu) -> NDArray[np.float64]:
    """Voxels of the common body by HU of the CT (first axis) and of a synthetic CT, in bins of 20 HU."""
    first, second = (np.clip(image[pair.body].astype(np.float64), HU_BINS[0], HU_BINS[-1]) for image in (pair.hu, hu))
    return np.asarray(np.histogram2d(first, second, bins=np.array(HU_BINS))[0])


def hu_agreement(counts: Mapping[str, NDArray[np.float64]]) -> Figure:
    """HU of synthetic against true CT over all patients by method, voxels counted on a logarithmic scale."""
    figure = _figure(2.6 * len(counts), 3.2, "Voxels of the common body, all patients")
    for axes, (name, table) in zip(figure.subplots(1, len(counts), squeeze=False)[0], counts.items(), strict=True):
        _joint(axes, table)
        axes.set_title(name, fontsize=8)
    return figure


def _joint(axes: Axes, table: NDArray[np.float64]) -> None:
    low, high = HU_BINS[0], HU_BINS[-1]
    axes.imshow(np.log1p(table.T), origin="lower", extent=(low, high, low, high), cmap="viridis")
    axes.plot([low, high], [low, high], color="white", linewidth=0.6)
    axes.set(xlabel="CT (HU)", ylabel="sCT (HU)")
    axes.tick_params(labelsize=6)
