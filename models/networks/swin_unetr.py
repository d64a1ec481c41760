"""SwinUNETR as a regression: MONAI's network (Hatamizadeh et al. 2022), narrow enough for two cores; masked L1.

In bfloat16 it is slower on a CPU than in float32 (MODEL.md: 7.0 against 2.3 s), so that its recipe says float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from monai.networks.nets.swin_unetr import SwinUNETR

from models.networks.regression import InFloat32, Regression

MULTIPLE: Final = 32
"""Five halvings of all axes."""


class SwinUnetr(Regression):
    """MONAI's SwinUNETR.

    Args:
        features: channels at full resolution, a multiple of 12; they double five times.
        depths: transformer blocks by level.
        heads: attention heads by level.
        window: voxels of an attention window along each axis.
        tile: size of the training patches; multiples of 32.

    Raises:
        ValueError: the tile is no multiple of 32.
    """

    def __init__(
        self,
        features: int,
        depths: Sequence[int],
        heads: Sequence[int],
        tile: Sequence[int],
        window: int = 7,
    ) -> None:
        if any(length % MULTIPLE for length in tile):
            raise ValueError(f"SwinUNETR halves five times: its tile must be multiples of {MULTIPLE}, not {tile}")
        network = SwinUNETR(
            in_channels=1,
            out_channels=1,
            feature_size=features,
            depths=depths,
            num_heads=heads,
            window_size=window,
            spatial_dims=3,
        )
        network.add_module("out", InFloat32(network.out))
        first, second, third = tile
        super().__init__(network, (first, second, third))
