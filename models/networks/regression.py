"""A network that says the CT at once: what nnU-Net, SwinUNETR and the generators of the GANs have in common."""

from __future__ import annotations

import torch
from torch import nn

from models.data.intensity import to_hu
from models.networks.autoencoder import Stride
from models.networks.batches import Lesson
from models.networks.tiles import translate_in_tiles
from models.networks.translator import Losses, Translator, Turn


class InFloat32(nn.Module):
    """A layer that computes in float32 whatever autocast says: bfloat16 has steps of 8 HU near 1500 HU."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to x in float32."""
        with torch.autocast(x.device.type, enabled=False):
            y: torch.Tensor = self.layer(x.float())
        return y


class Regression(Translator):
    """One network, MR (N, 1, S, R, C) -> CT in the networks' unit, shown tiles of a fixed size.

    Args:
        network: that maps a normalised MR to a CT of the same shape.
        tile: size of a tile, which is that of the training patches.
    """

    def __init__(self, network: nn.Module, tile: Stride) -> None:
        super().__init__()
        self.network = network
        self.tile = tile

    def forward(self, mr: torch.Tensor) -> torch.Tensor:
        """CT in the networks' unit, float32, of a normalised MR (N, 1, S, R, C)."""
        ct: torch.Tensor = self.network(mr)
        return ct.float()

    @torch.inference_mode()
    def synthesize(self, mr: torch.Tensor, seed: int, steps: int = 1) -> torch.Tensor:
        """Synthetic CT in tiles; nothing is drawn, so seed and steps have no meaning."""
        del seed, steps
        return to_hu(translate_in_tiles(self, mr[None, None].to(self.device()), self.tile))[0, 0]

    def turns(self, lesson: Lesson) -> list[Turn]:
        """One turn: masked L1 of the network's CT."""

        def losses(step: int, over: float) -> Losses:
            patch = lesson.batch(step)
            with lesson.autocast():
                ct = self(patch.mr)
            return {"l1": lesson.l1(ct, patch, over), **lesson.perceptual(ct, patch.ct)}

        return [Turn("network", [self.network], losses)]
