"""Validation on unseen patients: whole volumes, the product's own prediction, SynthRAD's measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.body import full_signal, outline
from models.data.intensity import to_hu, to_unit
from models.data.pairs import Pair
from models.inference import baselines
from models.inference.weights import Model, Prediction
from models.measures.mr_quality import quantiles
from models.measures.plausibility import CaseImages
from models.measures.similarity import score
from models.networks.latent_diffusion import LatentDiffusion, pad_to_multiple

Scores = dict[str, float]
Translate = Callable[[Pair], NDArray[np.float32]]
"""A patient -> HU on the patient's grid."""


def scores_of(patients: Sequence[Pair], translate: Translate) -> dict[str, Scores]:
    """Scores by patient name, in the common body."""
    return {pair.name: score(translate(pair), pair.hu.astype(np.float32), pair.body) for pair in patients}


def mean_of(scores: Mapping[str, Scores]) -> Scores:
    """Mean of each score over the patients that have it; a tissue that no patient has is left out."""
    names = next(iter(scores.values())).keys()
    values = {name: [one[name] for one in scores.values() if not np.isnan(one[name])] for name in names}
    return {name: round(float(np.mean(some)), 4) for name, some in values.items() if some}


def reconstruction_by(networks: LatentDiffusion) -> Translate:
    """The autoencoder's ceiling: a patient -> D(E(CT))."""

    @torch.inference_mode()
    def reconstruct(pair: Pair) -> NDArray[np.float32]:
        image = to_unit(torch.from_numpy(pair.hu.astype(np.float32)))[None, None].to(networks.device())
        ct = pad_to_multiple(image, networks.stride)
        s, r, c = pair.hu.shape
        hu: NDArray[np.float32] = to_hu(networks.decode(networks.encode(ct)))[0, 0, :s, :r, :c].cpu().numpy()
        return hu

    return reconstruct


def figures_of(
    model: Model,
    ceilings: Mapping[str, Translate],
    training: Sequence[Pair],
    validation: Sequence[Pair],
    settings: Sequence[tuple[int, int]],
) -> dict[str, Any]:
    """Validation figures for the card: floors, ceilings, the model by sampler steps and samples.

    Args:
        model: as it is installed, weights in float16.
        ceilings: what no prediction of the method can surpass, by name; it may see the true CT.
        training: patients from which the look-up table is learned.
        validation: patients that are scored.
        settings: pairs (steps, samples).
    """
    table = baselines.learn_look_up_table([(pair.mr, pair.hu, pair.body) for pair in training])
    figures: dict[str, Any] = {
        "patients": [pair.name for pair in validation],
        "all_water": mean_of(scores_of(validation, lambda pair: baselines.all_water(pair.body))),
        "look_up_table": mean_of(scores_of(validation, lambda pair: table(pair.mr))),
        **{name: mean_of(scores_of(validation, translate)) for name, translate in ceilings.items()},
    }
    for steps, samples in settings:
        scores = scores_of(validation, partial(predicted, model, steps, samples))
        figures[f"steps_{steps}_samples_{samples}"] = mean_of(scores)
        if (steps, samples) == (model.card.sampling["steps"], model.card.sampling["samples"]):
            figures["by_patient"] = {name: mean_of({name: one}) for name, one in scores.items()}
    return figures


def made_of(model: Model, pair: Pair, steps: int | None = None, samples: int | None = None) -> Prediction:
    """Predict a patient as the product does, with seed 0; steps and samples are the card's where None."""
    return model.predict(pair.mr.astype(np.float32), 0, steps, samples)


def predicted(model: Model, steps: int | None, samples: int | None, pair: Pair) -> NDArray[np.float32]:
    """Return the HU of `made_of`."""
    return made_of(model, pair, steps, samples).hu


def images_of(pair: Pair, made: Prediction, mr_quantiles: tuple[float, ...] = ()) -> CaseImages:
    """A patient and what the product made of the MR, for its findings."""
    mr = pair.mr.astype(np.float32)
    return CaseImages(mr, made.hu, made.body, pair.spacing_mm, made.sd, made.novelty, mr_quantiles)


def mr_quantiles_of(patients: Sequence[Pair]) -> tuple[float, ...]:
    """Return the distribution of MR values: the median over the patients of each quantile."""
    found = []
    for pair in patients:
        mr = pair.mr.astype(np.float32)
        body = outline(mr)
        found.append(quantiles(mr / np.float32(full_signal(mr, body)), body))
    return tuple(np.round(np.median(found, axis=0), 4).tolist())
