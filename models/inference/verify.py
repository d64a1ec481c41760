"""Check that an installed model is the one of its card, and that it computes the same HU on this machine.

Gates of arithmetic: how far the HU may move when the precision changes, or when an image is seen in parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.inference.card import BadCard, ModelCard
from models.inference.weights import Model, WrongDigest, load_model

SHAPE: Final = (16, 64, 64)
"""Of the test object, a limb with a bone, in voxels of whatever spacing the model has."""
PARTS: Final = 8
"""Slabs of rows whose mean HU are compared."""
APART_HU: Final = 2.0
"""How far these may lie from those of another machine: MODEL's gate of bfloat16 against float32."""


def limb() -> NDArray[np.float32]:
    """The MR of the test object, axes (slice, row, column): fat about muscle about a bone with marrow, and noise."""
    _, row, column = np.indices(SHAPE) - np.array([(extent - 1) / 2 for extent in SHAPE])[:, None, None, None]
    distance = np.hypot(row, column)
    bone = np.hypot(row - 4, column + 5)
    signal = np.select([bone < 5, bone < 8, distance < 21, distance < 27], [900.0, 60.0, 350.0, 1000.0], 0.0)
    noise = np.random.default_rng(1).normal(0, 15, SHAPE)
    return np.abs(signal + noise).astype(np.float32)


def reference_of(model: Model) -> list[float]:
    """Mean HU of the slabs of the test object's synthetic CT, within its outline; for the card."""
    prediction = model.predict(limb(), 0)
    slabs = zip(
        np.array_split(prediction.hu, PARTS, axis=1), np.array_split(prediction.body, PARTS, axis=1), strict=True
    )
    return [round(float(hu[body].mean()), 3) for hu, body in slabs if body.any()]


def problems_of(card: ModelCard, source: str = "", device: str = "cpu") -> list[str]:
    """Return what is wrong with an installed model, one sentence for each fault; a sound model has none.

    Args:
        card: of the model.
        source: its folder; where empty, it is an installed one.
        device: where it is tried.
    """
    try:
        model = load_model(source or card.name, device)
    except (WrongDigest, BadCard) as error:
        return [str(error)]
    if not all(bool(weights.isfinite().all()) for weights in model.networks.state_dict().values()):
        return [f"weights of model {card.name} hold numbers that are not finite"]
    found, expected = reference_of(model), card.figures.get("reference")
    if not np.isfinite(found).all():
        return [f"model {card.name} makes HU that are not finite"]
    if expected is None:
        return [f"card of model {card.name} holds no reference: nobody can tell whether it computes here as it should"]
    apart = float(np.abs(np.array(found) - expected).max()) if len(found) == len(expected) else float("inf")
    if apart > APART_HU:
        return [f"model {card.name} computes HU here that lie {apart:.1f} HU from its card's (at most {APART_HU:g})"]
    return []


MEAN_HU: Final = 2.0
"""Largest mean of the differences in the body."""
TAIL_HU: Final = 20.0
"""Largest 99.9th percentile of them."""
TAIL_PERCENT: Final = 99.9


@dataclass(frozen=True)
class Deviation:
    """difference|.|Deviation of two computations of one synthetic CT in HU: mean and 99.9th percentile of
    |difference|.|difference|."""

    mean: float
    tail: float

    @property
    def passes(self) -> bool:
        """Return whether both values are within their limits."""
        return self.mean <= MEAN_HU and self.tail <= TAIL_HU


def deviation(first: NDArray[np.float32], second: NDArray[np.float32]) -> Deviation:
    """Compare the voxels of two arrays of one shape."""
    difference = np.abs(first - second)
    return Deviation(float(difference.mean()), float(np.percentile(difference, TAIL_PERCENT)))


def bfloat16_deviation(model: Model) -> Deviation:
    """Prediction under bfloat16 autocast against float32, in the body of `verify`'s limb."""
    mr = limb()
    exact = model.predict(mr, 0)
    with torch.autocast(model.device.type, torch.bfloat16):
        rough = model.predict(mr, 0)
    return deviation(rough.hu[exact.body], exact.hu[exact.body])
