"""Cost of a training, and error at equal steps and at equal time, from the cards of a method's models.

Of a cross-validation, means over the folds' cards. Steps are the optimiser's over all stages, minutes those of
`recipe.Stage`: the processor's on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from models.inference.card import ModelCard

SHOWN: Final = {"mae": "MAE (HU)", "mae_bone": "MAE bone (HU)"}
"""Of a milestone's scores, with their heads."""


@dataclass(frozen=True)
class Effort:
    """Steps and minutes of all stages of a training; some minutes are missing where it is not `complete`."""

    steps: float
    minutes: float
    complete: bool = True


def effort_of(cards: Sequence[ModelCard]) -> Effort | None:
    """The mean over the cards; None where one does not say it, or there is none."""
    trainings = [card.figures.get("training", {}) for card in cards]
    if not trainings or not all(trainings):
        return None
    stages = [stage for training in trainings for stage in training.values()]
    steps, minutes = (sum(stage[key] or 0.0 for stage in stages) / len(cards) for key in ("steps", "minutes"))
    return Effort(steps, minutes, all(stage["minutes"] is not None for stage in stages))


def milestones_of(cards: Sequence[ModelCard]) -> dict[int, dict[str, float]]:
    """Scores and minutes by step, means over the cards; only steps that every card has."""
    by_card = [{int(row["step"]): row for row in card.figures.get("milestones", [])} for card in cards]
    common = sorted(set.intersection(*(set(one) for one in by_card))) if by_card else []
    return {
        step: {
            key: float(np.mean([one[step][key] for one in by_card]))
            for key in ("minutes", *SHOWN)
            if all(key in one[step] for one in by_card)
        }
        for step in common
    }


def table(cards_of: Mapping[str, Sequence[ModelCard]]) -> list[list[str]]:
    """Head and lines, one a step: of each method the error and the minutes until then; nothing without milestones."""
    found = {name: milestones for name, cards in cards_of.items() if (milestones := milestones_of(cards))}
    steps = sorted({step for milestones in found.values() for step in milestones})
    if not steps:
        return []
    heads = ["steps", *(f"{name}: MAE (HU) after minutes" for name in found)]
    return [heads, *([str(step), *(_cell(one.get(step)) for one in found.values())] for step in steps)]


def _cell(row: Mapping[str, float] | None) -> str:
    return "" if row is None else f"{row['mae']:.1f} after {row['minutes']:.1f}"


def curves(cards_of: Mapping[str, Sequence[ModelCard]]) -> Figure | None:
    """Error by steps (above) and by minutes (below), a line a method; None without milestones."""
    found = {name: milestones for name, cards in cards_of.items() if (milestones := milestones_of(cards))}
    if not found:
        return None
    figure = Figure(figsize=(10, 7), layout="constrained")
    for line, along in zip(figure.subplots(2, len(SHOWN)), ("steps", "minutes"), strict=True):
        for axes, (measure, title) in zip(line, SHOWN.items(), strict=True):
            for name, milestones in found.items():
                places = [step if along == "steps" else row["minutes"] for step, row in milestones.items()]
                values = [row.get(measure, np.nan) for row in milestones.values()]
                axes.plot(places, values, "o-", markersize=3, label=name)
            axes.set(xlabel=f"{along} of training", ylabel=title)
    axes.legend(fontsize=7)
    return figure
