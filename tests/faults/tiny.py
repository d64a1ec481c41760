"""What costs little: a model of the true class that nobody trained, and small MR series of the phantom."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch

from models.inference.card import ModelCard
from models.inference.weights import save_model
from models.networks.latent_diffusion import LatentDiffusion
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import axial_grid, thigh

ARCHITECTURE: Final[dict[str, Any]] = {
    "autoencoder": {"channels": (8, 8), "latent": 4, "strides": ((1, 2, 2),), "groups": 4},
    "mr_features": 4,
    "mr_channels": (8, 8),
    "denoiser_channels": (8, 8),
    "groups": 4,
}
WIDTH_MM: Final = 192.0


def write_model(folder: Path) -> Path:
    """A folder with card and weights of the model."""
    torch.manual_seed(0)
    card = ModelCard(
        name="tiny",
        version="0.0.1",
        digest="0" * 64,
        architecture=ARCHITECTURE,
        modality="MR",
        anatomy=("THIGH",),
        contrast="T1",
        spacing_mm=(6.0, 3.0, 3.0),
        hu_range=(-1024.0, 3071.0),
        training_data="none",
        limits="no meaning at all: for tests",
    )
    save_model(LatentDiffusion(**ARCHITECTURE), card, folder)
    return folder


def write_series(folder: Path, seed: int, slices: int = 6, edge: int = 32) -> list[Path]:
    """The files of an MR series, `slices` axial images of `edge` x `edge` pixels; another seed is another series."""
    spacing_mm = WIDTH_MM / edge
    grid = axial_grid((slices, edge, edge), (6.0, spacing_mm, spacing_mm))
    return write_mr_series(thigh(grid, seed=seed).mr, folder, seed=seed)
