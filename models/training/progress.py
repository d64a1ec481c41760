"""The validation error of a training at chosen steps, so that methods can be compared at equal steps.

Steps are counted over all stages. What is measured is the running average of the weights, as the product predicts with
it; the time that this takes is no training time. The error chooses nothing: no checkpoint is taken because of it.

The curves of a training: one CSV a stage, and one picture of them all.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.data.pairs import Pair
from models.data.recipe import Recipe
from models.inference.weights import Model
from models.training import validation
from models.training.checkpoint import StageProgress, Training, card_of

FILE: Final = "milestones.csv"


@dataclass(frozen=True)
class Milestones:
    """Those within one stage of a training.

    Attributes:
        training: that goes on meanwhile.
        stage: its name.
        patients: kept back for validation.
    """

    training: Training
    stage: str
    patients: Sequence[Pair]

    @property
    def path(self) -> Path:
        """The CSV of the whole training, one line a milestone."""
        return self.training.recipe.run / FILE

    @cached_property
    def before(self) -> list[StageProgress]:
        """Return the stages before this one."""
        stages = list(self.training.recipe.stages)
        return [self.training.progress_of(name) for name in stages[: stages.index(self.stage)]]

    def step(self, progress: StageProgress) -> int:
        """Steps of all stages up to a moment of this one."""
        return sum(one.step for one in self.before) + progress.step

    def forget_after(self, progress: StageProgress) -> None:
        """Take out what was measured beyond the moment at which the training is taken up again."""
        forget_after(self.path, self.step(progress))

    def pass_by(self, progress: StageProgress) -> bool:
        """Measure and write, where this step is a milestone; says whether it was one."""
        training, step = self.training, self.step(progress)
        if step not in training.recipe.milestones or not training.networks.translates(self.stage):
            return False
        model = Model(card_of(training.recipe), training.average.eval(), training.device)
        scores = validation.scores_of(self.patients, lambda pair: validation.predicted(model, None, None, pair))
        minutes = sum(one.minutes for one in self.before) + progress.minutes
        record(self.path, {"step": step, "minutes": minutes, **validation.mean_of(scores)})
        return True


def milestones_of(recipe: Recipe) -> list[dict[str, float]]:
    """Return the milestones of a training for its card."""
    path = recipe.run / FILE
    columns = read(path) if path.is_file() else {}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def record(path: Path, row: Mapping[str, float]) -> None:
    """Append a row of named numbers to a CSV, with the names above the first."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(row)
        writer.writerow([f"{value:.6g}" for value in row.values()])


def read(path: Path) -> dict[str, list[float]]:
    """Columns of a CSV by name."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def forget_after(path: Path, step: int) -> None:
    """Take out the rows beyond a step: the training goes on from there and will write them again."""
    if not path.exists():
        return
    columns = read(path)
    path.unlink()
    for number, at in enumerate(columns.get("step", [])):
        if at <= step:
            record(path, {name: values[number] for name, values in columns.items()})


def draw(paths: Sequence[Path], picture: Path) -> None:
    """A PNG with one panel a CSV: every loss against the steps, logarithmic."""
    found = [path for path in paths if path.exists()]
    if not found:
        return
    figure = Figure(figsize=(6 * len(found), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, path in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        columns = read(path)
        for name in set(columns) - {"step", "minutes", "rate"}:
            values = np.array(columns[name])
            axes.plot(columns["step"], np.where(values > 0, values, np.nan), label=name)
        axes.set(title=path.stem, xlabel="step", ylabel="loss", yscale="log")
        axes.legend()
    figure.savefig(picture, dpi=100)
