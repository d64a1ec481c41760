"""Weights as safetensors in float16, bound to their card by a digest; and the model that they make."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from scipy import ndimage
from torch import nn

from models.data.body import Mask, outline
from models.data.intensity import AIR_HU, homogenised, normalise_mr
from models.inference.card import BadCard, ModelCard, card_path, read_card, write_card
from models.inference.uncertainty import UncertaintyEstimator
from models.networks.registry import build
from models.networks.translator import Translator

SKIN: Final = 1
"""Voxels by which the MR's outline is widened before air begins: skin gives little signal."""
MIRRORS: Final = ((), (2,), (1,), (1, 2))
"""Axes along which each sample sees the MR mirrored, in turn: the networks learned mirrored patients too."""
CROP_MARGIN: Final = 8
"""Voxels of air that the networks see around the body."""


class WrongDigest(ValueError):
    """The weights are not those that the card describes; they are not used."""

    def __init__(self, name: str, expected: str, found: str) -> None:
        super().__init__(
            f"weights of model {name} have SHA-256 {found}, its card says {expected}: reinstall the model and its card"
        )
        self.name, self.expected, self.found = name, expected, found


@dataclass(frozen=True)
class Prediction:
    """A synthetic CT on the grid of its MR, axes (slice, row, column).

    Attributes:
        hu: HU, float32; exactly AIR_HU outside the body.
        body: the MR's outline.
        sd: SD of the error to be expected, in HU, 0 outside the body; of several samples, where the model has no
            `UncertaintyEstimator`; None for one sample of such a model, or without a body.
        novelty: how strange the MR is to the model, about 1 for one as in its training; None where it cannot say.
        mr: normalised, as the networks saw it in a box about the body; 0 beyond.
    """

    hu: NDArray[np.float32]
    body: Mask
    mr: NDArray[np.float32]
    sd: NDArray[np.float32] | None = None
    novelty: float | None = None


@dataclass(frozen=True)
class Model:
    """Networks with their card, on a device."""

    card: ModelCard
    networks: Translator
    device: torch.device
    uncertainty: UncertaintyEstimator | None = None

    @property
    def device_name(self) -> str:
        """The device for a person; of a GPU also what it is."""
        return f"{self.device} {torch.cuda.get_device_name(self.device)}" if self.device.type == "cuda" else "cpu"

    def predict(
        self, mr: NDArray[np.float32], seed: int, steps: int | None = None, samples: int | None = None
    ) -> Prediction:
        """Synthetic CT of a whole field of view.

        Args:
            mr: MR in the scanner's unit at the card's spacing, axes (slice, row, column) along +S, +P, +L.
            seed: of the first sample.
            steps: sampler steps; the card's where None.
            samples: samples averaged, see `average`; the card's where None.
        """
        body = outline(mr)
        hu, seen = np.full(mr.shape, AIR_HU, dtype=np.float32), np.zeros(mr.shape, dtype=np.float32)
        if not body.any():
            return Prediction(hu, body, seen)
        box = bounding_box(body, CROP_MARGIN)
        even = mr.astype(np.float32)
        if self.card.homogenise_mm:
            even = homogenised(even, body, self.card.spacing_mm, self.card.homogenise_mm)
        seen[box] = normalise_mr(even, body)[box]
        drawn = samples or self.card.sampling["samples"]
        inside = torch.from_numpy(seen[box])
        mean, spread = average(self.networks, inside, seed, steps or self.card.sampling["steps"], drawn)
        kept = ndimage.binary_dilation(body[box], iterations=SKIN)
        hu[box] = np.where(kept, np.clip(mean.numpy(), *self.card.hu_range), AIR_HU)
        made = Prediction(hu, body, seen, None if drawn == 1 else spread_over(body, box, spread))
        return self.judged(made)

    def judged(self, made: Prediction) -> Prediction:
        """A prediction with the SD and the novelty that the model's estimator finds; unchanged without an estimator or
        a body."""
        if self.uncertainty is None or not made.body.any():
            return made
        box = bounding_box(made.body, CROP_MARGIN)
        mr, hu, body = (torch.from_numpy(image[box]) for image in (made.mr, made.hu, made.body))
        sd, novelty = self.uncertainty.judge(mr, hu, body)
        return dataclasses.replace(made, sd=spread_over(made.body, box, sd), novelty=novelty)


def spread_over(body: Mask, box: tuple[slice, slice, slice], sd: torch.Tensor) -> NDArray[np.float32]:
    """The SD of a box, (S, R, C), on the whole grid; 0 where air was put."""
    whole = np.zeros(body.shape, dtype=np.float32)
    whole[box] = np.where(ndimage.binary_dilation(body[box], iterations=SKIN), sd.cpu().numpy(), 0.0)
    return whole


def average(
    networks: Translator, mr: torch.Tensor, seed: int, steps: int, samples: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and SD over samples in HU, each (S, R, C) float32; the SD divides by samples - 1, and is 0 for one sample.

    Each sample has the next seed, and sees the MR as the next of `MIRRORS` has it.
    """
    mean = squares = torch.zeros(1)
    for number in range(samples):
        axes = MIRRORS[number % len(MIRRORS)]
        hu = networks.synthesize(mr.flip(axes), seed + number, steps).flip(axes).cpu()
        before = hu - mean
        mean = mean + before / (number + 1)  # Welford: no difference of large squares
        squares = squares + before * (hu - mean)
    return mean, (squares / max(samples - 1, 1)).sqrt()


def bounding_box(mask: Mask, margin: int) -> tuple[slice, slice, slice]:
    """The smallest box around a mask that is not empty, wider by a margin in voxels, within the image."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    first, second, third = (
        slice(max(side.start - margin, 0), min(side.stop + margin, extent))
        for side, extent in zip(box, mask.shape, strict=True)
    )
    return (first, second, third)


def pick_device(name: str) -> torch.device:
    """`auto` takes the first GPU, or the CPU where there is none."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def load_model(name: str, device: str = "auto") -> Model:
    """Load an installed model, or the one of a folder, and check its weights against its card.

    Raises:
        UnknownModel: there is none of that name.
        BadCard: its card cannot be read, or does not fit its weights.
        WrongDigest: the weights are not those of the card.
    """
    path = card_path(name)
    card = read_card(path)
    content = path.with_suffix(".safetensors").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != card.digest:
        raise WrongDigest(card.name, card.digest, found)
    networks = build(card.method, card.architecture)
    estimator = None if card.uncertainty is None else UncertaintyEstimator(**card.uncertainty)
    fill(named_weights(networks, estimator), load(content), card.name)
    where = pick_device(device)
    for network in (networks, estimator):
        if network is not None:
            network.eval().requires_grad_(False).to(where)
    return Model(card, networks, where, estimator)


def weights_of(networks: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers of floating point by name, each once, even where two modules share one."""
    named = [*networks.named_parameters(), *networks.named_buffers()]
    return {name: value for name, value in named if value.is_floating_point()}


def named_weights(networks: nn.Module, estimator: nn.Module | None) -> dict[str, torch.Tensor]:
    """Return all entries of a weights file: the networks' weights, and the estimator's under `doubt.` (as since
    0.2.0)."""
    named = {} if estimator is None else {f"doubt.{name}": value for name, value in weights_of(estimator).items()}
    return weights_of(networks) | named


@torch.no_grad()
def fill(mine: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], name: str) -> None:
    """Copy weights into those of a card's networks.

    Raises:
        BadCard: they are not the weights of these networks, by name or by shape.
    """
    wrong = set(mine) ^ set(weights) or {key for key, value in mine.items() if value.shape != weights[key].shape}
    if wrong:
        raise BadCard(f"model card {name}: its architecture does not fit its weights at {', '.join(sorted(wrong)[:3])}")
    for key, value in mine.items():
        value.copy_(weights[key])


def save_model(networks: nn.Module, card: ModelCard, folder: Path, estimator: nn.Module | None = None) -> ModelCard:
    """Write `<name>.safetensors` in float16 and `<name>.json`; returns the card with the digest of what was written."""
    state = {key: value.detach().cpu().half().contiguous() for key, value in named_weights(networks, estimator).items()}
    content = save(state)
    described = dataclasses.replace(card, digest=hashlib.sha256(content).hexdigest())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{card.name}.safetensors").write_bytes(content)
    write_card(described, folder / f"{card.name}.json")
    return described
