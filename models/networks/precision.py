"""Where bfloat16 cannot be trusted.

On a CPU (torch 2.13, oneDNN, avx512_bf16) the weights' gradient of a 3D convolution in bfloat16 is what happened to lie
in memory, when its input has fewer slices than its kernel but more than one: 2 under a kernel of 3, whatever the
channels, the batch and the memory format. Forward, the input's gradient and float32 are right; so are rows and columns.
Measured against float32 on 112 sizes of 1 to 12 voxels a side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from models.data.recipe import BadRecipe


def watch(networks: nn.Module) -> None:
    """Have every 3D convolution refuse inputs for which its gradient would be wrong."""
    for layer in networks.modules():
        if isinstance(layer, nn.Conv3d):
            layer.register_forward_pre_hook(_refuse_thin_input)


def _refuse_thin_input(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    assert isinstance(layer, nn.Conv3d)
    x: torch.Tensor = inputs[0]
    in_bfloat16 = x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
    if in_bfloat16 and 1 < x.shape[2] < layer.kernel_size[0]:
        raise BadRecipe(
            f"precision: a convolution of {layer.kernel_size[0]} slices sees {x.shape[2]}: its gradient in bfloat16 is "
            "wrong on a CPU; take thicker patches, or float32"
        )
