"""The validation error of a training at chosen steps, so that methods can be compared at equal steps.

Steps are counted over all stages. What is measured is the running average of the weights, as the product predicts with
it; the time that this takes is no training time. The error chooses nothing: no checkpoint is taken because of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from models.data.pairs import Pair
from models.data.recipe import Recipe
from models.inference.weights import Model
from models.training import curves, validation
from models.training.checkpoint import Progress, Training, card_of

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
    def before(self) -> list[Progress]:
        """The stages before this one."""
        stages = list(self.training.recipe.stages)
        return [self.training.progress_of(name) for name in stages[: stages.index(self.stage)]]

    def step(self, progress: Progress) -> int:
        """Steps of all stages up to a moment of this one."""
        return sum(one.step for one in self.before) + progress.step

    def forget_after(self, progress: Progress) -> None:
        """Take out what was measured beyond the moment at which the training is taken up again."""
        curves.forget_after(self.path, self.step(progress))

    def pass_by(self, progress: Progress) -> bool:
        """Measure and write, where this step is a milestone; says whether it was one."""
        training, step = self.training, self.step(progress)
        if step not in training.recipe.milestones or not training.networks.translates(self.stage):
            return False
        model = Model(card_of(training.recipe), training.average.eval(), training.device)
        scores = validation.scores_of(self.patients, lambda pair: validation.predicted(model, None, None, pair))
        minutes = sum(one.minutes for one in self.before) + progress.minutes
        curves.record(self.path, {"step": step, "minutes": minutes, **validation.mean_of(scores)})
        return True


def milestones_of(recipe: Recipe) -> list[dict[str, float]]:
    """What was measured on a training's way, for its card."""
    path = recipe.run / FILE
    columns = curves.read(path) if path.is_file() else {}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
