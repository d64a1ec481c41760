"""Fit a model's uncertainty estimator to its errors, and compare the expected errors with the real ones.

Errors are those on the training patients as they are. Copies whose contrast was changed beyond the training's made
muscle bone (mean error 350 to 430 HU of a whole patient) and taught that of every patient; what is strange is the
novelty's to tell. Whatever is said of a training patient, curve, map or novelty, comes from a network that learned from
others only.

`draw` shows how well the expected errors agree, from the figures of a card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import optimize, stats

from models.data.pairs import Pair
from models.data.recipe import Recipe
from models.inference.uncertainty import FLOOR_HU, SHARES, UncertaintyEstimator, measures_by_slab
from models.inference.weights import CROP_MARGIN, Prediction, bounding_box

Figures = dict[str, Any]

VOXELS: Final = 30_000
"""Of a patient's body, drawn at random: as many as are learned from."""
BATCH: Final = 4096
LEARNING_RATE: Final = 3e-3
FOLDS: Final = 5
BINS: Final = 10


@dataclass(frozen=True)
class Example:
    """A model's prediction from an MR and its error; all (S, R, C), of the box that the networks saw.

    Attributes:
        name: of the patient.
        mr: normalised, as the networks saw it.
        hu: of the synthetic CT.
        error: absolute, in HU.
        body: where both MR and CT show the patient.
    """

    name: str
    mr: NDArray[np.float32]
    hu: NDArray[np.float32]
    error: NDArray[np.float32]
    body: NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """Measures (voxels, MEASURES) and absolute errors in HU (voxels,) of voxels drawn from a patient's body."""

    name: str
    measures: torch.Tensor
    error: torch.Tensor


def example_of(pair: Pair, made: Prediction) -> Example:
    """The errors of a prediction of a pair's MR."""
    box = bounding_box(made.body, CROP_MARGIN)
    error = np.abs(made.hu - pair.hu.astype(np.float32))
    return Example(pair.name, made.mr[box], made.hu[box], error[box], pair.body[box])


def sample_of(example: Example, seed: int) -> Sample:
    """Voxels of an example's body, drawn by the seed."""
    inside = np.flatnonzero(example.body)
    drawn = np.random.default_rng([seed, 3000]).permutation(inside)[:VOXELS]
    chosen = np.zeros(example.body.shape, dtype=bool)
    chosen.ravel()[drawn] = True
    where = torch.from_numpy(chosen)
    slabs = measures_by_slab(torch.from_numpy(example.mr), torch.from_numpy(example.hu))
    measures = torch.cat([found[:, where[slices]].T for slices, found in slabs])
    return Sample(example.name, measures, torch.from_numpy(example.error)[where])


def fit_estimator(
    architecture: Mapping[str, Any], samples: Sequence[Sample], steps: int, seed: int
) -> UncertaintyEstimator:
    """Minimise the squared error of log(|error| + 5 HU), and remember the measures.

    Args:
        architecture: keyword arguments of `UncertaintyEstimator`.
        samples: of the training patients.
        steps: of 4096 voxels each.
        seed: of weights and draws.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        estimator = UncertaintyEstimator(**architecture)
    measures = torch.cat([sample.measures for sample in samples])
    wanted = (torch.cat([sample.error for sample in samples]) + FLOOR_HU).log()
    estimator.remember(measures)
    torch.nn.init.constant_(_last_bias(estimator), float(wanted.mean()))
    optimiser = torch.optim.AdamW(estimator.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(wanted), (BATCH,), generator=draws)
        loss = (estimator.log_error(measures[chosen]) - wanted[chosen]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(estimator.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return estimator.eval().requires_grad_(False)


def _last_bias(estimator: UncertaintyEstimator) -> torch.Tensor:
    last = estimator.layers[-1]
    assert isinstance(last, torch.nn.Linear)
    return last.bias


@dataclass(frozen=True)
class Held:
    """A patient, and an estimator that was fitted to others."""

    sample: Sample
    estimator: UncertaintyEstimator


def held_out(architecture: Mapping[str, Any], samples: Sequence[Sample], steps: int, seed: int) -> list[Held]:
    """Return every patient with an estimator fitted to others: five folds of patients; a single patient has its own."""
    held = []
    count = min(FOLDS, len(samples))
    for fold in range(count):
        away = samples[fold::count]
        others = [sample for sample in samples if all(sample is not one for one in away)]
        estimator = fit_estimator(architecture, others or away, steps, seed)
        held += [Held(sample, estimator) for sample in away]
    return held


@torch.inference_mode()
def calibrate(estimator: UncertaintyEstimator, held: Sequence[Held]) -> None:
    """Fit the map from what a network says to the SD: bin by bin, made to rise by isotonic regression."""
    said = torch.cat([one.estimator.log_error(one.sample.measures) for one in held]).numpy()
    error = torch.cat([one.sample.error for one in held]).numpy()
    edges = np.round(np.array(SHARES[1:-1]) * said.size).astype(int)
    parts = np.split(np.argsort(said, kind="stable"), edges)
    middles = [said[part].mean() for part in parts]
    found = [_root_mean_square(error[part]) for part in parts]
    rising = optimize.isotonic_regression(found, weights=[part.size for part in parts]).x
    estimator.calibrate(torch.tensor(middles, dtype=torch.float32), torch.from_numpy(rising).float())


def _root_mean_square(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


@dataclass(frozen=True)
class Curve:
    """Expected SD against real error in HU.

    Attributes:
        expected: root mean square of the SD in each of `BINS` bins of equal counts, from the surest to the least sure.
        found: root mean square of the errors in each bin.
        ence: expected normalised calibration error, the mean of |found - expected| / expected (Levi et al. 2022).
    """

    expected: tuple[float, ...]
    found: tuple[float, ...]
    ence: float


def curve_of(sd: NDArray[np.floating], error: NDArray[np.floating]) -> Curve:
    """The calibration curve of SD and absolute errors, each (voxels,)."""
    parts = np.array_split(np.argsort(sd, kind="stable"), min(BINS, sd.size))
    expected, found = ([round(_root_mean_square(one[part]), 2) for part in parts] for one in (sd, error))
    ence = float(np.mean([abs(f - e) / max(e, 1e-6) for f, e in zip(found, expected, strict=True)]))
    return Curve(tuple(expected), tuple(found), round(ence, 4))


@dataclass(frozen=True)
class PatientCalibration:
    """Expected and real errors of one patient.

    Attributes:
        name: of the patient.
        spearman: rank correlation of SD and absolute error, voxel by voxel; NaN where either is the same everywhere.
        mean_sd: of the SD in HU.
        mae: mean absolute error in HU.
        expected: root mean square of the SD in HU.
        found: root mean square of the errors in HU.
        ence: of the patient's own curve.
        novelty: of the MR.
    """

    name: str
    spearman: float
    mean_sd: float
    mae: float
    expected: float
    found: float
    ence: float
    novelty: float


@torch.inference_mode()
def calibration_of(estimator: UncertaintyEstimator, sample: Sample) -> PatientCalibration:
    """Compare the expected errors of one patient with the real ones."""
    sd, error = estimator.sd(sample.measures).numpy(), sample.error.numpy()
    varied = np.ptp(sd) > 0 and np.ptp(error) > 0
    rank = float(stats.spearmanr(sd, error).statistic) if varied else float("nan")
    sizes = (sd.mean(), error.mean(), _root_mean_square(sd), _root_mean_square(error))
    mean_sd, mae, expected, found = (round(float(size), 1) for size in sizes)
    ence, novelty = curve_of(sd, error).ence, float(estimator.squared_distances(sample.measures).mean())
    return PatientCalibration(
        sample.name, round(rank, 3), mean_sd, mae, expected, found, round(ence, 3), round(novelty, 2)
    )


@torch.inference_mode()
def factor_of(estimator: UncertaintyEstimator, samples: Sequence[Sample]) -> float:
    """The factor on every SD with which the errors of these patients are as large as expected: geometric mean.

    It is 1 at the least: that a few patients kept back err less than the training patients is chance.
    """
    ratios = [
        _root_mean_square(one.error.numpy()) / _root_mean_square(estimator.sd(one.measures).numpy()) for one in samples
    ]
    return max(1.0, float(estimator.factor) * float(np.exp(np.mean(np.log(np.maximum(ratios, 1e-3))))))


@torch.inference_mode()
def judged(held: Sequence[Held]) -> tuple[list[PatientCalibration], Curve]:
    """Each patient, and the curve of all together."""
    sd = np.concatenate([one.estimator.sd(one.sample.measures).numpy() for one in held])
    error = np.concatenate([one.sample.error.numpy() for one in held])
    return [calibration_of(one.estimator, one.sample) for one in held], curve_of(sd, error)


def fitted(learned: Sequence[Example], kept: Sequence[Example], recipe: Recipe) -> tuple[UncertaintyEstimator, Figures]:
    """Fit the estimator of a finished model, and return it with its figures for the card (see `figures_of`).

    Args:
        learned: of the training patients.
        kept: of the patients kept back.
        recipe: with its `uncertainty` and its seed.
    """
    assert recipe.uncertainty is not None
    training, validation = ([sample_of(one, recipe.seed) for one in examples] for examples in (learned, kept))
    return fitted_to(training, validation, recipe.uncertainty, recipe.seed)


def fitted_to(
    learned: Sequence[Sample], kept: Sequence[Sample], settings: Mapping[str, Any], seed: int
) -> tuple[UncertaintyEstimator, Figures]:
    """Fit an estimator to samples, and return it with its figures.

    Network and map learn from the training patients alone. The factor comes from the patients kept back, whom the model
    never saw; the figures of each of these are computed with the factor of the others, and those of the training
    patients, each with the network and the map of the other folds, without it.

    Args:
        learned: of the training patients.
        kept: of the patients kept back.
        settings: the recipe's `uncertainty`.
        seed: of weights and draws.
    """
    architecture = {name: value for name, value in settings.items() if name != "steps"}
    estimator = fit_estimator(architecture, learned, int(settings["steps"]), seed)
    held = held_out(architecture, learned, int(settings["steps"]), seed)
    calibrate(estimator, held)
    for fold in {id(one.estimator): one.estimator for one in held}.values():
        calibrate(fold, [one for one in held if one.estimator is not fold] or held)
    training, curve = judged(held)
    validation = []
    for one in kept:
        estimator.factor.fill_(1.0)
        estimator.factor.fill_(factor_of(estimator, [other for other in kept if other is not one] or kept))
        validation.append(calibration_of(estimator, one))
    estimator.factor.fill_(1.0)
    estimator.factor.fill_(factor_of(estimator, kept))
    return estimator, figures_of(estimator, training, validation, curve)


def figures_of(
    estimator: UncertaintyEstimator,
    training: Sequence[PatientCalibration],
    validation: Sequence[PatientCalibration],
    curve: Curve,
) -> Figures:
    """For the card: by patient, and the rank correlations over all patients, of the means and of the mean squares."""
    every = [*training, *validation]
    means = stats.spearmanr([one.mean_sd for one in every], [one.mae for one in every]).statistic
    squares = stats.spearmanr([one.expected for one in every], [one.found for one in every]).statistic
    return {
        "factor": round(float(estimator.factor), 4),
        "spearman_voxels": {
            name: round(float(np.nanmean([one.spearman for one in some])), 3) if some else None
            for name, some in (("training", training), ("kept_back", validation))
        },
        "spearman_patients": {"mean": round(float(means), 3), "mean_square": round(float(squares), 3)},
        "curve": asdict(curve),
        "training": [asdict(one) for one in training],
        "kept_back": [asdict(one) for one in validation],
    }


DOTS_PER_INCH: Final = 110
GROUPS: Final = {"training": "training, judged by other folds", "kept_back": "kept back"}
"""Key of the figures -> words of the legend."""


def draw(figures: Mapping[str, Any], picture: Path) -> None:
    """A PNG: error by expected SD of voxels and of patients, and each patient's rank correlation.

    Args:
        figures: `uncertainty` of a card's figures (`figures_of`).
        picture: file to write.
    """
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    curve, patients, ranks = figure.subplots(1, 3)
    _draw_curve(curve, figures["curve"])
    for key, words in GROUPS.items():
        found: Sequence[Mapping[str, Any]] = figures[key]
        patients.plot([one["expected"] for one in found], [one["found"] for one in found], "o", label=words)
        ranks.plot([one["novelty"] for one in found], [one["spearman"] for one in found], "o", label=words)
    patients.set(xlabel="expected SD (HU)", ylabel="root mean square error (HU)", title="By patient")
    ranks.set(xlabel="novelty", ylabel="Spearman, SD and error by voxel", title="By patient")
    ranks.set_ylim(0, 1)
    patients.legend(fontsize=7)
    figure.savefig(picture, dpi=DOTS_PER_INCH, metadata={"Software": None})


def _draw_curve(axes: Axes, curve: Mapping[str, Any]) -> None:
    top = 1.05 * max(*curve["expected"], *curve["found"])
    axes.plot([0, top], [0, top], color="grey", linewidth=0.8, label="as expected")
    axes.plot(curve["expected"], curve["found"], "o-", label="training, judged by other folds")
    axes.set(xlabel="expected SD (HU)", ylabel="root mean square error (HU)", title=f"ENCE {curve['ence']:.2f}")
    axes.legend(fontsize=7)
