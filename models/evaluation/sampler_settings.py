"""Error against sampler steps and averaged samples: what one more step, or one more sample, buys and costs.

The seed of the first sample is 0 in every setting. A method without a sampler has no steps, but its samples, which see
the MR mirrored, are averaged too.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from models.data.pairs import Pair
from models.evaluation.evaluate import MEASURES, BadMethod, Clock, Method
from models.measures import similarity

MEASURED: Final = ("mae", "mae_soft", "mae_bone", "psnr", "ssim", "seconds")
"""Of `MEASURES`: what takes little time to measure."""
WITH_SAMPLER: Final = "ldm"
"""The method whose cards say how many steps its sampler takes."""


@dataclass(frozen=True, order=True)
class Setting:
    """Sampler steps, and samples averaged."""

    steps: int
    samples: int


@dataclass(frozen=True)
class Point:
    """One method in one setting: each of `MEASURED`, a value a patient."""

    method: str
    setting: Setting
    values: dict[str, list[float]]

    def mean(self, measure: str) -> float:
        """Over the patients that have the measure; NaN where none has."""
        known = [value for value in self.values[measure] if np.isfinite(value)]
        return float(np.mean(known)) if known else float("nan")


def read_settings(text: str) -> tuple[Setting, ...]:
    """Read pairs of sampler steps and samples from a text such as `1x1,20x1,4x4`.

    Raises:
        ValueError: the text has another form, or a number is below 1.
    """
    settings = []
    for part in filter(None, text.split(",")):
        steps, _, samples = part.partition("x")
        if not (steps.isdecimal() and samples.isdecimal() and int(steps) and int(samples)):
            raise ValueError(f"must be STEPSxSAMPLES such as 1x1,20x1,4x4, found {part!r}")
        settings.append(Setting(int(steps), int(samples)))
    return tuple(settings)


def measure(
    make: Callable[[Setting], Sequence[Method]],
    settings: Sequence[Setting],
    pairs: Sequence[Pair],
    psnr_range: tuple[float, float],
    clock: Clock,
) -> list[Point]:
    """Every setting of every method that has cards, on every patient.

    Args:
        make: the methods in a setting.
        settings: steps and samples; of a method without sampler those of one step.
        pairs: patients.
        psnr_range: of PSNR in HU.
        clock: for the seconds a volume.

    Raises:
        BadMethod: a method has no prediction for a patient.
    """
    points = []
    for setting in settings:
        for method in make(setting):
            samples = any(card.method == WITH_SAMPLER for card in method.cards)
            if method.cards and (samples or setting.steps == 1):
                points.append(_point(method, setting, pairs, psnr_range, clock))
    if settings and not points:
        raise BadMethod("--sampling: none of the methods is a model that could take steps or samples")
    return points


def _point(
    method: Method, setting: Setting, pairs: Sequence[Pair], psnr_range: tuple[float, float], clock: Clock
) -> Point:
    values: dict[str, list[float]] = {name: [] for name in MEASURED}
    for pair in pairs:
        translate = method.learned(pair)
        begun = clock()
        hu = translate(pair)
        truth = pair.hu.astype(np.float32)
        scores = {"seconds": clock() - begun, **similarity.score(hu, truth, pair.body)}
        scores["psnr"] = similarity.psnr(hu, truth, pair.body, psnr_range)
        for name in MEASURED:
            values[name].append(scores[name])
    return Point(method.name, setting, values)


def write_csv(points: Iterable[Point], path: Path) -> None:
    """One line a method and setting: means over the patients, heads with their units."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "sampler steps", "samples", *(MEASURES[name].title for name in MEASURED)])
        for point in points:
            means = (f"{point.mean(name):.6g}" for name in MEASURED)
            writer.writerow([point.method, point.setting.steps, point.setting.samples, *means])


def curve(points: Sequence[Point], shown: Sequence[str] = ("mae", "mae_bone")) -> Figure:
    """One panel a measure: its mean against the sampler steps, a line for each method and number of samples."""
    figure = Figure(figsize=(5 * len(shown), 3.8), layout="constrained")
    lines = sorted({(point.method, point.setting.samples) for point in points})
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for method, samples in lines:
            found = sorted(
                (point.setting.steps, point.mean(name))
                for point in points
                if (point.method, point.setting.samples) == (method, samples)
            )
            words = f"{method}, {samples} sample{'s' * (samples > 1)}"
            axes.plot([steps for steps, _ in found], [value for _, value in found], "o-", markersize=4, label=words)
        axes.set(xlabel="sampler steps", ylabel=MEASURES[name].title, xscale="log")
        steps = sorted({point.setting.steps for point in points})
        axes.set_xticks(steps, list(map(str, steps)))
        axes.minorticks_off()
    axes.legend(fontsize=7)
    return figure
