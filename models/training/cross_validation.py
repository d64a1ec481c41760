"""Cross-validation: every patient is kept back once, and every method may have the same time.

The patients of a recipe are dealt into folds by its seed, so recipes of one seed and one folder have the same folds.
A training of a fold lies below that of its recipe, and one with a budget below its budget:

    RUN/60-minutes/fold-2-of-5/model/      the model that has not seen the patients of fold 2
    RUN/60-minutes/folds-of-5.yaml         patient -> model, for `sct-node evaluate`; written when all folds are there
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from models.data.patients import cohort_of
from models.data.recipe import BadRecipe, Recipe
from models.inference.card import ModelCard, read_card


@dataclass(frozen=True)
class Fold:
    """One of several folds, counted from 1."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not (self.of >= 2 and 1 <= self.number <= self.of):
            raise BadRecipe(f"--fold: must be K/N with K from 1 to N and N at least 2, found {self.number}/{self.of}")

    @property
    def name(self) -> str:
        """Return the name of the fold in folders and models."""
        return f"fold-{self.number}-of-{self.of}"


def read_fold(text: str) -> Fold:
    """`2/5` -> the second of five folds.

    Raises:
        BadRecipe: the text has another form, or there is no such fold.
    """
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal()):
        raise BadRecipe(f"--fold: must be K/N such as 2/5, found {text!r}")
    return Fold(int(number), int(of))


def deal(names: Sequence[str], of: int, seed: int) -> list[list[str]]:
    """Names by fold, in the order of their names; the folds' sizes differ by 1 at the most."""
    order = np.random.default_rng(seed).permutation(len(names))
    return [sorted(names[number] for number in order[first::of]) for first in range(of)]


def within(recipe: Recipe, fold: Fold) -> Recipe:
    """The recipe of one fold: its patients are kept back, run and model carry its name.

    Its model is never installed, so it gets no uncertainty estimator and no limits; `sct-node evaluate` measures it.

    Raises:
        BadRecipe: there are fewer patients than folds.
        BadPair: a patient lacks a file.
    """
    names = [patient.name for patient in cohort_of(recipe)]
    if len(names) < fold.of:
        raise BadRecipe(f"--fold: {fold.of} folds need as many patients, {recipe.pairs} has {len(names)}")
    kept = tuple(deal(names, fold.of, recipe.seed)[fold.number - 1])
    left_out = f"{recipe.card['training_data']} Of these, and of those kept for validation, all but {', '.join(kept)}."
    card = {**recipe.card, "name": f"{recipe.card['name']}-{fold.name}", "training_data": left_out}
    return dataclasses.replace(
        recipe, validation=kept, run=recipe.run / fold.name, card=card, evaluate=(), uncertainty=None
    )


def budgeted(recipe: Recipe, minutes: float) -> Recipe:
    """The recipe with so many minutes for all stages together, dealt by their shares; a stage of no steps gets none.

    Raises:
        BadRecipe: there is no time, or no share, to be dealt.
    """
    shares = {name: stage.share for name, stage in recipe.stages.items() if stage.steps}
    if minutes <= 0 or min(shares.values(), default=0.0) <= 0:
        raise BadRecipe("--minutes: minutes and the share of every stage that has steps must be above 0")
    stages = {
        name: dataclasses.replace(stage, minutes=minutes * shares[name] / sum(shares.values()), timed=True)
        if name in shares
        else stage
        for name, stage in recipe.stages.items()
    }
    return dataclasses.replace(recipe, stages=stages, run=recipe.run / f"{minutes:g}-minutes")


def card_of_run(recipe: Recipe) -> ModelCard | None:
    """The card of a training that is over; none before that."""
    path = recipe.run / "model" / f"{recipe.card['name']}.json"
    return read_card(path) if path.is_file() else None


def write_folds(recipe: Recipe, of: int) -> Path | None:
    """Write which model each patient has; nothing, and None, while a fold lacks.

    Args:
        recipe: of all folds, so not `within` one.
        of: how many there are.
    """
    folds = [Fold(number, of) for number in range(1, of + 1)]
    cards = [card_of_run(within(recipe, fold)) for fold in folds]
    model_of: dict[str, str] = {}
    for fold, card in zip(folds, cards, strict=True):
        if card is None:
            return None
        model_of |= dict.fromkeys(card.figures["patients"], f"{fold.name}/model")
    path = recipe.run / f"folds-of-{of}.yaml"
    path.write_text(yaml.safe_dump(dict(sorted(model_of.items()))), encoding="utf-8")
    return path
